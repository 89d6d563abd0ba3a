"""Running a compiler that may fail or hang."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence

from aspk.util.process import cores


class CompilerError(OSError):
    """The compiler failed, or there is none."""


class TooSlowError(OSError):
    """The compiler exceeded its time limit."""


def run(commands: Sequence[Sequence[str]], *, seconds: float) -> list[bytes]:
    """The output of commands, run in parallel, one per processor at a time.

    Whatever happens, neither they nor their children are left running: each has its own process group.

    Args:
        commands: programs with their arguments.
        seconds: the time limit for all of them together.

    Raises:
        CompilerError: one of them failed.
        TooSlowError: they took longer and were killed.
    """
    deadline = time.monotonic() + seconds
    together, printed = cores(), []
    for first in range(0, len(commands), together):
        with contextlib.ExitStack() as stack:
            some = commands[first : first + together]
            running = [stack.enter_context(_started(command)) for command in some]
            for command, process in zip(some, running, strict=True):
                try:
                    out, _ = process.communicate(timeout=max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    raise TooSlowError(f"{command[0]} took more than {seconds:g} s and was ended") from None
                if process.returncode:
                    raise CompilerError(f"{shlex.join(command)}: {_reason(out)}")
                printed.append(out)
    return printed


@contextlib.contextmanager
def _started(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise CompilerError(f"cannot run {command[0]!r}: {error.strerror}; see CXX") from error
    with process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):  # nobody is left
                os.killpg(process.pid, signal.SIGKILL)


def _reason(printed: bytes) -> str:
    lines = printed.decode(errors="replace").strip().splitlines() or ["it failed without any output"]
    return next((line for line in lines if "error" in line), lines[0])
