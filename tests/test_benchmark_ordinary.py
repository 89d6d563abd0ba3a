"""``benchmarks/ordinary.py`` says how good aspk's samplers are in studies without a search space."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest


def test_the_surrogate_is_ahead_of_random_search_on_every_ordinary_problem(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    benchmark = importlib.import_module("ordinary")
    monkeypatch.delitem(benchmark.SAMPLERS, "Optuna GP")  # slow
    monkeypatch.setattr(sys, "argv", ["ordinary.py", "--seeds", "2", "--trials", "40", "--first-seed", "0"])
    assert benchmark.main() == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["20", "40", "ms"]
    last = {(line[:13].strip(), line[13:30].strip()): float(line[30:].split()[1]) for line in lines}
    assert set(last) == {(problem, name) for problem in benchmark.PROBLEMS for name in benchmark.SAMPLERS}
    for problem, (_, objectives) in benchmark.PROBLEMS.items():
        ahead = last[problem, "aspk surrogate"] - last[problem, "random"]
        assert ahead > 0 if objectives == 2 else ahead < 0


def test_the_engineering_problems_have_their_published_ranges(monkeypatch):
    """Ideal and nadir points of the approximated fronts that come with the suite (reproblems)."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    problems = importlib.import_module("ordinary").ENGINEERING
    ranges = {
        "RE21": ([1237.8414230, 0.00276142375], [2886.3695604, 0.04]),
        "RE24": ([60.5, 0.0], [481.608088535, 44.2819047619]),
        "RE31": ([5.53731918799e-05, 1 / 3, 0.0], [500.002668442, 8246211.25124, 19359919.7502]),
    }
    for name, (ideal, nadir) in ranges.items():
        assert problems[name].front.min(axis=0) == pytest.approx(ideal, rel=1e-6, abs=1e-9)
        assert problems[name].front.max(axis=0) == pytest.approx(nadir, rel=0.005)
        assert problems[name].share(problems[name].front) == 1.0
        assert 0 < problems[name].share(problems[name].front[::100]) < 1


def test_the_engineering_problems_are_searched(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    options = ["--engineering", "--seeds", "1", "--trials", "8", "--sampler", "random", "surrogate"]
    monkeypatch.setattr(sys, "argv", ["ordinary.py", *options])
    assert importlib.import_module("ordinary").main() == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    assert [row.split()[0] for row in rows] == ["RE21"] * 2 + ["RE24"] * 2 + ["RE31"] * 2
