"""``benchmarks/ordinary.py`` says how good aspk's samplers are in studies without a search space."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


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
