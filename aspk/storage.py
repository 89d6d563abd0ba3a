"""Storages, the studies in them, and the trials that a killed process left there."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from sqlalchemy.engine.interfaces import DBAPIConnection

from aspk.attributes import SPEC, VERDICT, WORKER
from aspk.errors import StudyError
from aspk.ranking.statistics import UNKNOWN, read_verdict
from aspk.study_file import StudySpec


def open_storage(url: str) -> BaseStorage:
    """An Optuna storage: a database URL, or a journal file (``*.log``).

    Raises:
        StudyError: the storage cannot be opened.
    """
    try:
        if url.endswith(".log"):
            path = Path(url.removeprefix("journal:"))
            path.parent.mkdir(parents=True, exist_ok=True)
            _cut_torn_line(path)
            return JournalStorage(JournalFileBackend(str(path)))
        if url.startswith("sqlite:///"):
            Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        storage = RDBStorage(url)
        if url.startswith("sqlite"):
            _log_ahead(storage)
        return storage
    except Exception as error:  # SQLAlchemy's and the file system's own errors
        raise StudyError(f"cannot open the storage: {type(error).__name__}: {error}") from None


def _log_ahead(storage: RDBStorage) -> None:
    """Let SQLite write ahead: a commit then needs no fsync, and survives a killed process all the same."""

    def configure(connection: DBAPIConnection, record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    sqlalchemy.event.listen(storage.engine, "connect", configure)
    storage.engine.dispose()  # what is open already was not configured


def _cut_torn_line(path: Path) -> None:
    """Drop a last line that a killed process left unfinished; appended to, it would spoil the journal."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def open_study(spec: StudySpec) -> optuna.Study:
    """An existing study, for reading.

    Raises:
        StudyError: there is none of that name.
    """
    storage = open_storage(spec.storage_url)
    try:
        return optuna.load_study(study_name=spec.name, storage=storage)
    except KeyError:
        known = ", ".join(optuna.get_all_study_names(storage)) or "none"
        raise StudyError(
            f"no study {spec.name!r} in the storage (there: {known}); run 'aspk search'"
        ) from None


def studies_of(spec: StudySpec) -> list[optuna.Study]:
    """All studies in the spec's storage that ask its question, whatever their sampler and seed."""
    storage, record = open_storage(spec.storage_url), spec.to_json()
    asks = ("space", "data", "objectives", "constraints", "energy", "evaluation", "weights")
    studies = [optuna.load_study(study_name=n, storage=storage) for n in optuna.get_all_study_names(storage)]
    return [
        study
        for study in studies
        if all(study.user_attrs.get(SPEC, {}).get(key) == record[key] for key in asks)
    ]


def verdict_of(spec: StudySpec) -> str:
    """What 'aspk rank' found of the study's supernet: a sentence from the rank.json beside the weights."""
    try:
        fingerprint = hashlib.sha256(spec.weights_file.read_bytes()).hexdigest()
    except OSError:
        return UNKNOWN
    return read_verdict(spec.weights_file.parent / "rank.json", fingerprint)


def record_verdict(study: optuna.Study, verdict: str) -> None:
    """Keep the verdict with the study, where reports read it."""
    if study.user_attrs.get(VERDICT) != verdict:
        study.set_user_attr(VERDICT, verdict)


def requeue_abandoned(study: optuna.Study) -> int:
    """Fail the RUNNING trials of processes of this machine that are gone, and enqueue their networks again.

    Returns:
        How many there were.
    """
    count = 0
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        worker = trial.user_attrs.get(WORKER, "")
        host, _, process = str(worker).partition(" ")
        if host == socket.gethostname() and not _alive(process):
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)
            count += 1
    return count


def this_worker() -> str:
    """This process, in a form that :func:`requeue_abandoned` understands."""
    return f"{socket.gethostname()} {os.getpid()}:{_started(os.getpid())}"


def _alive(process: str) -> bool:
    pid, _, started = process.partition(":")
    return pid.isdigit() and bool(started) and _started(int(pid)) == started


def _started(pid: int) -> str:
    """When a process started, which tells it from a later one of its number; '' if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        pass
    try:  # without /proc
        os.kill(pid, 0)
    except OSError:
        return ""
    return "running"
