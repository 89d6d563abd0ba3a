"""Attributes that somebody else wrote to studies and trials: read as far as they are what aspk writes."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState, create_trial
from worker_processes import HASTY, problem_of, spec_in

from aspk.energy import STRICT
from aspk.errors import AspkError, MetricsError
from aspk.metrics import LayerCount, Metrics
from aspk.objectives.scalarization import FAEB
from aspk.report import pareto_text, summarise, write_report
from aspk.report.dashboard import dress, front_plot, note
from aspk.report.energy.rebilling import rebill
from aspk.report.tables import csv_text
from aspk.study import create_or_resume, reproduce, run_study
from aspk.study.problem import f_aeb_of
from aspk.study.storage import studies_of
from aspk.trials import attributes
from aspk.util.numbers import is_count, is_finite
from studies import made_study

HUGE = 10**400  # a whole number that no float holds
few_or_many = pytest.mark.parametrize("examples", [10, pytest.param(600, marks=pytest.mark.slow)])
numbers = st.booleans() | st.sampled_from([-1, 0, 3, HUGE, 1e308]) | st.floats()
values = st.recursive(
    st.none() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
STUDY = (attributes.SPEC, attributes.SPACE, attributes.CONTEXT, attributes.VERDICT)
TRIAL = (
    *("accuracy", "energy_mj", "parameters", "operations", "spikes", "firing_rate"),
    *(attributes.LAYERS, attributes.CONSTRAINTS, attributes.FAILURE, attributes.WORKER, attributes.BEAT),
    *(attributes.BATCH, attributes.AGAIN),
)
paths = st.lists(st.integers(0, 30), max_size=4)
study_edits = st.lists(st.tuples(st.sampled_from(STUDY), paths, values), max_size=2)
trial_edits = st.lists(st.tuples(st.sampled_from(TRIAL), paths, values), min_size=1, max_size=4)


def replaced(tree, path, value):
    """``tree`` with the value that a path of positions leads to replaced."""
    if isinstance(tree, dict | list) and tree and path:
        keys = list(tree) if isinstance(tree, dict) else range(len(tree))
        key = keys[path[0] % len(keys)]
        copy = dict(tree) if isinstance(tree, dict) else list(tree)
        copy[key] = replaced(tree[key], path[1:], value)
        return copy
    return value


def edit(study, of_study, of_trial, genotype, state=TrialState.COMPLETE):
    """Somebody else writes attributes: of the study, and of a new trial with the best values of all."""
    for key, path, value in of_study:
        study.set_user_attr(key, replaced(study.user_attrs.get(key), path, value))
    model = study.trials[0]
    held = dict(model.user_attrs)
    for key, path, value in of_trial:
        held[key] = replaced(held.get(key), path, value)
    study.add_trial(
        create_trial(
            state=state,
            values=None if state == TrialState.FAIL else [0.99, 1e-9],
            params=model.params,
            distributions=model.distributions,
            user_attrs=held,
            system_attrs={attributes.GENOTYPE: genotype},
        )
    )


@few_or_many
def test_reports_and_dashboards_of_edited_studies(tmp_path, examples):
    pytest.importorskip("optuna_dashboard")

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(study_edits, trial_edits, values)
    def check(of_study, of_trial, genotype):
        study = made_study(8)
        edit(study, of_study, of_trial, genotype)
        summary = summarise(study)
        write_report(study, tmp_path / "report", others=[study])
        for text in (pareto_text(summary), csv_text(summary), note(summary), front_plot(summary).to_json()):
            assert text
        dress(study, study._storage, spec_in(tmp_path), models=False)
        with contextlib.suppress(AspkError):
            rebill(study, STRICT)

    check()


@few_or_many
@pytest.mark.parametrize("sampler", ["surrogate", "evolutionary"])
def test_searches_go_on_beside_edited_trials(tmp_path, examples, sampler):
    names = iter(range(10**6))

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck))
    @given(study_edits, trial_edits, values, st.sampled_from([TrialState.COMPLETE, TrialState.FAIL]))
    def check(of_study, of_trial, genotype, state):
        name = f"study-{next(names)}"
        place = str(tmp_path / f"{name}.log")
        spec = spec_in(tmp_path, name=name, sampler=sampler, evaluations=6, storage=place)
        problem, more = problem_of(spec), dataclasses.replace(spec, evaluations=12)
        study = run_study(spec, problem, progress=False).study
        edit(study, of_study, of_trial, genotype, state)
        assert of_study or [found.study_name for found in studies_of(spec)] == [name]
        with contextlib.suppress(AspkError):  # more than the undisturbed search of one worker
            reproduce(study, spec, problem, progress=False)
        with contextlib.suppress(AspkError) if of_study else contextlib.nullcontext():
            create_or_resume(spec, problem)
            assert run_study(more, problem, progress=False, settings=HASTY).finished

    check()


@pytest.mark.timeout(60)
def test_abandoned_trials_that_repeat_each_other_in_a_circle_end_no_search(tmp_path):
    spec = spec_in(tmp_path, evaluations=4, batch=4)
    problem = problem_of(spec)
    study = run_study(spec, problem, progress=False).study
    model = study.trials[0]
    for again in (5, 4, [1], {"a": 1}, True, -3, HUGE):  # trials 4 and 5 repeat each other
        study.add_trial(
            create_trial(
                state=TrialState.FAIL,
                params=model.params,
                distributions=model.distributions,
                user_attrs={attributes.WORKER: "gone", attributes.AGAIN: again},
            )
        )
    more = dataclasses.replace(spec, evaluations=6)
    assert run_study(more, problem, progress=False, settings=HASTY).finished


@pytest.mark.parametrize("value", [HUGE, -HUGE, "0.5", True, float("nan"), float("inf"), [0.5]])
def test_what_is_no_finite_number_is_no_metric(value):
    assert not is_finite(value)
    assert not is_count(value)
    with pytest.raises(MetricsError, match="expected a finite number"):
        Metrics(accuracy=value, energy_mj=1.0)
    trial = create_trial(values=[1.0, 1.0], user_attrs={"accuracy": value, "energy_mj": 0.1})
    assert f_aeb_of(trial, FAEB(reference_energy_mj=1.0, classes=10)) == -float("inf")


@pytest.mark.parametrize(
    "change", [{"name": ["a"]}, {"kind": 3}, {"kind": "plural"}, {"source": "thin air"}, {"input_size": HUGE}]
)
def test_a_layer_is_of_a_kind_that_is_known(change):
    (first, *_) = summarise(made_study(1)).trials[0].metrics.layers
    assert LayerCount(**dataclasses.asdict(first)) == first
    with pytest.raises(MetricsError):
        LayerCount(**{**dataclasses.asdict(first), **change})


def test_counts_are_whole_and_exact_as_floats():
    assert is_count(2**53)
    assert not is_count(2**53 + 1)
    assert is_count(1, 1)
    assert not is_count(0, 1)
    assert not is_count(1.0)
    assert is_finite(2**1023)
