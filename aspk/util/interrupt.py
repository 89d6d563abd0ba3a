"""Ctrl-C and SIGTERM as a flag that long-running work checks between steps."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_STDERR = 2  # the file descriptor


class Interruption:
    """Whether the user has asked to stop. A second Ctrl-C stops at once; SIGTERM may follow the first.

    Args:
        told: the message shown to the user the first time.
    """

    def __init__(self, told: str) -> None:
        self.requested = False
        self._by_hand = False
        self._told = f"\naspk: {told}\n".encode()

    def request(self, signum: int, frame: FrameType | None) -> None:
        """Signal handler."""
        if self._by_hand and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        self._by_hand = self._by_hand or signum == signal.SIGINT
        if multiprocessing.parent_process() is None:  # Ctrl-C reaches all processes; one message is enough
            with suppress(OSError):  # stderr is closed
                os.write(_STDERR, self._told)  # a handler must not enter a stream that is being written to


@contextmanager
def graceful_interruption(*, finishing: str, lost: str) -> Iterator[Interruption]:
    """Catch SIGINT and SIGTERM while the block runs; outside the main thread nothing is caught.

    Args:
        finishing: what is finished after the first signal, for the message on stderr.
        lost: what a second Ctrl-C costs, as the end of a sentence.
    """
    interruption = Interruption(f"finishing {finishing}; Ctrl-C again stops at once, and {lost}")
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    previous = {name: signal.signal(name, interruption.request) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)
