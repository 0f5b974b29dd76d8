"""The driver: the loop every worker thread enters once and leaves at shutdown, generated as LLVM text.

`isochrone_step(shared)` runs one step on the calling thread as worker 0 and tells the cycles it took;
`isochrone_worker(shared, me, first)` serves steps from number `first` until `isochrone_shutdown(shared)`, or until there
are no longer so many WORKERS.  Both walk the same table of regions: take chunks of work items by an atomic
cursor, call the kernel, cross the barrier.  A wait spins for a bounded time, then parks on a futex.

The table is a list of records (Field); shared memory holds what the workers agree on (Shared).  Regions before
PANEL_BEGIN run once a step; the rest run once for each panel of logit rows.
"""

from __future__ import annotations

from enum import IntEnum

from .table import ROWS_PANEL, Word


class Field(IntEnum):
    """64-bit words of a region record."""

    KERNEL_ONE = 0  # used when the extent is 1
    KERNEL_MANY = 1
    ARGS_ONE = 2
    ARGS_MANY = 3
    EXTENT = 4  # word of the step's table that counts rows
    ITEM_ROWS_ONE = 5  # rows of one work item
    ITEM_ROWS_MANY = 6
    MULTIPLIER = 7  # work items per group of rows (column tiles)
    BARRIER = 8  # 1: everybody waits after this region
    CLOCK = 9  # cycles spent, added up by worker 0
    ITEMS = 10  # items of the last run
    CURSOR = 16  # on a cache line of its own
    NUM_WORDS = 24


class Shared(IntEnum):
    """64-bit words of the memory the workers share; each busy word has its own cache line."""

    GENERATION = 0
    ARRIVED = 8
    SLEEPERS = 16
    WORKERS = 24
    REGIONS = 25
    PANEL_BEGIN = 26
    REGIONS_END = 27
    CONTEXT = 28
    SHUTDOWN = 29
    SPINS = 30  # looks at a barrier before a worker parks
    CHUNKS = 31  # chunks per worker into which a region is cut
    WAITED = 32  # cycles that workers waited in barriers for longer than PATIENCE_CYCLES, added up
    STEP_SPINS = 33  # the same as SPINS, while a worker waits for the next step
    ROUNDS = 40  # barriers each worker has crossed: one word a worker, 8 apart
    NUM_WORDS = 40 + 8 * 256


WORKERS_MAX = 256
PATIENCE_CYCLES = 100_000
"""A shorter wait in a barrier is the usual unevenness: 30 to 50 microseconds on the clocks of these days."""


def _address(name: str, base: str, word: int) -> str:
    return f"  %{name} = getelementptr i64, ptr {base}, i64 {word}"


_FUTEX = """
define internal void @futex_wait(ptr %address, i32 %seen) #0 {
  %r = call i64 asm sideeffect "syscall", "={rax},{rax},{rdi},{rsi},{rdx},{r10},{r8},{r9},~{rcx},~{r11},~{memory}"(i64 202, ptr %address, i64 128, i32 %seen, i64 0, i64 0, i64 0)
  ret void
}

define internal void @futex_wake(ptr %address) #0 {
  %r = call i64 asm sideeffect "syscall", "={rax},{rax},{rdi},{rsi},{rdx},{r10},{r8},{r9},~{rcx},~{r11},~{memory}"(i64 202, ptr %address, i64 129, i64 2147483647, i64 0, i64 0, i64 0)
  ret void
}
"""

