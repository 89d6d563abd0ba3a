"""Storages: opened, mended, waited for, and silent about passwords."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
from pathlib import Path

import optuna
import psycopg
import pytest
import sqlalchemy
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from worker_processes import HASTY, PROCESSES, SPACE, problem_of, search, spec_in

from aspk.cli import main
from aspk.errors import StudyError
from aspk.spec.study import refined, with_sampler
from aspk.study import run_study
from aspk.study import storage as storage_module
from aspk.study.address import check_address
from aspk.study.retry import is_passing, patiently, reason
from aspk.study.storage import open_storage, open_study
from aspk.testing import FormulaEvaluator

# ------------------------------------------------------------------ torn journals


@pytest.mark.parametrize("torn", [b"x", b'{"op_code": 4, "worker', b"y" * 200_000])
def test_a_torn_line_is_cut_before_anything_is_appended(tmp_path, torn):
    spec = spec_in(tmp_path, storage=str(tmp_path / "study.log"), evaluations=5)
    study = run_study(spec, problem_of(spec), progress=False).study
    journal = tmp_path / "study.log"
    whole = journal.read_bytes()
    with journal.open("ab") as file:
        file.write(torn)
    study.set_user_attr("by", "a worker that had the study open")
    lines = journal.read_bytes().removeprefix(whole).splitlines()
    assert [json.loads(line)["user_attr"] for line in lines] == [{"by": "a worker that had the study open"}]
    with journal.open("ab") as file:
        file.write(torn)
    assert len(open_study(spec).trials) == 5  # cut when it is opened, too
    assert journal.read_bytes().endswith(b"\n")
    assert not (tmp_path / "study.log.lock").is_symlink()


def test_a_torn_line_is_not_cut_while_another_process_holds_the_lock(tmp_path):
    spec = spec_in(tmp_path, storage=str(tmp_path / "study.log"), evaluations=5)
    study = run_study(spec, problem_of(spec), progress=False).study
    journal, lock = tmp_path / "study.log", tmp_path / "study.log.lock"
    size = journal.stat().st_size
    os.symlink(journal, lock)  # another process is in the middle of a line
    with journal.open("ab") as file:
        file.write(b'{"half')
    writer = threading.Thread(target=study.set_user_attr, args=("late", True))
    writer.start()
    time.sleep(0.3)
    assert journal.stat().st_size == size + 6
    lock.unlink()
    writer.join(20)
    assert open_study(spec).user_attrs["late"]


def test_the_lock_of_a_killed_process_is_broken(tmp_path, monkeypatch):
    monkeypatch.setattr(storage_module, "_GRACE_S", 3)
    spec = spec_in(tmp_path, storage=str(tmp_path / "study.log"), evaluations=5)
    run_study(spec, problem_of(spec), progress=False)
    lock = tmp_path / "study.log.lock"
    os.symlink(tmp_path / "study.log", lock)
    longer = spec_in(tmp_path, storage=spec.storage, evaluations=10)
    study = run_study(longer, problem_of(longer), progress=False).study
    assert len(study.trials) == 10
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (fsync(handle), lock.unlink()))
    study.set_user_attr("written", True)  # another process breaks the lock of this one, which stalled
    monkeypatch.undo()
    assert open_study(spec).user_attrs["written"]


class Clock:
    """Stands for the module ``time``: pauses take none; ``meanwhile`` is what others do in them."""

    def __init__(self, meanwhile=lambda: None):
        self.now, self.pauses, self._meanwhile = 0.0, 0, meanwhile

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.pauses += 1
        self._meanwhile()


@pytest.mark.parametrize("target", ["runs/x/study.log", "/nowhere/study.log", "study.log.lock"])
def test_a_lock_that_leads_nowhere_is_broken(tmp_path, monkeypatch, target):
    """What Optuna's lock leaves for a relative path; a folder that was moved; a link to itself."""
    storage = open_storage(str(tmp_path / "study.log"))
    os.symlink(target, tmp_path / "study.log.lock")
    clock = Clock()
    monkeypatch.setattr(storage_module, "time", clock)
    assert optuna.create_study(study_name="a", storage=storage).trials == []
    assert 10 < clock.now < 11
    assert clock.pauses < 40, "it waited busily"
    assert os.listdir(tmp_path) == ["study.log"]


def test_a_lock_that_others_take_in_turn_is_not_broken(tmp_path, monkeypatch):
    lock, turns = tmp_path / "study.log.lock", iter(range(100))

    def take_turns():
        assert lock.is_symlink(), "broken while others worked"
        lock.unlink()
        if next(turns) < 99:
            os.symlink("study.log", lock)

    storage = open_storage(str(tmp_path / "study.log"))
    os.symlink("study.log", lock)
    clock = Clock(take_turns)
    monkeypatch.setattr(storage_module, "time", clock)
    monkeypatch.setattr(storage_module, "_FIRST_PAUSE_S", 0.5)
    optuna.create_study(study_name="a", storage=storage)
    assert clock.now == 50.0


