"""Compiling and keeping libraries: hostile folders, broken files, compilers that fail or hang."""

from __future__ import annotations

import os
import pwd
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from aspk.engines.device import hardware
from aspk.families.native import build
from aspk.families.native.build import library
from aspk.util.files import cache_folder

SOURCE = (
    '#include "value.h"\nextern "C" __attribute__((visibility("default"))) int value() { return VALUE; }\n'
)


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A library of one line, an empty cache, and a folder for temporary files beside it."""
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "value.cpp").write_text(SOURCE)
    (folder / "value.h").write_text("#define VALUE 3\n")
    (tmp_path / "temporary").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.delenv("CXX", raising=False)
    return folder


@pytest.fixture
def fresh():
    """Libraries are looked for again, as in another process."""

    def look(sources, numbers="float32"):
        build._library.cache_clear()
        found = library(sources, numbers)
        return found and found.value()

    yield look
    build._library.cache_clear()


def kept(folder):
    return sorted(path.name for path in (folder / "aspk" / "native").iterdir())


def test_where_the_system_counts_no_processors_of_a_process_it_compiles_too(sources, fresh, monkeypatch):
    """As on macOS, where the first layer of neurons ended in an AttributeError."""
    monkeypatch.delattr(os, "sched_getaffinity")
    assert fresh(sources) == 3
    assert re.search(r", \d+ core\(s\), ", hardware("cpu"))


def test_a_first_use_says_that_it_compiles_and_how_long_it_took(sources, fresh, tmp_path, caplog):
    assert fresh(sources) == 3
    first, second = (record.getMessage() for record in caplog.records)
    assert first == "compiling native one (float32), once on this machine"
    assert second.startswith("compiled native one (float32) in ")
    caplog.clear()
    assert fresh(sources) == 3
    assert not caplog.records
    assert len(kept(tmp_path / "cache")) == 1


def test_a_header_or_another_type_makes_another_library(sources, fresh, tmp_path):
    assert fresh(sources) == 3
    (sources / "value.h").write_text("#define VALUE sizeof(ASPK_NUMBER)\n")
    assert (fresh(sources), fresh(sources, "float64")) == (4, 8)
    assert len(kept(tmp_path / "cache")) == 3


@pytest.mark.parametrize("damage", ["empty", "half", "changed", "a link"])
def test_a_damaged_library_is_never_loaded_and_is_compiled_again(sources, fresh, tmp_path, damage):
    """A process that mapped half of a library died of SIGBUS, at every start."""
    assert fresh(sources) == 3
    (path,) = (tmp_path / "cache" / "aspk" / "native").iterdir()
    content = path.read_bytes()
    path.unlink()  # this process has it mapped
    broken = {"empty": b"", "half": content[: len(content) // 2], "changed": content[:-1] + b"!"}
    if damage in broken:
        path.write_bytes(broken[damage])
    else:
        (tmp_path / "elsewhere.so").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere.so")
    assert fresh(sources) == 3
    (path,) = (tmp_path / "cache" / "aspk" / "native").iterdir()
    assert path.read_bytes() == content
    assert not path.is_symlink()


@pytest.mark.parametrize("where", ["cache", "cache/aspk", "cache/aspk/native"])
@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_nothing_is_loaded_from_a_folder_that_others_may_write(sources, fresh, tmp_path, caplog, where, mode):
    assert fresh(sources) == 3
    (tmp_path / where).chmod(mode)
    assert fresh(sources) == 3
    own = tmp_path / "temporary" / f"aspk-{os.getuid()}"
    assert len(list((own / "native").iterdir())) == 1
    assert f"others than this user and root may write {tmp_path / where}" in caplog.text
    own.chmod(0o777)
    assert fresh(sources) is None
    assert "no native one, PyTorch's operations instead" in caplog.text


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("given", ["aspk", "aspk/native", "the library"])
def test_nothing_is_loaded_that_another_user_owns(sources, fresh, tmp_path, given):
    assert fresh(sources) == 3
    (path,) = (tmp_path / "cache" / "aspk" / "native").iterdir()
    os.chown(path if given == "the library" else tmp_path / "cache" / given, 12345, -1)
    assert fresh(sources) == 3
    if given == "the library":
        assert (tmp_path / "cache" / "aspk" / "native" / path.name).stat().st_uid == 0
    else:
        assert (tmp_path / "temporary" / f"aspk-{os.getuid()}" / "native" / path.name).exists()


def test_the_sticky_bit_protects_what_is_ours(sources, fresh, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o1777)
    assert fresh(sources) == 3
    assert len(kept(tmp_path / "cache")) == 1


@pytest.mark.parametrize("mask", [0o002, 0o077])
def test_folders_and_libraries_are_the_users_own_whatever_the_umask(sources, fresh, tmp_path, mask):
    before = os.umask(mask)
    try:
        assert fresh(sources) == 3
    finally:
        os.umask(before)
    for path in (tmp_path / "cache").rglob("*"):
        assert not path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        assert not path.stat().st_mode & mask
    assert fresh(sources) == 3
    assert len(kept(tmp_path / "cache")) == 1


def test_what_a_killed_build_left_is_removed(sources, fresh, tmp_path):
    left = tmp_path / "cache" / "aspk" / "native" / ".build-left"
    left.mkdir(parents=True, mode=0o700)
    for folder in left.parents[:3]:
        folder.chmod(0o700)
    (left / "piece.o").touch()
    assert fresh(sources) == 3
    assert not left.exists()


COMPILE = """
import sys, logging; from pathlib import Path
logging.basicConfig(format="%(message)s")
from aspk.families.native import library
print(library(Path(sys.argv[1])).value())
"""


def test_processes_that_start_together_compile_once(sources, tmp_path):
    command = [sys.executable, "-c", COMPILE, str(sources)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    printed = [process.communicate() for process in [subprocess.Popen(command, **pipes) for _ in range(3)]]
    assert [out for out, _ in printed] == ["3\n"] * 3
    assert "".join(err for _, err in printed).count("compiled native one") == 1
    assert len(kept(tmp_path / "cache")) == 1


# ---------------------------------------------------------------------- compilers


def compiler(tmp_path, monkeypatch, script):
    path = tmp_path / "compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.mark.parametrize("when", ["at once", "compiling"])
def test_a_compiler_that_hangs_is_ended_with_its_children(
    sources, fresh, tmp_path, monkeypatch, caplog, when
):
    test = '[ "$1" = --version ] && exit 0; ' if when == "compiling" else ""
    script = f"{test}sleep 600 & echo $! >> {tmp_path}/children; echo run >> {tmp_path}/runs; wait"
    compiler(tmp_path, monkeypatch, script)
    monkeypatch.setattr(build, "_SECONDS", 0.7)
    assert fresh(sources) is None
    assert "took more than 0.7 s and was ended; not tried again for a day; rm " in caplog.text
    children = [int(line) for line in (tmp_path / "children").read_text().split()]
    assert children
    assert wait_until(lambda: not any(map(alive, children)))

    caplog.clear()  # remembered by the next process
    assert fresh(sources) is None
    (slow,) = (tmp_path / "cache" / "aspk" / "native").glob("*.too-slow")
    assert f"within the last day; rm {slow} to try again" in caplog.text
    assert len((tmp_path / "runs").read_text().split()) == 1

    compiler(tmp_path, monkeypatch, 'exec c++ "$@"')  # it works now
    assert fresh(sources) is None
    os.utime(slow, (0, 0))  # long ago
    assert fresh(sources) == 3
    assert not slow.exists()
    slow.touch()
    assert fresh(sources) is None
    slow.unlink()
    assert fresh(sources) == 3


def test_an_interrupted_compilation_leaves_nobody_behind(sources, tmp_path, monkeypatch):
    script = f'[ "$1" = --version ] && exit 0; sleep 600 & echo $! >> {tmp_path}/children; wait'
    compiler(tmp_path, monkeypatch, script)
    # Python makes Ctrl-C an exception unless the shell that started the tests ignores it, as it does for jobs
    # in the background.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    command = [sys.executable, "-c", heard + COMPILE, str(sources)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    assert wait_until((tmp_path / "children").exists)
    assert wait_until((tmp_path / "children").read_text)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) != 0
    child = int((tmp_path / "children").read_text())
    assert wait_until(lambda: not alive(child))
    assert kept(tmp_path / "cache") == []


def test_a_compiler_comes_with_arguments(sources, fresh, tmp_path, monkeypatch, caplog):
    (sources / "value.h").write_text("")
    monkeypatch.setenv("CXX", "c++ -DVALUE='1 + 4'")
    assert fresh(sources) == 5
    monkeypatch.setenv("CXX", "c++ '")
    assert fresh(sources) is None
    assert "No closing quotation" in caplog.text


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ('[ "$1" = --version ] || { echo some note; echo error: no memory; exit 1; }', "error: no memory"),
        ("exit 1", "it failed without any output"),
    ],
)
def test_a_compiler_that_fails_is_quoted(sources, fresh, tmp_path, monkeypatch, caplog, script, reason):
    compiler(tmp_path, monkeypatch, script)
    assert fresh(sources) is None
    assert reason in caplog.text
    assert not list(tmp_path.rglob(".build-*"))


def test_the_cache_is_where_the_system_has_it_unless_there_is_one_already(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    usual = tmp_path / ".cache" / "aspk"
    if sys.platform == "linux":
        assert cache_folder() == usual
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name, appauthor: tmp_path / "Library" / name)
    assert cache_folder() == tmp_path / "Library" / "aspk"
    usual.mkdir(parents=True)
    assert cache_folder() == usual
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "chosen"))
    assert cache_folder() == tmp_path / "chosen" / "aspk"


def test_a_user_without_a_home_has_a_cache(sources, fresh, tmp_path, monkeypatch):
    """docker run -u 12345"""

    def unknown(uid):
        raise KeyError(uid)

    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    own = tmp_path / "temporary" / f"aspk-{os.getuid()}"
    assert cache_folder() == own
    assert fresh(sources) == 3
    assert len(list((own / "native").iterdir())) == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_user_whom_the_system_does_not_know_has_a_cache():
    """docker run -u 12345, without HOME"""
    code = (
        "import os\nfrom aspk.util.files import cache_folder\n"
        "os.setgid(12345); os.setuid(12345); os.environ.clear()\nprint(cache_folder())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).name == "aspk-12345"


def test_a_cache_that_cannot_be_made_is_elsewhere(sources, fresh, tmp_path, monkeypatch, caplog):
    (tmp_path / "cache").touch()
    assert fresh(sources) == 3
    assert "cache" in caplog.text
    assert len(list(tmp_path.glob("temporary/aspk-*/native/*.so"))) == 1
