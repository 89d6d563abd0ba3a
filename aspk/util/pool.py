"""Worker processes that end with their parent, however that ends."""

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
from typing import TypeVar

from aspk.errors import WorkerError
from aspk.util.interrupt import graceful_interruption

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_LOOK_S = 0.2  # between two looks whether the user asked to stop
_LOST = "updates since their last checkpoints are done again"


def results_of(
    function: Callable[[_Item], _Result], items: Sequence[_Item], *, workers: int
) -> Generator[_Result]:
    """Results of a function of each item, as they come, from several processes.

    Ctrl-C and SIGTERM end the results early: the workers get SIGTERM and are waited for. The same happens
    when the iterator is closed, or a call raises an error. When this process is killed, so are the workers.

    Args:
        function: of a module, since workers import it. Between items it is ended by SIGTERM at once; within,
            it may catch the signal to save its work, see :func:`aspk.util.interrupt.graceful_interruption`.
        items: its arguments, to be pickled.
        workers: number of processes; with 1 all happens in this one.

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
            # No more than there are workers, so that none waits where it cannot be taken back.
            running |= {pool.submit(function, item) for item in islice(waiting, workers)}
            while running and not interruption.requested:
                done, running = wait(running, timeout=_LOOK_S, return_when=FIRST_COMPLETED)
                running |= {pool.submit(function, item) for item in islice(waiting, len(done))}
                yield from (future.result() for future in done)
        except BrokenProcessPool:
            raise WorkerError(
                "a worker process was killed; if memory was short, fewer workers need less of it"
            ) from None
        finally:
            if running:
                writing.close()


def _follow_parent(stop: Connection) -> None:
    """In a worker: SIGTERM when the parent closes the other end of the pipe, SIGKILL when it is gone."""
    threading.Thread(target=_follow, args=(stop,), name="aspk parent", daemon=True).start()


def _follow(stop: Connection) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is a worker process"
    if parent.sentinel not in wait_for([stop, parent.sentinel]):
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for([parent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