# Wait until the word is at least `goal`.  A sleeper announces itself before it looks for the last time, and a waker
# changes the word before it looks for sleepers, both sequentially consistent: no wake-up is lost.
_WAIT = """
define internal void @wait_until(ptr %shared, ptr %word, i64 %goal, i64 %limit) #0 {{
entry:
{sleepers_at}
  br label %spin
spin:
  %i = phi i64 [ 0, %entry ], [ %next, %again ]
  %now = load atomic i64, ptr %word acquire, align 64
  %reached = icmp sge i64 %now, %goal
  br i1 %reached, label %done, label %again
again:
  call void @llvm.x86.sse2.pause()
  %next = add i64 %i, 1
  %tired = icmp sge i64 %next, %limit
  br i1 %tired, label %park, label %spin
park:
  %before = atomicrmw add ptr %sleepers_at, i64 1 seq_cst
  br label %look
look:
  %seen = load atomic i64, ptr %word seq_cst, align 64
  %ready = icmp sge i64 %seen, %goal
  br i1 %ready, label %leave, label %sleep
sleep:
  %low = trunc i64 %seen to i32
  call void @futex_wait(ptr %word, i32 %low)
  br label %look
leave:
  %after = atomicrmw sub ptr %sleepers_at, i64 1 seq_cst
  br label %done
done:
  ret void
}}

define internal void @advance(ptr %shared, ptr %word, i64 %wake_at) #0 {{
entry:
  %old = atomicrmw add ptr %word, i64 1 seq_cst
  %new = add i64 %old, 1
  %last = icmp eq i64 %new, %wake_at
  br i1 %last, label %check, label %done
check:
{sleepers_at}
  %sleepers = load atomic i64, ptr %sleepers_at seq_cst, align 64
  %any = icmp sgt i64 %sleepers, 0
  br i1 %any, label %wake, label %done
wake:
  call void @futex_wake(ptr %word)
  br label %done
done:
  ret void
}}

define internal void @barrier(ptr %shared, i64 %me) #0 {{
entry:
  %slot = mul i64 %me, 8
  %index = add i64 %slot, {rounds}
  %round_at = getelementptr i64, ptr %shared, i64 %index
  %round = load i64, ptr %round_at
  %next = add i64 %round, 1
  store i64 %next, ptr %round_at
{workers_at}
  %workers = load i64, ptr %workers_at
  %goal = mul i64 %next, %workers
{arrived_at}
  %start = call i64 @llvm.readcyclecounter()
  call void @advance(ptr %shared, ptr %arrived_at, i64 %goal)
{spins_at}
  %limit = load i64, ptr %spins_at
  call void @wait_until(ptr %shared, ptr %arrived_at, i64 %goal, i64 %limit)
  %stop = call i64 @llvm.readcyclecounter()
  %spent = sub i64 %stop, %start
  %long = icmp ugt i64 %spent, {patience}
  br i1 %long, label %count, label %done
count:
{waited_at}
  %before = atomicrmw add ptr %waited_at, i64 %spent monotonic
  br label %done
done:
  ret void
}}
"""

_REGION = """
define internal void @run_region(ptr %shared, ptr %context, ptr %region, i64 %me) #0 {{
entry:
{extent_at}
  %extent_word = load i64, ptr %extent_at
  %rows_at = getelementptr i64, ptr %context, i64 %extent_word
  %rows = load i64, ptr %rows_at
  %one = icmp eq i64 %rows, 1
  %variant = select i1 %one, i64 0, i64 1
  %kernel_at = getelementptr i64, ptr %region, i64 %variant
  %kernel = load ptr, ptr %kernel_at
  %args_word = add i64 %variant, {args}
  %args_at = getelementptr i64, ptr %region, i64 %args_word
  %args = load ptr, ptr %args_at
  %item_rows_word = add i64 %variant, {item_rows}
  %item_rows_at = getelementptr i64, ptr %region, i64 %item_rows_word
  %item_rows = load i64, ptr %item_rows_at
{multiplier_at}
  %multiplier = load i64, ptr %multiplier_at
  %padded = add i64 %rows, %item_rows
  %above = sub i64 %padded, 1
  %groups = udiv i64 %above, %item_rows
  %items = mul i64 %groups, %multiplier
{workers_at}
  %workers = load i64, ptr %workers_at
{chunks_at}
  %chunks = load i64, ptr %chunks_at
  %shares = mul i64 %workers, %chunks
  %whole = udiv i64 %items, %shares
  %small = icmp eq i64 %whole, 0
  %chunk = select i1 %small, i64 1, i64 %whole
{cursor_at}
  br label %take
take:
  %begin = atomicrmw add ptr %cursor_at, i64 %chunk acq_rel
  %more = icmp slt i64 %begin, %items
  br i1 %more, label %work, label %done
work:
  %stop = add i64 %begin, %chunk
  %over = icmp sgt i64 %stop, %items
  %end = select i1 %over, i64 %items, i64 %stop
  call void %kernel(ptr %context, ptr %args, i64 %begin, i64 %end, i64 %me)
  br label %take
done:
  ret void
}}
"""

