"""Studies on a real PostgreSQL server."""

from __future__ import annotations

import pytest
from optuna.trial import TrialState

from aspk.space.file import load_space
from aspk.spec.settings import DataSettings
from aspk.spec.study import StudySpec
from aspk.study import run_study, study_problem
from aspk.study.storage import open_study
from aspk.testing import FormulaEvaluator

pytestmark = pytest.mark.postgres


@pytest.mark.parametrize("sampler", ["nsga2", "surrogate"])
def test_a_study_runs_and_resumes(postgres, tmp_path, sampler):
    space = load_space("tiny")
    spec = StudySpec(
        name=f"on-postgres-{sampler}",
        space="tiny",
        data=DataSettings(name="digits"),
        folder=tmp_path,
        storage=postgres.url,
        evaluations=10,
        batch=5,
        sampler=sampler,
    )
    problem = study_problem(spec, FormulaEvaluator(space), classes=10)
    assert run_study(spec, problem, progress=False).evaluations == 10
    assert run_study(spec, problem, progress=False).evaluations == 10
    trials = open_study(spec).get_trials(states=(TrialState.COMPLETE,))
    assert len({space.key(space.from_parameters(trial.params)) for trial in trials}) == 10
