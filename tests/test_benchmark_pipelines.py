"""``benchmarks/pipelines.py``: a study of scikit-learn pipelines, tabulated."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import optuna
import pytest

pytest.importorskip("sklearn")


@pytest.fixture
def pipelines(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    return importlib.import_module("pipelines")


def test_the_table_has_every_pipeline_that_a_trial_can_suggest(pipelines):
    names = {pipelines.name_of(one) for one in pipelines.all_pipelines()}
    assert names == set(pipelines.table())
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(100):
        pipeline = pipelines.suggested(study.ask())
        assert pipelines.name_of(pipeline) in names
        seen.add(pipeline["model"])
    assert seen == set(pipelines.MODELS)


@pytest.mark.parametrize("number", [10, 300, 600])
def test_a_row_is_what_an_evaluation_gives(pipelines, number):
    pipeline = list(pipelines.all_pipelines())[number]
    found, written = pipelines.evaluated(pipeline), pipelines.table()[pipelines.name_of(pipeline)]
    assert found["size"] == pytest.approx(written["size"], rel=0.05)
    assert found["error"] == pytest.approx(written["error"], abs=0.01)  # libraries differ in the last digits
    assert found["missed"] == pytest.approx(written["missed"], abs=0.02)


@pytest.mark.parametrize(
    "options", [[], ["--objectives", "3"], ["--constraint"]], ids=["two", "three", "bound"]
)
def test_samplers_search_it(pipelines, options, monkeypatch, capsys):
    monkeypatch.setattr(pipelines, "AT", (15,))
    few = ["--seeds", "1", "--sampler", "TPE", "surrogate"]
    monkeypatch.setattr(sys, "argv", ["pipelines.py", *few, *options])
    assert pipelines.main() == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.partition("after 15: ")[0].strip() for row in rows] == ["Optuna TPE", "aspk surrogate"]
    shares = [float(row.partition("after 15: ")[2].split()[0]) for row in rows]
    assert all(0 <= share <= 1 for share in shares)


def test_everything_has_the_whole_hypervolume(pipelines):
    rows = list(pipelines.table().values())
    for objectives in (2, 3):
        assert pipelines.Scored(objectives, constrained=False)(rows, objectives) == pytest.approx(1.0)
    assert pipelines.Scored(2, constrained=True)(rows, 2) == pytest.approx(1.0)