_SEGMENT = """
define internal void @run_segment(ptr %shared, i64 %me, i64 %first, i64 %last) #0 {{
entry:
{context_at}
  %context = load ptr, ptr %context_at
{regions_at}
  %regions = load ptr, ptr %regions_at
  %boss = icmp eq i64 %me, 0
  br label %head
head:
  %i = phi i64 [ %first, %entry ], [ %next, %tail ]
  %opened = phi i64 [ %first, %entry ], [ %still, %tail ]
  %more = icmp slt i64 %i, %last
  br i1 %more, label %body, label %exit
body:
  %offset = mul i64 %i, {record_bytes}
  %region = getelementptr i8, ptr %regions, i64 %offset
  %start = call i64 @llvm.readcyclecounter()
  call void @run_region(ptr %shared, ptr %context, ptr %region, i64 %me)
{barrier_at}
  %wanted = load i64, ptr %barrier_at
  %cross = icmp ne i64 %wanted, 0
  br i1 %cross, label %wait, label %stamp
wait:
  call void @barrier(ptr %shared, i64 %me)
  br i1 %boss, label %reset, label %stamp
reset:
  %j = phi i64 [ %opened, %wait ], [ %j_next, %reset ]
  %j_offset = mul i64 %j, {record_bytes}
  %closed = getelementptr i8, ptr %regions, i64 %j_offset
  %cursor_at = getelementptr i64, ptr %closed, i64 {cursor}
  store atomic i64 0, ptr %cursor_at release, align 64
  %j_next = add i64 %j, 1
  %j_more = icmp sle i64 %j_next, %i
  br i1 %j_more, label %reset, label %stamp
stamp:
  %next = add i64 %i, 1
  %still = select i1 %cross, i64 %next, i64 %opened
  br i1 %boss, label %clock, label %tail
clock:
  %stop = call i64 @llvm.readcyclecounter()
  %spent = sub i64 %stop, %start
{clock_at}
  %old = load i64, ptr %clock_at
  %sum = add i64 %old, %spent
  store i64 %sum, ptr %clock_at
  br label %tail
tail:
  br label %head
exit:
  ret void
}}
"""

# The count of logit rows is read before the first region: after the last barrier, worker 0 may be back in Python
# already and write the next step, while another worker has yet to see that this one has no panel.
_RUN = """
define internal void @run(ptr %shared, i64 %me) #0 {{
entry:
{context_at}
  %context = load ptr, ptr %context_at
{panel_at}
  %panel_begin = load i64, ptr %panel_at
{end_at}
  %end = load i64, ptr %end_at
{total_at}
  %total = load i64, ptr %total_at
  call void @run_segment(ptr %shared, i64 %me, i64 0, i64 %panel_begin)
  %boss = icmp eq i64 %me, 0
  br label %head
head:
  %done = phi i64 [ 0, %entry ], [ %sum, %ready ]
  %more = icmp slt i64 %done, %total
  br i1 %more, label %body, label %exit
body:
  call void @run_segment(ptr %shared, i64 %me, i64 %panel_begin, i64 %end)
  %sum = add i64 %done, {panel_rows}
  %again = icmp slt i64 %sum, %total
  br i1 %again, label %prepare, label %ready
prepare:
  br i1 %boss, label %advance_panel, label %meet
advance_panel:
  %left = sub i64 %total, %sum
  %short = icmp slt i64 %left, {panel_rows}
  %rows = select i1 %short, i64 %left, i64 {panel_rows}
{rows_at}
  store i64 %rows, ptr %rows_at
{first_at}
  store i64 %sum, ptr %first_at
{logit_rows_at}
  %logit_rows = load ptr, ptr %logit_rows_at
  %here = getelementptr i32, ptr %logit_rows, i64 %sum
{panel_rows_at}
  store ptr %here, ptr %panel_rows_at
  br label %meet
meet:
  call void @barrier(ptr %shared, i64 %me)
  br label %ready
ready:
  br label %head
exit:
  ret void
}}

define i64 @isochrone_step(ptr %shared) #0 {{
{generation_at}
  %start = call i64 @llvm.readcyclecounter()
  %old = load i64, ptr %generation_at
  %new = add i64 %old, 1
  call void @advance(ptr %shared, ptr %generation_at, i64 %new)
  call void @run(ptr %shared, i64 0)
  %stop = call i64 @llvm.readcyclecounter()
  %spent = sub i64 %stop, %start
  ret i64 %spent
}}

define void @isochrone_shutdown(ptr %shared) #0 {{
{shutdown_at}
  store i64 1, ptr %shutdown_at
{generation_at}
  %old = load i64, ptr %generation_at
  %new = add i64 %old, 1
  call void @advance(ptr %shared, ptr %generation_at, i64 %new)
  ret void
}}

define void @isochrone_worker(ptr %shared, i64 %me, i64 %first) #0 {{
entry:
{generation_at}
{shutdown_at}
{workers_at}
{spins_at}
  br label %head
head:
  %goal = phi i64 [ %first, %entry ], [ %following, %work ]
  %limit = load i64, ptr %spins_at
  call void @wait_until(ptr %shared, ptr %generation_at, i64 %goal, i64 %limit)
  %over = load i64, ptr %shutdown_at
  %stop = icmp ne i64 %over, 0
  %workers = load i64, ptr %workers_at
  %spare = icmp sge i64 %me, %workers
  %leave = or i1 %stop, %spare
  br i1 %leave, label %exit, label %work
work:
  call void @run(ptr %shared, i64 %me)
  %following = add i64 %goal, 1
  br label %head
exit:
  ret void
}}

declare void @llvm.x86.sse2.pause()

declare i64 @llvm.readcyclecounter()
"""


