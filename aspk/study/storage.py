"""Storages and the studies in them."""

from __future__ import annotations

import logging
import os
import random
import re
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import Trial, TrialState
from sqlalchemy.engine.interfaces import DBAPIConnection

from aspk.errors import StudyError
from aspk.space.file import load_space
from aspk.spec.samplers import SAMPLERS
from aspk.spec.study import StudySpec, maker
from aspk.study.address import file_of, host_and_port, is_journal, refused
from aspk.trials import study_record
from aspk.trials.attributes import CONTEXT, SPACE, SPEC, VERDICT, mapping_in
from aspk.trials.verdict import UNKNOWN, read_verdict
from aspk.util.files import hash_of
from aspk.util.passwords import masked

_LOGGER = logging.getLogger(__name__)
_Held = tuple[int, int]  # a lock's inode and the nanosecond it was made
_BLOCK = 1 << 16  # bytes read at once in search of a journal's last whole line
_PATIENCE_S = 60  # how long SQLite waits for another process's transaction
_PROXY_WAIT_S = 10
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.5  # between two looks at a lock
_GRACE_S = 10  # after which a lock on a journal is broken: its holder, who needs milliseconds, was killed
# SQLite: a commit then needs no fsync, and survives a killed process all the same.
_WRITE_AHEAD = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL")
# PostgreSQL: Optuna looks up some earlier record of each parameter in the study. By default, the planner
# scans a table that other studies fill from its beginning, which takes milliseconds for each parameter.
_BY_INDEX = ("SET enable_seqscan = off", "SET plan_cache_mode = force_generic_plan")
_MOST_NAMES = 10  # of other studies that a message lists
_ATTEMPTS = 8  # to open a new database that other processes are filling with tables at this moment


def open_storage(url: str) -> BaseStorage:
    """An Optuna storage.

    Args:
        url: a database URL, ``grpc://HOST:PORT`` of a proxy, or a journal file (``*.log``).

    Raises:
        StudyError: the storage cannot be opened, or this is not the address of one. Neither the message nor
            the errors behind it show a password.
    """
    try:
        if is_journal(url):
            return _open_journal(Path(url.removeprefix("journal:")))
        if url.startswith("grpc://"):
            return _open_proxy(url)
        return _open_database(url)
    except Exception as error:  # SQLAlchemy's, gRPC's and the file system's own errors
        refusal = refused(error, url)
    raise refusal  # outside of the handler, so that no traceback shows the driver's error as its context


def _open_journal(path: Path) -> JournalStorage:
    path = path.resolve()  # stays the same file and lock if the process changes its folder
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _JournalLock(path)
    if _is_torn(path):
        lock.acquire()
        lock.release()
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


