"""``benchmarks/constraints.py`` says of each sampler how many of its networks keep a budget."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def test_under_a_budget_the_surrogate_keeps_it_more_often_than_chance(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    benchmark = importlib.import_module("constraints")
    monkeypatch.setattr(benchmark, "BUDGETS", {"energy and operations": {"energy": 0.2, "operations": 0.1}})
    monkeypatch.setattr(sys, "argv", ["constraints.py", "--table", "mnist_mixed", "--seeds", "2"])
    assert benchmark.main() == 0
    lines = [line.rsplit(maxsplit=6) for line in capsys.readouterr().out.splitlines()[1:]]
    last = {line[0].split("operations")[1].strip(): float(line[3]) for line in lines}
    assert list(last) == [name + known for name in benchmark.SAMPLERS for known in ("", benchmark.KNOWN)]
    assert last["random" + benchmark.KNOWN] > last["random"]
    assert last["aspk surrogate"] > last["random"] + 0.2