def driver_text() -> str:
    """LLVM text of the driver, to stand in one module with the kernels it calls by address."""
    shared, region, context = "%shared", "%region", "%context"
    return "".join(
        (
            _FUTEX,
            _WAIT.format(
                spins_at=_address("spins_at", shared, Shared.SPINS),
                sleepers_at=_address("sleepers_at", shared, Shared.SLEEPERS),
                workers_at=_address("workers_at", shared, Shared.WORKERS),
                arrived_at=_address("arrived_at", shared, Shared.ARRIVED),
                waited_at=_address("waited_at", shared, Shared.WAITED),
                patience=PATIENCE_CYCLES,
                rounds=int(Shared.ROUNDS),
            ),
            _REGION.format(
                extent_at=_address("extent_at", region, Field.EXTENT),
                args=int(Field.ARGS_ONE),
                item_rows=int(Field.ITEM_ROWS_ONE),
                multiplier_at=_address("multiplier_at", region, Field.MULTIPLIER),
                workers_at=_address("workers_at", shared, Shared.WORKERS),
                chunks_at=_address("chunks_at", shared, Shared.CHUNKS),
                cursor_at=_address("cursor_at", region, Field.CURSOR),
            ),
            _SEGMENT.format(
                context_at=_address("context_at", shared, Shared.CONTEXT),
                regions_at=_address("regions_at", shared, Shared.REGIONS),
                record_bytes=8 * Field.NUM_WORDS,
                barrier_at=_address("barrier_at", region, Field.BARRIER),
                cursor=int(Field.CURSOR),
                clock_at=_address("clock_at", region, Field.CLOCK),
            ),
            _RUN.format(
                context_at=_address("context_at", shared, Shared.CONTEXT),
                panel_at=_address("panel_at", shared, Shared.PANEL_BEGIN),
                end_at=_address("end_at", shared, Shared.REGIONS_END),
                total_at=_address("total_at", context, Word.TOTAL_ROWS),
                rows_at=_address("rows_at", context, Word.ROWS),
                first_at=_address("first_at", context, Word.FIRST_ROW),
                logit_rows_at=_address("logit_rows_at", context, Word.LOGIT_ROWS),
                panel_rows_at=_address("panel_rows_at", context, Word.PANEL_ROWS),
                generation_at=_address("generation_at", shared, Shared.GENERATION),
                shutdown_at=_address("shutdown_at", shared, Shared.SHUTDOWN),
                workers_at=_address("workers_at", shared, Shared.WORKERS),
                spins_at=_address("spins_at", shared, Shared.STEP_SPINS),
                panel_rows=ROWS_PANEL,
            ),
        )
    )
