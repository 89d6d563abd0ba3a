"""One process at a time, temporary files of killed writers, and workers that end with their parent."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from worker_processes import PROCESSES

from aspk.errors import LockError, WorkerError
from aspk.training.checkpoint import load_state, save_state
from aspk.util import locks
from aspk.util.files import remove_leftovers, write_atomically, written_beside
from aspk.util.locks import exclusive
from aspk.util.pool import results_of
from aspk.util.process import place, start_time


def run(function, *arguments):
    process = PROCESSES.Process(target=function, args=arguments)
    process.start()
    return process


def eventually(condition):
    """Wait for something that other processes do."""
    end = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < end, "it did not happen within 100 s"
        time.sleep(0.01)


# ------------------------------------------------------------------ one at a time


def hold(path):
    with exclusive(path):
        path.touch()
        signal.pause()


def test_who_comes_second_is_told_who_holds_the_lock_until_that_one_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_PATIENCE_S", 0.1)
    path = tmp_path / "folder" / "training.pt"
    first = run(hold, path)
    eventually(path.exists)
    owner = rf"process {first.pid} on {re.escape(os.uname().nodename)} since [\d-]{{10}} [\d:]{{8}} UTC"
    with pytest.raises(LockError, match=rf"training\.pt is in use by {owner}; wait"), exclusive(path):
        pass
    first.kill()
    first.join()
    with exclusive(path), pytest.raises(LockError, match=f"process {os.getpid()} on"), exclusive(path):
        pass
    assert os.listdir(path.parent) == ["training.pt"]


def count_up(path, times):
    for _ in range(times):
        with exclusive(path):
            value = int(path.read_text())
            time.sleep(0.001)
            path.write_text(str(value + 1))


def test_of_many_processes_one_at_a_time_goes_on(tmp_path):
    path = tmp_path / "counter"
    path.write_text("0")
    processes = [run(count_up, path, 5) for _ in range(3)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert path.read_text() == "15"
    assert os.listdir(tmp_path) == ["counter"]


HOSTILE = b'{"process": 1, "host": "\\u001b[2J", "since": "2026-11-29"}'


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 900, b'{"process": 1, "since": "now"}', HOSTILE])
def test_of_what_others_wrote_into_a_lock_nothing_is_repeated(tmp_path, monkeypatch, content):
    monkeypatch.setattr(locks, "_PATIENCE_S", 0)
    with exclusive(tmp_path / "a"):
        (tmp_path / "a.lock").write_bytes(content)
        with pytest.raises(LockError, match="/a is in use by another process; wait"):
            exclusive(tmp_path / "a").__enter__()


def test_a_lock_does_not_write_through_a_link(tmp_path):
    (tmp_path / "precious").write_text("kept")
    os.symlink("precious", tmp_path / "a.lock")
    with pytest.raises(OSError, match=r"a\.lock"), exclusive(tmp_path / "a"):
        pass
    assert (tmp_path / "precious").read_text() == "kept"


def test_without_locks_of_the_file_system_it_goes_on_and_says_so(tmp_path, monkeypatch, caplog):
    def unsupported(handle, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locks.fcntl, "flock", unsupported)
    with exclusive(tmp_path / "a"):
        assert "no locks" in caplog.text


# ------------------------------------------------------------------ temporary files


def save_again_and_again(path, number, times):
    for update in range(times):
        save_state(path, {"update": update, "weights": torch.full((20_000,), float(number))})


def test_two_that_save_one_state_do_not_collide(tmp_path):
    path = tmp_path / "training.pt"
    writers = [run(save_again_and_again, path, number, 50) for number in range(2)]
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert sorted(os.listdir(tmp_path)) == ["training.previous", "training.pt"]
    for name in os.listdir(tmp_path):
        weights = load_state(tmp_path / name, torch.device("cpu"))["weights"]
        assert weights.unique().numel() == 1


def die_while_writing(path):
    with written_beside(path, "half of it"):
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_a_killed_writer_left_is_removed_at_the_next_start_and_nothing_else(tmp_path):
    killed = run(die_while_writing, tmp_path / "a")
    killed.join()
    (left,) = os.listdir(tmp_path)
    elsewhere = left.replace(place(), "0" * 8)
    for name in (elsewhere, ".other.tmp", "b.tmp", left.replace(f"-{killed.pid}-", "-x-")):
        (tmp_path / name).touch()
    with written_beside(tmp_path / "b", "being written") as living:
        kept = set(os.listdir(tmp_path)) - {left}
        with exclusive(tmp_path / "a"):
            assert set(os.listdir(tmp_path)) - {"a.lock"} == kept
        assert living.name in kept
    os.utime(tmp_path / elsewhere, (0, 0))
    remove_leftovers(tmp_path)
    assert elsewhere not in os.listdir(tmp_path)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_access_that_the_umask_allows(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "below" / "a", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "below" / "a").stat().st_mode & 0o777 == mode
    assert (tmp_path / "below").stat().st_mode & 0o777 == 0o777 & ~mask


# ------------------------------------------------------------------ workers

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from aspk.util.interrupt import graceful_interruption
from aspk.util.pool import results_of

FOLDER = Path(sys.argv[1])

def work(number):
    with graceful_interruption(finishing="it", lost="all is lost") as interruption:
        (FOLDER / f"{number}.new").write_text(str(os.getpid()))
        os.rename(FOLDER / f"{number}.new", FOLDER / f"{number}.pid")
        while not interruption.requested:
            time.sleep(0.01)
    (FOLDER / f"{number}.saved").touch()

if __name__ == "__main__":
    for result in results_of(work, range(5), workers=2):
        pass
"""


def kill_own_process(number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_an_error_and_no_hang():
    with pytest.raises(WorkerError, match="a worker process was killed"):
        list(results_of(kill_own_process, range(2), workers=2))


class EndsItsWorker:
    """A result in whose handing over SIGTERM comes."""

    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return EndsItsWorker, ()


def ends_its_worker(number):
    return EndsItsWorker()


def end_own_process(number):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(100)


def test_sigterm_ends_what_a_worker_does_but_not_the_handing_over_of_a_result():
    """A worker that died there would hold the lock of the queue, and the other one wait for ever."""
    assert len(list(results_of(ends_its_worker, range(2), workers=2))) == 2
    with pytest.raises(WorkerError, match="ended by SIGTERM"):
        list(results_of(end_own_process, range(2), workers=2))


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_workers_end_with_their_parent(tmp_path, name):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    parent = subprocess.Popen([sys.executable, script, tmp_path])
    started = [tmp_path / f"{number}.pid" for number in range(2)]
    eventually(lambda: all(path.exists() for path in started))
    parent.send_signal(getattr(signal, name))
    code = parent.wait(100)
    workers = [int(path.read_text()) for path in started]
    eventually(lambda: not any(start_time(worker) for worker in workers))
    saved = sorted(path.name for path in tmp_path.glob("*.saved"))
    assert (code, saved) == ((-9, []) if name == "SIGKILL" else (0, ["0.saved", "1.saved"]))
    assert sorted(tmp_path.glob("*.pid")) == started, "no further item was begun"


def test_a_second_ctrl_c_stops_at_once_but_sigterm_beside_the_first_does_not():
    from aspk.util.interrupt import Interruption

    for others in ([signal.SIGTERM], [signal.SIGTERM, signal.SIGTERM]):
        interruption = Interruption("finishing it")
        for number in (*others, signal.SIGINT, *others):
            interruption.request(number, None)
        assert interruption.requested
        with pytest.raises(KeyboardInterrupt):
            interruption.request(signal.SIGINT, None)
