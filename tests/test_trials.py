"""Trials are written in few transactions, and read like those that Optuna writes."""

from __future__ import annotations

from collections import Counter

import optuna
import pytest
import sqlalchemy
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import TrialState, create_trial

from aspk.study.storage import open_storage
from aspk.trials import complete, create_running

PARAMETERS = {"z": 0.5, "depth": 3, "a": "lif", "width": 64}
DISTRIBUTIONS = {
    "z": FloatDistribution(0.0, 1.0),
    "depth": IntDistribution(1, 4),
    "a": CategoricalDistribution(["lif", "plif"]),
    "width": IntDistribution(32, 128, step=32),
}
CONTENT = {"user_attributes": {"who": "w", "batch": [0, 1]}, "system_attributes": {"aspk:genotype": [2, 3]}}


def study_in(storage):
    return optuna.create_study(storage=storage, directions=["maximize", "minimize"])


@pytest.fixture(params=["sqlite", "journal", "memory"])
def storage(request, tmp_path):
    kind = request.param
    if kind == "memory":
        return InMemoryStorage()
    return open_storage(f"sqlite:///{tmp_path / 'a.db'}" if kind == "sqlite" else str(tmp_path / "a.log"))


def test_a_created_trial_runs_with_everything_and_is_completed_once(storage):
    study = study_in(storage)
    create_running(study, PARAMETERS, DISTRIBUTIONS, **CONTENT)
    trial = create_running(study, PARAMETERS, DISTRIBUTIONS, **CONTENT)
    (held,) = optuna.load_study(study_name=study.study_name, storage=storage).get_trials()[1:]
    assert held.state == TrialState.RUNNING
    assert list(held.params.items()) == list(PARAMETERS.items())
    assert held.distributions == DISTRIBUTIONS
    assert held.user_attrs == CONTENT["user_attributes"]
    assert held.system_attrs == CONTENT["system_attributes"]
    complete(trial, [0.5, 2.0])
    states = [(t.number, t.state, t.values) for t in study.get_trials()]
    assert states == [(0, TrialState.RUNNING, None), (1, TrialState.COMPLETE, [0.5, 2.0])]
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        complete(trial, [0.1, 0.1])
    assert study.get_trials()[1].values == [0.5, 2.0]


def counted(storage):
    """A study, and the statements, by their first word, and transactions since the last look."""
    counts: Counter[str] = Counter()
    study = study_in(storage)
    sqlalchemy.event.listen(
        storage.engine, "before_cursor_execute", lambda *a: counts.update([a[2].split()[0].lower()])
    )
    sqlalchemy.event.listen(storage.engine, "commit", lambda _: counts.update(["commits"]))

    def since():
        found = dict(counts)
        counts.clear()
        return found

    return study, since


def test_a_trial_is_made_in_one_transaction_and_read_in_one(tmp_path):
    study, since = counted(open_storage(f"sqlite:///{tmp_path / 'a.db'}"))
    create_running(study, PARAMETERS, DISTRIBUTIONS, **CONTENT)
    found = since()
    # the trial, four parameters, three attributes; its state and number
    assert (found["insert"], found["update"], found["commits"]) == (8, 1, 2)


@pytest.mark.postgres
def test_postgresql_takes_all_parameters_by_one_statement(postgres):
    study, since = counted(open_storage(postgres.url))
    create_running(study, PARAMETERS, DISTRIBUTIONS, **CONTENT)
    found = since()
    assert (found["insert"], found["update"], found["commits"]) == (5, 1, 2)


def test_completing_a_trial_reads_no_more_than_it_must(tmp_path):
    study, since = counted(open_storage(f"sqlite:///{tmp_path / 'a.db'}"))
    trial = create_running(study, PARAMETERS, DISTRIBUTIONS, **CONTENT)
    since()
    complete(trial, [0.5, 2.0])
    # the trial's state and each value's place; SQLite takes the two values one by one
    assert since() == {"select": 3, "insert": 2, "update": 1, "commits": 1}


def test_what_is_flushed_together_reads_like_what_optuna_flushes(tmp_path):
    def trials(storage):
        study = study_in(storage)
        for step in range(3):
            study.add_trial(
                create_trial(
                    values=[float(step), float("inf")],
                    params=PARAMETERS,
                    distributions=DISTRIBUTIONS,
                    user_attrs=CONTENT["user_attributes"],
                    system_attrs=CONTENT["system_attributes"],
                    intermediate_values={2: 0.5, 1: float("nan")},
                )
            )
            trial = study.ask(DISTRIBUTIONS)
            trial.set_user_attr("step", step)
            trial.set_user_attr("step", step + 1)
            trial.set_constraint("energy", -0.5)
            study.tell(trial, state=TrialState.FAIL)
        return [
            (t.number, t.state, t.values, list(t.params), t.distributions, t.user_attrs, t.system_attrs)
            for t in RDBStorage(str(storage.engine.url)).get_all_trials(1)
        ]

    ours = trials(open_storage(f"sqlite:///{tmp_path / 'ours.db'}"))
    assert ours == trials(RDBStorage(f"sqlite:///{tmp_path / 'stock.db'}"))
    assert len(ours) == 6
