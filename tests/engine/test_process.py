"""The engine's process: the same text as in a thread, and no death of it reaches who waits."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import aclosing, asynccontextmanager

import pytest

from isochrone.engine import records, wire
from isochrone.engine.client import ClientOptions, EngineClient
from isochrone.engine.process import serve
from isochrone.engine.records import EngineLimits, EngineSpec, SamplingParams, Submit
from isochrone.errors import BadConfig, ContextTooLong, EngineDied, IsochroneError, Overloaded, Unreachable

from .driver import alone

GREEDY = SamplingParams(temperature=0)
FACTS = {"context": 4096, "num_pages": 1024}


def spec(*, limits=None, load="isochrone.testing.runtime:load_fake", **arguments):
    return EngineSpec(load=load, arguments={**FACTS, **arguments}, limits=EngineLimits(**(limits or {})))


@asynccontextmanager
async def running(spec, **options):
    client = EngineClient(spec, ClientOptions(**options))
    try:
        await client.start()
        yield client
    finally:
        await client.close()


async def read(client, submit, on_token=None):
    """Texts by sample."""
    texts = {sample: [] for sample in range(submit.sampling.n)}
    async with aclosing(client.submit(submit)) as deltas:
        async for delta in deltas:
            texts[delta.sample] += delta.token_ids
            if on_token:
                on_token(texts)
    return texts


def expected(submit):
    return {sample: answer.token_ids for sample, answer in alone(submit, **FACTS).items()}


def kill_once(client, at):
    """Kills the process with SIGKILL when the first sample has `at` tokens."""
    pids = []

    def on_token(texts):
        if len(texts[0]) >= at and not pids:
            pids.append(client.pid)
            os.kill(client.pid, signal.SIGKILL)

    return on_token


async def test_requests_side_by_side_say_what_each_says_alone():
    submits = [
        Submit(prompt_ids=[k] * 9, sampling=SamplingParams(seed=k, n=1 + k % 2), max_tokens=40) for k in range(9)
    ]
    async with running(spec()) as client:
        texts = await asyncio.gather(*(read(client, submit) for submit in submits))
        assert texts == [expected(submit) for submit in submits]
        assert client.stats.num_pages_held == 0 and client.num_restarts == 0


async def test_a_process_killed_mid_stream_is_restarted_and_the_text_is_the_same():
    params = SamplingParams(seed=4, n=2, frequency_penalty=0.3, logprobs=True, top_logprobs=2)
    submits = [
        Submit(prompt_ids=[5] * 30, sampling=params, max_tokens=400),
        Submit(prompt_ids=[6] * 40, sampling=GREEDY, max_tokens=400),
    ]
    async with running(spec()) as client:
        texts = await asyncio.gather(read(client, submits[0], kill_once(client, 10)), read(client, submits[1]))
        assert texts == [expected(submit) for submit in submits]
        assert client.num_restarts == 1 and client.is_up and client.stats.num_pages_held == 0


async def test_a_kill_while_the_prompt_is_scored_delivers_each_score_once(tmp_path):
    submit = Submit(
        prompt_ids=[k % 90 for k in range(300)], sampling=SamplingParams(temperature=0, logprobs=True), max_tokens=3,
        echo_logprobs=True,
    )  # fmt: skip
    async with running(spec(die_at=200, life_file=str(tmp_path / "died"))) as client:
        scores = []
        async with aclosing(client.submit(submit)) as deltas:
            async for delta in deltas:
                scores += delta.prompt_logprobs
        assert client.num_restarts == 1
        assert scores == alone(submit, **FACTS, num_tokens_max=256)[0].prompt_logprobs


async def test_a_request_that_kills_engines_gives_up_alone():
    deadly = Submit(prompt_ids=[1, 96], sampling=GREEDY, max_tokens=5)
    ban = {96: -100.0}
    others = [
        Submit(prompt_ids=[k] * 20, sampling=SamplingParams(temperature=0, logit_bias=ban), max_tokens=300)
        for k in range(4)
    ]
    async with running(spec(die_token=96)) as client:
        *texts, died = await asyncio.gather(
            *(read(client, submit) for submit in others), read(client, deadly), return_exceptions=True
        )
        assert isinstance(died, EngineDied) and "signal 9" in died.message
        assert texts == [expected(submit) for submit in others]
        assert client.num_restarts == 3


async def test_closing_a_stream_gives_its_slot_and_pages_back():
    async with running(spec(limits={"num_running_max": 1})) as client:
        async with aclosing(client.submit(Submit(prompt_ids=[1], sampling=GREEDY, max_tokens=4000))) as deltas:
            await anext(deltas)
        submit = Submit(prompt_ids=[2], sampling=GREEDY, max_tokens=3)
        assert await read(client, submit) == expected(submit)
        assert client.stats.num_cancelled_total == 1 and client.stats.num_pages_held == 0


async def test_one_sample_can_be_stopped():
    submit = Submit(prompt_ids=[3], sampling=SamplingParams(seed=2, n=2), max_tokens=300)
    async with running(spec()) as client:

        def stop(texts):
            if len(texts[1]) == 5:
                client.cancel(submit, 1)

        texts = await read(client, submit, stop)
        assert texts[0] == expected(submit)[0] and len(texts[1]) == 5
        assert client.stats.num_pages_held == 0


async def test_a_refusal_comes_with_its_type():
    async with running(spec(), num_requests_max=1) as client:
        with pytest.raises(ContextTooLong) as caught:
            await read(client, Submit(prompt_ids=[1] * 5000))
        assert caught.value.param == "prompt" and "--context" in caught.value.fix
        async with aclosing(client.submit(Submit(prompt_ids=[1], sampling=GREEDY, max_tokens=4000))) as deltas:
            await anext(deltas)
            with pytest.raises(Overloaded):
                await read(client, Submit(prompt_ids=[1], max_tokens=1))


async def test_a_draining_engine_finishes_what_it_has():
    submit = Submit(prompt_ids=[1], sampling=GREEDY, max_tokens=300)
    async with running(spec()) as client:
        texts = await read(client, submit, lambda texts: client.drain() if len(texts[0]) == 3 else None)
        assert texts == expected(submit)
        with pytest.raises(Overloaded):
            await read(client, submit)


@pytest.mark.parametrize(
    ("wrong", "kind", "words"),
    [
        ({"raise_on_load": True}, IsochroneError, "raised OSError: the fake was told not to load"),
        ({"load": "isochrone.testing.runtime:no_such"}, BadConfig, "names no function"),
        ({"load": "sys:_exit_not"}, BadConfig, "names no function"),
    ],
)
async def test_a_model_that_cannot_be_loaded_says_why_to_the_starter_and_to_later_requests(wrong, kind, words):
    client = EngineClient(spec(**wrong))
    with pytest.raises(kind, match=words):
        await client.start()
    with pytest.raises(kind, match=words):
        await read(client, Submit(prompt_ids=[1]))
    assert client.num_restarts == 0
    await client.close()


async def test_a_process_that_dies_while_loading_is_tried_again_a_few_times(capfd):
    client = EngineClient(EngineSpec(load="os:abort"), ClientOptions(num_load_deaths_max=1))
    with pytest.raises(EngineDied, match="signal 6 while it loaded the model, 2 times"):
        await client.start()
    assert client.num_restarts == 1
    await client.close()


async def test_a_process_that_hangs_is_killed_and_its_work_done_by_the_next():
    submit = Submit(prompt_ids=[8] * 20, sampling=GREEDY, max_tokens=300)
    async with running(spec(), stall_s=0.5) as client:
        stopped = []

        def freeze(texts):
            if len(texts[0]) == 10 and not stopped:
                stopped.append(client.pid)
                os.kill(client.pid, signal.SIGSTOP)

        assert await read(client, submit, freeze) == expected(submit)
        assert client.num_restarts >= 1 and client.pid != stopped[0]


async def test_signals_of_the_process_group_do_not_end_the_engine():
    submit = Submit(prompt_ids=[8], sampling=GREEDY, max_tokens=200)
    async with running(spec()) as client:

        def interrupt(texts):
            if len(texts[0]) == 3:
                os.kill(client.pid, signal.SIGINT)
                os.kill(client.pid, signal.SIGTERM)

        assert await read(client, submit, interrupt) == expected(submit)
        assert client.num_restarts == 0


async def test_closing_the_client_ends_the_process_and_tells_who_waits():
    client = EngineClient(spec())
    await client.start()
    process = client._child._process
    waiting = asyncio.ensure_future(read(client, Submit(prompt_ids=[1], sampling=GREEDY, max_tokens=4000)))
    while not client.stats.num_running:
        await asyncio.sleep(0)
    await client.close()
    with pytest.raises(EngineDied, match="stopped"):
        await waiting
    assert process.returncode == 0
    with pytest.raises(IsochroneError):
        await read(client, Submit(prompt_ids=[1]))


def test_the_process_ends_when_the_gateway_is_gone():
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "isochrone.engine.process", str(theirs.fileno())]
    packed = records.msgspec.json.encode(spec()).decode()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([*command, packed], pass_fds=[theirs.fileno()], env=environment)
    theirs.close()
    assert ours.recv(4)  # Ready
    ours.close()
    assert process.wait(timeout=30) in (0, 1)


def test_the_loop_reads_many_messages_and_says_one_a_step(make_engine):
    engine = make_engine()
    ours, theirs = socket.socketpair()
    submits = [Submit(id=k, prompt_ids=[k] * 5, sampling=GREEDY, max_tokens=3) for k in range(1, 4)]
    with ours, theirs:
        ours.sendall(b"".join(map(wire.pack, submits)))
        ours.shutdown(socket.SHUT_WR)  # read at the end of what was sent: the loop returns
        serve(theirs, engine)
        theirs.shutdown(socket.SHUT_WR)
        outputs = list(wire.from_engine().push(ours.recv(2**20)))
    assert len(outputs) == 1 and {delta.id for delta in outputs[0].deltas} == {1, 2, 3}
    for submit in submits:
        engine.cancel(submit.id)


def test_nonsense_on_the_wire_is_a_typed_error_and_costs_no_memory():
    with pytest.raises(Unreachable, match="4294967295 bytes was announced"):
        list(wire.to_engine().push(b"\xff\xff\xff\xff"))
    with pytest.raises(Unreachable, match="do not understand"):
        list(wire.to_engine().push((3).to_bytes(4, "little") + b"abc"))


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_records_survive_any_cutting_of_the_stream(size):
    sent = [
        Submit(id=1, prompt_ids=list(range(100)), sampling=SamplingParams(logit_bias={5: 1.5}, seed=2**64 - 1)),
        records.Cancel(1, 0), records.Cancel(2), records.Drain(), records.Shutdown(),
    ]  # fmt: skip
    stream, unpacker, got = b"".join(map(wire.pack, sent)), wire.to_engine(), []
    for at in range(0, len(stream), size):
        got += unpacker.push(stream[at : at + size])
    assert got == sent


def test_every_error_travels_with_its_type_and_what_to_do():
    error = Overloaded("Full.", fix="Wait.", retry_after_s=7.0)
    back = records.error_of(records.refusal_of(3, error))
    assert (type(back), back.message, back.fix, back.retry_after_s) == (Overloaded, "Full.", "Wait.", 7.0)


def test_the_gateways_side_loads_no_numpy():
    code = "import sys, isochrone.engine.client; print([m for m in ('numpy', 'llvmlite', 'torch') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert out.stdout.strip() == "[]"


def test_the_engines_side_loads_no_asyncio():
    code = "import sys, isochrone.engine.process, isochrone.engine.local; print('asyncio' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert out.stdout.strip() == "False"
