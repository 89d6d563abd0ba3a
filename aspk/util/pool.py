"""Worker processes that end with their parent, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from types import FrameType
from typing import TypeVar

from aspk.errors import WorkerError
from aspk.util.interrupt import graceful_interruption

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_LOOK_S = 0.2  # between two checks whether the user asked to stop
_LOST = "updates since their last checkpoints are repeated"


def results_of(
    function: Callable[[_Item], _Result], items: Sequence[_Item], *, workers: int
) -> Generator[_Result]:
    """Yield a function's results for the items as they arrive, computed by several processes.

    Ctrl-C and SIGTERM end the results early: the workers get SIGTERM and are waited for. The same happens
    when the iterator is closed, or a call raises an error. When this process is killed, so are the workers.

    Args:
        function: a module-level function, since workers import it. SIGTERM ends it, unless it catches the
            signal to save its work, see :func:`aspk.util.interrupt.graceful_interruption`.
        items: its arguments, to be pickled.
        workers: number of processes; with 1, everything runs in this one.

    Raises:
        WorkerError: a worker was killed.
    """
    if workers == 1 or len(items) < 2:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    reading, writing = context.Pipe(duplex=False)
    waiting, running = iter(items), set[Future[_Result]]()
    with (
        graceful_interruption(finishing="the workers' updates", lost=_LOST) as interruption,
        writing,
        ProcessPoolExecutor(
            min(workers, len(items)), context, initializer=_follow_parent, initargs=(reading,)
        ) as pool,
    ):
        try:
            # No more items than workers, so that none is queued where it cannot be taken back.
            running |= {pool.submit(_call, function, item) for item in islice(waiting, workers)}
            while running and not interruption.requested:
                done, running = wait(running, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
                running |= {pool.submit(_call, function, item) for item in islice(waiting, len(done))}
                yield from (future.result() for future in done)
        except BrokenProcessPool:
            raise WorkerError("a worker process was killed; if memory ran out, use fewer workers") from None
        finally:
            if running:
                writing.close()


# ---------------------------------------------------------------------- in a worker


class _Ended(BaseException):
    """SIGTERM arrived while a function that does not catch it was running."""


_asked_to_end = threading.Event()


def _call(function: Callable[[_Item], _Result], item: _Item) -> _Result:
    """Call a function, which SIGTERM may end.

    Between two calls the signal is only noted: a worker that dies while it hands over a result takes the lock
    of the queue with it, and the others wait for that lock for ever.
    """
    try:
        signal.signal(signal.SIGTERM, _end)
        try:
            if _asked_to_end.is_set():
                raise _Ended
            return function(item)
        finally:
            signal.signal(signal.SIGTERM, _note)
    except _Ended:
        raise WorkerError("a worker process was ended by SIGTERM; the same command goes on") from None


def _end(signum: int, frame: FrameType | None) -> None:
    raise _Ended


def _note(signum: int, frame: FrameType | None) -> None:
    _asked_to_end.set()


def _follow_parent(stop: Connection) -> None:
    """Send this process SIGTERM when the parent closes its end of the pipe, SIGKILL once it is gone."""
    signal.signal(signal.SIGTERM, _note)
    threading.Thread(target=_follow, args=(stop,), name="aspk parent", daemon=True).start()


def _follow(stop: Connection) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is a worker process"
    if parent.sentinel not in wait_for([stop, parent.sentinel]):
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for([parent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
