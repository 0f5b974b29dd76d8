"""Waiting with an end: only the place's silence counts, and a caller's cancellation is never taken for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from isochrone.routing.execute.watch import Silence, Watch
from isochrone.testing.virtual_loop import now, run


async def numbers(*pauses_s: float) -> AsyncGenerator[int, None]:
    for number, pause_s in enumerate(pauses_s):
        await asyncio.sleep(pause_s)
        yield number


def within(limit_s: float):
    return lambda silent_s: None if silent_s >= limit_s else limit_s - silent_s


def test_a_wait_that_takes_too_long_ends_when_it_does() -> None:
    async def main() -> None:
        watch, stream, began_at = Watch(now, within(1.0)), numbers(0.9, 0.9, 5.0), now()
        assert [await watch.wait(anext(stream)) for _ in range(2)] == [0, 1]
        with pytest.raises(Silence):
            await watch.wait(anext(stream))
        assert now() - began_at == pytest.approx(2.8)
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0
        watch.close()

    run(main())


def test_a_slow_reader_is_not_the_streams_silence() -> None:
    async def main() -> None:
        looked: list[float] = []

        def look(silent_s: float) -> float | None:
            looked.append(silent_s)
            return within(1.0)(silent_s)

        watch, stream = Watch(now, look), numbers(0.1, 0.9, 0.9)
        for expected in range(3):
            assert await watch.wait(anext(stream)) == expected
            await asyncio.sleep(50.0)
        assert max(looked) < 1.0
        watch.close()

    run(main())


@pytest.mark.parametrize("after_s", [0.5, 0.9999999, 1.0, 1.0000001])
def test_a_cancellation_of_the_caller_is_one_at_whatever_instant(after_s: float) -> None:
    async def main() -> None:
        watch = Watch(now, within(1.0))

        async def wait() -> None:
            await watch.wait(anext(numbers(5.0)))

        waiting = asyncio.ensure_future(wait())
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        loop.call_later(after_s, waiting.cancel)
        await asyncio.wait([waiting])
        if after_s <= 1.0:
            assert waiting.cancelled()
        else:
            assert waiting.cancelled() or isinstance(waiting.exception(), Silence)
        watch.close()

    run(main())


def test_both_cancellations_in_one_turn_of_the_loop_leave_the_callers() -> None:
    async def main() -> None:
        callers: list[asyncio.Future[None]] = []

        def end_and_be_cancelled(silent_s: float) -> float | None:
            if silent_s < 1.0:
                return 1.0 - silent_s
            callers[0].cancel()
            return None

        watch = Watch(now, end_and_be_cancelled)

        async def wait() -> None:
            await watch.wait(anext(numbers(5.0)))

        callers.append(asyncio.ensure_future(wait()))
        await asyncio.wait(callers)
        assert callers[0].cancelled()
        watch.close()

    run(main())


def test_a_fault_in_looking_is_the_waiters_to_hear() -> None:
    async def main() -> None:
        def faulty(silent_s: float) -> float | None:
            if silent_s > 0.0:
                raise ValueError("mine")
            return 1.0

        watch = Watch(now, faulty)
        with pytest.raises(ValueError, match="mine"):
            await watch.wait(anext(numbers(5.0)))
        watch.close()

    run(main())