def _open_proxy(url: str) -> GrpcStorageProxy:
    host, port = host_and_port(url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        proxy = GrpcStorageProxy(host=host, port=port)
    proxy.wait_server_ready(timeout=_PROXY_WAIT_S)
    return proxy


def _open_database(url: str) -> RDBStorage:
    # A connection that died while networks were evaluated is replaced before it is used.
    options: dict[str, object] = {"pool_pre_ping": True}
    if url.startswith("sqlite"):
        options = {"connect_args": {"timeout": _PATIENCE_S}}
        if file := file_of(url):
            file.parent.mkdir(parents=True, exist_ok=True)
    storage = _create_tables(url, options)
    if url.startswith("sqlite"):
        _configure(storage, _WRITE_AHEAD)
    elif url.startswith("postgresql"):
        _configure(storage, _BY_INDEX)
    _flush_together(storage)
    return storage


def _create_tables(url: str, options: dict[str, object]) -> RDBStorage:
    """Open a database; Optuna makes its tables, and workers that start together get in each other's way."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return RDBStorage(url, engine_kwargs=options)
        except sqlalchemy.exc.SQLAlchemyError as error:
            others_at_work = re.search(r"already exists|duplicate key|UNIQUE|locked|pg_type", str(error))
            if attempt == _ATTEMPTS or others_at_work is None:
                raise
            time.sleep(random.uniform(0.05, 0.2) * attempt)
    raise AssertionError("unreachable")


def _configure(storage: RDBStorage, statements: Sequence[str]) -> None:
    """Run statements on each connection of a storage before anything else."""

    def configure(connection: DBAPIConnection, record: object) -> None:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()
        connection.commit()

    sqlalchemy.event.listen(storage.engine, "connect", configure)
    storage.engine.dispose()  # connections that are open already were not configured


def _flush_together(storage: RDBStorage) -> None:
    """Send all inserts of a transaction together at its end, instead of one row before each query.

    Optuna queries the parameters of a new trial one by one and never what it has just inserted.
    """
    storage.remove_session()  # the one that made the tables
    storage.scoped_session.configure(autoflush=False)


class _JournalLock(JournalFileSymlinkLock):
    """Optuna's lock on a journal, a symbolic link beside it, with two differences.

    - Its age is that of the link. Optuna's own class looks at the file that the link leads to and waits
      forever if there is none: a relative path seen from the journal's folder, a folder that was moved.
    - Whoever takes it first removes an unfinished last line. A full disk or a crash can leave such a line;
      appended to, it would spoil the journal for good.

    This lock and Optuna's own class exclude each other.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self._journal, self._link = journal, journal.with_name(f"{journal.name}.lock")

    def acquire(self) -> bool:
        """Wait for the lock, take it, and repair the file."""
        held: _Held | None = None
        since, pause = time.monotonic(), _FIRST_PAUSE_S
        while not self._take():
            found = _held(self._link)
            if found != held:  # released and taken by somebody else
                held, since, pause = found, time.monotonic(), _FIRST_PAUSE_S
            elif found is not None and time.monotonic() - since > _GRACE_S:
                _LOGGER.warning("%s was not released for %g s and is removed", self._link, _GRACE_S)
                self._remove()
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        try:
            if _is_torn(self._journal):
                os.truncate(self._journal, _whole_size(self._journal))
        except BaseException:
            self.release()
            raise
        return True

    def _take(self) -> bool:
        try:
            os.symlink(self._journal.name, self._link)  # leads to the journal from any folder
        except FileExistsError:
            return False
        return True

    def _remove(self) -> None:
        # Renamed first: of two processes that want to remove it, only one can.
        aside = self._link.with_name(f"{self._link.name}{uuid.uuid4()}.rename")
        with suppress(FileNotFoundError):
            os.rename(self._link, aside)
            os.unlink(aside)

    def release(self) -> None:
        """Release the lock; it is gone if this process stalled so long that another one removed it."""
        self._remove()


def _held(link: Path) -> _Held | None:
    """What distinguishes a lock from the next one of the same name; None if there is none."""
    try:
        found = os.lstat(link)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _is_torn(path: Path) -> bool:
    return path.exists() and _whole_size(path) < path.stat().st_size


def _whole_size(path: Path) -> int:
    """Bytes up to and including a file's last line feed."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - _BLOCK)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


# ---------------------------------------------------------------------- studies


def open_study(spec: StudySpec) -> optuna.Study:
    """An existing study, for reading.

    Raises:
        StudyError: there is none of that name.
    """
    storage = open_storage(spec.storage_url)
    try:
        return optuna.load_study(study_name=spec.name, storage=storage)
    except KeyError:
        place, instead = masked(spec.storage_url), _instead(spec, optuna.get_all_study_names(storage))
        raise StudyError(f"no study {spec.name!r} in {place}{instead}; {maker(spec)!r} makes it") from None


def _instead(spec: StudySpec, names: Sequence[str]) -> str:
    """What there is instead of a study: its siblings, each with the option that selects it, else others."""
    base = spec.name.removesuffix(f"-{spec.sampler}")
    options = {base: "no --sampler"} | {f"{base}-{sampler}": f"--sampler {sampler}" for sampler in SAMPLERS}
    siblings = [f"{name!r} with {option}" for name, option in options.items() if name in names]
    if siblings:
        return f", but {', '.join(siblings)}"
    shown, more = sorted(names)[:_MOST_NAMES], len(names) - _MOST_NAMES
    told = ", ".join(map(repr, shown)) or "none"
    return f" (there: {told}{f' and {more} more' if more > 0 else ''})"


def running_trial(spec: StudySpec, number: int) -> Trial:
    """One running trial of an existing study, to evaluate and tell.

    Raises:
        StudyError: there is no trial with that number, or it is not running.
    """
    study, storage = open_study(spec), open_storage(spec.storage_url)
    states = {trial.number: trial.state for trial in study.get_trials(deepcopy=False)}
    if states.get(number) != TrialState.RUNNING:
        found = f"is {states[number].name.lower()}" if number in states else "does not exist"
        raise StudyError(f"trial {number} of study {spec.name!r} {found}: expected a running one")
    study_id = storage.get_study_id_from_name(spec.name)
    return Trial(study, storage.get_trial_id_from_study_id_trial_number(study_id, number))


def studies_of(spec: StudySpec) -> list[optuna.Study]:
    """All studies in the spec's storage that solve its problem, whatever their sampler and seed.

    ``statistics = "auto"`` matches studies with any statistics; reports say where they differ.
    """
    storage, record = open_storage(spec.storage_url), spec.to_json()
    parts = ("objectives", "constraints", "energy")
    wanted, space = record["evaluation"], load_space(spec.space).to_json()
    weights = _weights_hash(spec)
    studies = [optuna.load_study(study_name=n, storage=storage) for n in optuna.get_all_study_names(storage)]
    found = []
    for study in studies:
        written = study_record(study)
        held = mapping_in(written, SPEC)
        taken = wanted["statistics"] if wanted["statistics"] == "auto" else statistics_of(study)
        evaluation = {**mapping_in(held, "evaluation"), "statistics": taken}
        same = written.get(SPACE) == space and _without_folder(held.get("data")) == _without_folder(
            record["data"]
        )
        trained = _recorded_weights(study)
        same &= None in (trained, weights) or trained == weights
        same &= "f_aeb" not in spec.objectives or _has_form(mapping_in(written, CONTEXT), spec)
        if same and evaluation == wanted and all(held.get(key) == record[key] for key in parts):
            found.append(study)
    return found


def _without_folder(data: object) -> object:
    """The data that a study uses, wherever their files are."""
    table = {"name": data} if isinstance(data, str) else data
    return {key: table[key] for key in table if key != "folder"} if isinstance(table, dict) else table


def _has_form(context: Mapping[str, Any], spec: StudySpec) -> bool:
    """Whether a study's F_AEB has the spec's form; one whose record lacks the form may have."""
    held, faeb = mapping_in(context, "faeb"), spec.faeb.of(1.0, 2)
    return not held or held == {"form": faeb.form, "weight": faeb.energy_weight, "floor": faeb.floor}


def require_weights(study: optuna.Study, spec: StudySpec) -> None:
    """Refuse weights other than those with which a study's networks were measured.

    Raises:
        StudyError: the spec's weights have changed since.
    """
    known, own = _recorded_weights(study), _weights_hash(spec)
    if None not in (known, own) and known != own:
        raise StudyError(
            f"{spec.weights_file} has other weights (SHA-256 {own}) than those that study "
            f"{study.study_name!r} measured its networks with ({known}): put these back, or search with the "
            "new ones in a study of another name"
        )


def _recorded_weights(study: optuna.Study) -> str | None:
    """SHA-256 of the weights that a study was begun with; None where it records none."""
    context = mapping_in(study_record(study), CONTEXT)
    return mapping_in(context, "fingerprints").get("weights")


def statistics_of(study: optuna.Study) -> str | None:
    """The statistics that a study's networks are evaluated with; None for a study that aspk did not begin.

    Studies older than this setting record none: they used ``own``.
    """
    context = mapping_in(study_record(study), CONTEXT)
    return taken_statistics(context) if context else None


def taken_statistics(context: Mapping[str, Any]) -> str:
    """The statistics that a study's context names."""
    return str(mapping_in(context, "evaluation").get("statistics", "own"))


def with_recorded_statistics(spec: StudySpec) -> StudySpec:
    """The spec with ``auto`` replaced by the statistics that its study was begun with.

    Networks of one study that were evaluated with different statistics could not be compared, so a study
    keeps what it has; if there is no study yet, the spec is unchanged. This creates no storage.

    Raises:
        StudyError: the storage cannot be opened.
    """
    file = file_of(spec.storage_url)
    if spec.evaluation.statistics != "auto" or (file is not None and not file.exists()):
        return spec
    storage = open_storage(spec.storage_url)
    try:
        taken = statistics_of(optuna.load_study(study_name=spec.name, storage=storage))
    except KeyError:
        return spec
    if taken is None:
        return spec
    return replace(spec, evaluation=replace(spec.evaluation, statistics=taken))  # type: ignore[arg-type]  # the settings check it


def verdict_of(spec: StudySpec, statistics: str) -> str:
    """What 'aspk rank' found about the study's supernet: a sentence from the rank.json beside the weights.

    Args:
        spec: the study.
        statistics: the statistics that its networks are evaluated with.
    """
    weights = _weights_hash(spec)
    return (
        UNKNOWN
        if weights is None
        else read_verdict(spec.weights_file.parent / "rank.json", weights, statistics)
    )


def _weights_hash(spec: StudySpec) -> str | None:
    """SHA-256 of the study's weights; None where there are none that can be read."""
    try:
        return hash_of(spec.weights_file)
    except OSError:
        return None


def record_verdict(study: optuna.Study, verdict: str) -> None:
    """Keep the verdict with the study, where reports read it."""
    if study.user_attrs.get(VERDICT) != verdict:
        study.set_user_attr(VERDICT, verdict)


def renew_verdict(study: optuna.Study, spec: StudySpec, statistics: str) -> None:
    """Keep what a later 'aspk rank' found with the study, if it is about the weights that it measured."""
    known, own = _recorded_weights(study), _weights_hash(spec)
    if own is not None and known in (None, own):
        record_verdict(study, verdict_of(spec, statistics))
