"""A space with fewer networks than the budget ends the search, with a sentence."""

from __future__ import annotations

import dataclasses

import pytest
from optuna.trial import TrialState
from test_study import DATA, SPACE

from aspk.errors import EvaluationError
from aspk.report import pareto_text, summarise
from aspk.spec.study import StudySpec
from aspk.study import run_study, study_problem
from aspk.testing import FormulaEvaluator

VARIED = ("time_steps", "embed_dim")
FEW = SPACE.fixed([name for name in (*SPACE.network, *SPACE.block) if name not in VARIED])


class Alike:
    """All networks of a width behave alike; those that are told to fail."""

    def __init__(self, fails=lambda config: False):
        self.fails = fails

    def evaluate(self, configs):
        metrics = FormulaEvaluator(FEW).evaluate([dataclasses.replace(c, time_steps=2) for c in configs])
        return [
            EvaluationError("told to fail") if self.fails(config) else found
            for config, found in zip(configs, metrics, strict=True)
        ]


def searched(folder, sampler, evaluator, **changes):
    spec = StudySpec(name="few", space="tiny", data=DATA, folder=folder, sampler=sampler, **changes)
    problem = study_problem(spec, evaluator, classes=10)
    problem = dataclasses.replace(problem, space=FEW)
    return run_study(spec, problem, progress=False), problem


@pytest.mark.parametrize("sampler", ["surrogate", "nsga2", "evolutionary", "random"])
def test_every_network_once_and_then_the_end(tmp_path, sampler, caplog):
    result, _ = searched(tmp_path, sampler, Alike(), evaluations=60, batch=7)
    assert FEW.size == 16
    assert (result.finished, result.exhausted, result.evaluations) == (True, True, 16)
    assert len(result.study.trials) == 16
    assert "has no network left: the search ends with 16 of 60 evaluations" in caplog.text


def test_failed_networks_are_no_reason_to_go_on(tmp_path):
    evaluator = Alike(lambda config: config.time_steps == 1)
    result, _ = searched(tmp_path, "nsga2", evaluator, evaluations=60, batch=5)
    assert (result.exhausted, result.evaluations) == (True, 12)
    failed = result.study.get_trials(states=(TrialState.FAIL,))
    assert len(failed) == 4


def test_a_budget_within_the_space_is_spent(tmp_path):
    result, _ = searched(tmp_path, "random", Alike(), evaluations=16, batch=5)
    assert (result.finished, result.exhausted, result.evaluations) == (True, False, 16)


def test_networks_that_behave_alike_stand_on_the_front_once(tmp_path):
    result, _ = searched(tmp_path, "random", Alike(), evaluations=60, batch=16)
    summary = summarise(result.study)
    assert [row.alike for row in summary.front] == [4] * len(summary.front)
    assert 1 <= len(summary.front) <= 4
    assert "alike" in pareto_text(summary).splitlines()[0].split()