def hold_the_lock(name):
    open_storage(name)._backend._lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("relative", [True, False])
def test_a_worker_killed_in_the_lock_delays_others_by_the_grace_time(tmp_path, monkeypatch, relative):
    monkeypatch.setattr(storage_module, "_GRACE_S", 0.5)
    monkeypatch.chdir(tmp_path)
    name = "runs/x/study.log" if relative else str(tmp_path / "runs/x/study.log")
    open_storage(name)
    process = PROCESSES.Process(target=in_folder, args=(tmp_path, hold_the_lock, name))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / "runs/x/study.log.lock").is_symlink()
    study = optuna.create_study(study_name="a", storage=open_storage(name))
    monkeypatch.chdir("/")  # still the same file
    study.set_user_attr("elsewhere", True)
    assert optuna.load_study(study_name="a", storage=open_storage(str(tmp_path / name))).user_attrs


def in_folder(folder, function, *arguments):
    os.chdir(folder)
    function(*arguments)


# ------------------------------------------------------------------ SQLite

ODD_NAMES = ("with space", "50%25", "which?1", "which?2", "a#b&c=d", "{VERSION}\\é")


def test_a_study_lands_in_its_own_folder_whatever_its_name(tmp_path):
    for name in ODD_NAMES:
        spec = spec_in(tmp_path / name, name=name)
        optuna.create_study(study_name=name, storage=open_storage(spec.storage_url))
        assert optuna.get_all_study_names(open_storage(spec.storage_url)) == [name]
    found = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.db")}
    assert found == {Path(name, "study.db") for name in ODD_NAMES}


def test_somebody_who_reads_does_not_stop_those_who_write(tmp_path, monkeypatch):
    """What the write-ahead log is for: a dashboard, say, in the middle of a long query."""
    monkeypatch.setattr(storage_module, "_PATIENCE_S", 0.1)
    study = optuna.create_study(storage=open_storage(f"sqlite:///{tmp_path / 'study.db'}"))
    with sqlite3.connect(tmp_path / "study.db") as reader:
        rows = reader.execute("SELECT * FROM version_info UNION SELECT * FROM version_info")
        rows.fetchone()
        reader.execute("BEGIN").execute("SELECT * FROM studies").fetchone()
        study.set_user_attr("written", True)
    reader.close()
    assert study.user_attrs["written"]


def test_every_connection_to_sqlite_leaves_fsync_to_the_checkpoints(tmp_path):
    storage = open_storage(f"sqlite:///{tmp_path / 'study.db'}")
    with storage.engine.connect() as first, storage.engine.connect() as second:
        for connection in (first, second):
            pragmas = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous")
            ]
            assert pragmas == ["wal", 1]  # 1: NORMAL


# ------------------------------------------------------------------ full and read-only


def search_with_a_full_disk(spec, room):
    """The size of files is limited: writes end in the middle, as on a full disk."""
    used = max(path.stat().st_size for path in Path(spec.folder).iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (used + room, used + room))
    try:
        search(spec)
    except Exception as error:
        os.write(2, f"{type(error).__module__} {reason(error)}".encode())
        os._exit(7)


@pytest.mark.parametrize("name", ["study.db", "study.log"])
def test_a_full_disk_ends_the_search_and_spoils_nothing(tmp_path, name):
    storage = str(tmp_path / name) if name.endswith("log") else f"sqlite:///{tmp_path / name}"
    spec = spec_in(tmp_path, storage=storage, evaluations=10)
    before = run_study(spec, problem_of(spec), progress=False).study.trials
    longer = spec_in(tmp_path, storage=storage, evaluations=60)
    process = PROCESSES.Process(target=search_with_a_full_disk, args=(longer, 3_000))
    process.start()
    process.join(60)
    assert process.exitcode == 7
    after = open_study(spec).trials
    assert [trial.params for trial in after[:10]] == [trial.params for trial in before]
    study = run_study(longer, problem_of(longer), progress=False).study
    assert sum(trial.state == TrialState.COMPLETE for trial in study.trials) == 60


def open_as_nobody(url):
    if os.geteuid() == 0:
        os.setuid(65534)
    try:
        open_storage(url)
    except StudyError:
        os._exit(7)


@pytest.mark.parametrize("name", ["study.db", "study.log", "below/study.db", "below/study.log"])
def test_a_read_only_folder_is_a_clean_error(name):
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        folder.chmod(0o555)
        url = str(folder / name) if name.endswith("log") else f"sqlite:///{folder / name}"
        process = PROCESSES.Process(target=open_as_nobody, args=(url,))
        process.start()
        process.join(60)
        assert process.exitcode == 7
        assert list(folder.iterdir()) == []
    finally:
        shutil.rmtree(folder)


