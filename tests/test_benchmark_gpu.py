"""benchmarks/gpu.py: every part of the dry run gives figures."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "gpu.py"


def figures(part: str) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), "--part", part, "--device", "cpu", "--seconds", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_the_baselines_layers_compute_what_ours_do(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    training = importlib.import_module("training")
    assert training.exact_difference("tiny", 1) < 1e-9


@pytest.mark.slow
def test_the_step_runs_on_spikingjellys_layers_and_on_ours():
    found = figures("step")
    assert {*found} == {"tiny", "auto_spikformer"}
    for measured in found.values():
        assert measured["ratio"] > 0
        assert measured["largest_loss_difference"] < 1e-3  # both compute the same


@pytest.mark.slow
def test_the_evaluator_reports_all_three_ways():
    found = figures("evaluator")
    for way in ("spikingjelly, each alone", "aspk, each alone", "aspk, together"):
        assert found[way] > 0


@pytest.mark.slow
def test_training_reports_its_updates():
    found = figures("training")
    assert found["images_per_s"] >= 0
    assert len(found["losses"]) >= 1
