"""Studies on a real PostgreSQL server."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from optuna.trial import TrialState

from aspk.settings import DataSettings
from aspk.space_file import load_space
from aspk.storage import open_study
from aspk.study import question, run_study
from aspk.study_file import StudySpec
from aspk.testing import FormulaEvaluator

pytestmark = pytest.mark.postgres


def _programs():
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    path = found[-1] if found else Path(shutil.which("initdb") or "/nonexistent/initdb")
    return path.parent


@pytest.fixture(scope="module")
def server():
    """A server of our own on loopback, gone after the tests."""
    programs = _programs()
    if not (programs / "initdb").exists():
        pytest.skip("no PostgreSQL server programs")
    pytest.importorskip("psycopg")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="aspk-postgres-", dir="/tmp"))
    user: dict[str, int] = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        account = pwd.getpwnam("postgres")
        os.chown(folder, account.pw_uid, account.pw_gid)
        user = {"user": account.pw_uid, "group": account.pw_gid}

    def run(program, *arguments):
        subprocess.run([str(programs / program), *arguments], check=True, cwd=folder, **user)

    data = str(folder / "data")
    run("initdb", "-D", data, "-U", "aspk", "-A", "trust", "--no-sync")
    options = f"-h 127.0.0.1 -p {port} -k {folder} -c fsync=off"
    run("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://aspk@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("sampler", ["nsga2", "surrogate"])
def test_a_study_runs_and_resumes(server, tmp_path, sampler):
    space = load_space("tiny")
    spec = StudySpec(
        name=f"on-postgres-{sampler}",
        space="tiny",
        data=DataSettings(name="digits"),
        folder=tmp_path,
        storage=server,
        evaluations=10,
        batch=5,
        sampler=sampler,
    )
    asked = question(spec, FormulaEvaluator(space), classes=10)
    assert run_study(spec, asked, progress=False).evaluations == 10
    assert run_study(spec, asked, progress=False).evaluations == 10
    trials = open_study(spec).get_trials(states=(TrialState.COMPLETE,))
    assert len({space.key(space.from_parameters(trial.params)) for trial in trials}) == 10