def test_a_proxy_that_is_not_there_is_a_clean_error(monkeypatch):
    monkeypatch.setattr(storage_module, "_PROXY_WAIT_S", 0.5)
    with pytest.raises(StudyError, match=r"cannot open the storage 'grpc://127.0.0.1:1': ConnectionError"):
        open_storage("grpc://127.0.0.1:1")
    for url in ("grpc://", "grpc://host", "grpc://host:port"):
        with pytest.raises(StudyError, match=r"not the address of a storage(?s:.*)grpc://HOST:PORT"):
            open_storage(url)


# ------------------------------------------------------------------ away for a while


class Interrupting(FormulaEvaluator):
    """Stops the database while it evaluates its second batch."""

    def __init__(self, server, away_s):
        super().__init__(SPACE)
        self.server, self.away_s, self.evaluated = server, away_s, 0

    def evaluate(self, configs):
        self.evaluated += len(configs)
        if self.evaluated == 10:
            self.server.stop()
            if self.away_s is not None:
                threading.Timer(self.away_s, self.server.start).start()
        return super().evaluate(configs)


@pytest.mark.postgres
def test_a_database_that_comes_back_costs_no_evaluation(tmp_path, postgres, caplog):
    spec = spec_in(tmp_path, name="away", storage=postgres.url, evaluations=20)
    evaluator = Interrupting(postgres, 1.0)
    problem = problem_of(spec)
    object.__setattr__(problem, "evaluator", evaluator)
    with caplog.at_level(logging.WARNING, logger="aspk.study.retry"):
        result = run_study(spec, problem, progress=False)
    assert (result.evaluations, evaluator.evaluated) == (20, 20)
    assert [trial.state for trial in result.study.trials] == [TrialState.COMPLETE] * 20
    assert "the storage is unreachable, trying again in 0.2 s" in caplog.text


@pytest.mark.postgres
def test_a_database_that_stays_away_is_a_clear_error(tmp_path, postgres):
    spec = spec_in(tmp_path, name="gone", storage=postgres.url, evaluations=20)
    problem = problem_of(spec)
    object.__setattr__(problem, "evaluator", Interrupting(postgres, None))
    settings = dataclasses.replace(HASTY, patience_s=1.0)
    try:
        with pytest.raises(StudyError, match=r"was unreachable for 1 s: .*the same command goes on"):
            run_study(spec, problem, progress=False, settings=settings)
    finally:
        postgres.start()
    assert run_study(spec, problem_of(spec), progress=False, settings=HASTY).evaluations == 20


def test_what_passes_and_what_does_not():
    def operational(text):
        inner = sqlalchemy.exc.OperationalError("INSERT", {}, sqlite3.OperationalError(text))
        outer = optuna.exceptions.StorageInternalError("An exception is raised during the commit.")
        outer.__cause__ = inner
        return outer

    assert is_passing(operational("database is locked"))
    assert not is_passing(operational("database or disk is full"))
    assert reason(operational("database or disk is full")) == "database or disk is full"
    refused = sqlalchemy.exc.OperationalError("SELECT", {}, psycopg.OperationalError("connection refused"))
    stopped = sqlalchemy.exc.OperationalError("SELECT", {}, psycopg.errors.AdminShutdown("shutting down"))
    full = sqlalchemy.exc.OperationalError("INSERT", {}, psycopg.errors.DiskFull("no space left on device"))
    assert [is_passing(error) for error in (refused, stopped, full)] == [True, True, False]
    assert is_passing(sqlalchemy.exc.PendingRollbackError("Can't reconnect until ..."))
    assert not is_passing(OSError(28, "No space left on device"))
    assert not is_passing(ValueError("a bug"))


def test_other_errors_are_raised_at_once():
    calls = []

    def broken():
        calls.append(1)
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        patiently(broken, patience_s=10)
    assert calls == [1]


# ------------------------------------------------------------------ addresses


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("runs/study.db", "this is not the address of a storage"),
        ("", "this is not the address of a storage"),
        (".", "this is not the address of a storage"),
        ("sqlite:/study.db", "this is not the address of a storage"),
        ("sqlite://runs/study.db", "this is not the address of a storage"),
        ("postgresql:/me@h/study.log", "this is not the address of a storage"),
        ("host=h dbname=study.log", "this is not the address of a storage"),
        ("postgres://me@h/d", "no kind of database has that name"),
        ("postgresql://me@h:port/d", "this is not the address of a storage"),
        ("grpc://h", "this is not the address of a storage"),
        ("grpc://me@h:1", "this is not the address of a storage"),
        ("oracle+no_such_driver://me@h/d", "no kind of database has that name"),
        ("mysql+pymysql://me@h/d", "the Python package pymysql is not installed"),
    ],
)
def test_an_address_that_is_no_storage_is_answered_with_the_forms_that_work(
    tmp_path, monkeypatch, address, why
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError) as refused:
        open_storage(address)
    with pytest.raises(StudyError) as checked:
        check_address(address)
    assert str(checked.value) == str(refused.value)
    assert why in str(refused.value)
    for form in (
        "sqlite:///runs",
        ".log",
        "postgresql+psycopg://USER",
        "'aspk[postgres]'",
        "grpc://HOST:PORT",
    ):
        assert form in str(refused.value)
    assert list(tmp_path.iterdir()) == []  # nor is a file of that name made


