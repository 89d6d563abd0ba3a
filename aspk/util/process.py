"""Processes: where they run, and whether they are still alive."""

from __future__ import annotations

import hashlib
import os
import socket
import uuid
from functools import cache
from pathlib import Path


@cache
def place() -> str:
    """What must match for a process ID to mean the same process: machine, boot and container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        container = os.readlink("/proc/self/ns/pid")
    except OSError:  # without /proc
        boot, container = socket.gethostname(), str(uuid.getnode())
    return hashlib.sha256(f"{boot} {container}".encode()).hexdigest()[:8]


def start_time(pid: int) -> str:
    """When a process started, to distinguish it from a later one with the same ID; '' if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]  # a zombie does nothing any more
    except OSError:
        pass
    try:  # without /proc
        os.kill(pid, 0)
    except PermissionError:  # another user's
        return "running"
    except OSError:
        return ""
    return "running"


def cores() -> int:
    """Processors that this process may use; all of them where the system does not say, as on macOS."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1
