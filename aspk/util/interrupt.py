"""Ctrl-C and SIGTERM as a question that long work asks between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interruption:
    """Whether the user has asked to stop. A second Ctrl-C stops at once; SIGTERM may follow the first."""

    def __init__(self) -> None:
        self.requested = False
        self._by_hand = False

    def request(self, signum: int, frame: FrameType | None) -> None:
        """Signal handler."""
        if self._by_hand and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        self._by_hand = self._by_hand or signum == signal.SIGINT


@contextmanager
def graceful_interruption() -> Iterator[Interruption]:
    """Collect SIGINT and SIGTERM while the block runs; outside the main thread nothing is collected."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    previous = {name: signal.signal(name, interruption.request) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)