@pytest.mark.parametrize("address", ["runs/study.db", "mysql+pymysql://me:secret@h/d"])
def test_commands_refuse_it_before_they_begin(tmp_path, monkeypatch, capsys, address):
    monkeypatch.chdir(tmp_path)
    Path("own.toml").write_text(f'space = "tiny"\ndata = "digits"\nstorage = "{address}"')
    for arguments in (
        *(f"{command} own.toml" for command in ("check", "train", "search", "report", "compare", "export")),
        *(f"{command} own.toml" for command in ("dashboard", "reproduce", "surrogate", "energy")),
        f"optuna studies --storage {address}",
        f"optuna studies --storage={address}",
    ):
        assert main(arguments.split()) == 1, arguments
        said = capsys.readouterr().err
        assert "runs/digits/study.log" in said, arguments
        assert "secret" not in said
    monkeypatch.setenv("OPTUNA_STORAGE", address)
    assert main(["optuna", "studies"]) == 1
    assert "runs/digits/study.log" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["own.toml"]


def test_optuna_makes_a_journal(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["optuna", "create-study", "--study-name", "a", "--storage", "study.log"]) == 0
    assert main(["optuna", "studies", "--storage", "study.log", "--format", "json"]) == 0
    assert '"a"' in capsys.readouterr().out


def test_forms_that_messages_show_are_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for address in ("sqlite:///runs/digits/study.db", "runs/digits/study.log", "journal:lr=0.1/b.log"):
        open_storage(address)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")} >= {
        "runs/digits/study.db",
        "runs/digits/study.log",
        "lr=0.1/b.log",
    }


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StudyError, match="package psycopg is not installed"):
        open_storage("postgresql+psycopg://me@h/d")


def test_the_stock_journal_reads_what_ours_wrote(tmp_path):
    spec = spec_in(tmp_path, storage=str(tmp_path / "study.log"), evaluations=5)
    run_study(spec, problem_of(spec), progress=False)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "study.log")))
    assert len(optuna.load_study(study_name=spec.name, storage=storage).trials) == 5


# ---------------------------------------------------------------------- studies that are not there


def storage_with(folder, *names):
    """A journal with empty studies."""
    storage = open_storage(str(folder / "study.log"))
    for name in names:
        optuna.create_study(study_name=name, storage=storage)
    return str(folder / "study.log")


def refusal(spec):
    with pytest.raises(StudyError) as caught:
        open_study(spec)
    return str(caught.value)


def test_siblings_are_named_with_the_option_that_picks_each(tmp_path):
    url = storage_with(tmp_path, "formula-nsga2", "formula-random", "formula-mine", "other")
    found = "but 'formula-nsga2' with --sampler nsga2, 'formula-random' with --sampler random; 'aspk search'"
    own = spec_in(tmp_path, storage=url)
    assert f"no study 'formula' in {url}, {found}" in refusal(own)
    for sampler in ("nsga2", "random"):
        assert open_study(with_sampler(own, sampler)).study_name == f"formula-{sampler}"
    assert f"no study 'formula-surrogate' in {url}, {found}" in refusal(with_sampler(own, "surrogate"))
    storage_with(tmp_path, "formula")
    assert "but 'formula' with no --sampler, 'form" in refusal(with_sampler(own, "surrogate"))


def test_a_study_of_trained_networks_is_made_by_refine(tmp_path):
    spec = spec_in(tmp_path, storage=storage_with(tmp_path, "formula"))
    for aim in ("objectives", "f_aeb"):
        assert "(there: 'formula'); 'aspk refine' makes it" in refusal(refined(spec, aim=aim))


def test_without_siblings_some_other_studies_are_named(tmp_path):
    spec = spec_in(tmp_path, storage=storage_with(tmp_path, *(f"study {i:02}" for i in range(13))))
    assert "(there: 'study 00', 'study 01'" in refusal(spec)
    assert "'study 09' and 3 more); 'aspk search' makes it" in refusal(spec)
    (tmp_path / "empty").mkdir()
    spec = dataclasses.replace(spec, storage=storage_with(tmp_path / "empty"))
    assert "(there: none)" in refusal(spec)
