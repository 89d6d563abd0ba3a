"""The log that benchmarks go on from after a kill."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

RUNS = [{"table": "a", "seed": seed, "to": seed + 0.5} for seed in range(3)]


@pytest.fixture
def log(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    kind = importlib.import_module("run_log").RunLog
    return lambda path=tmp_path / "runs" / "log.jsonl": kind(path, ("table", "seed"))


def test_runs_are_found_again(log):
    first = log()
    for run in RUNS:
        assert first.get("a", run["seed"]) is None
        first.add(run)
    assert [log().get("a", seed) for seed in range(3)] == RUNS
    assert log().get("b", 0) is None


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_line_is_run_again_and_tears_no_other(log, tmp_path, cut):
    for run in RUNS:
        log().add(run)
    file = tmp_path / "runs" / "log.jsonl"
    file.write_bytes(file.read_bytes()[:-cut])
    again = log()
    assert [again.get("a", seed) for seed in range(3)] == [*RUNS[:2], None]
    again.add(RUNS[2])
    assert [log().get("a", seed) for seed in range(3)] == RUNS


def test_without_a_file_nothing_is_written(log, tmp_path):
    log(None).add(RUNS[0])
    assert list(tmp_path.iterdir()) == []


def test_only_what_is_missing_is_measured(log):
    first, measured = log(), []

    def run(table, seed):
        measured.append((table, seed))
        return {"table": table, "seed": seed, "to": seed + 0.5}

    first.add(RUNS[1])
    first.complete(run, (("a", seed) for seed in range(3)))
    assert measured == [("a", 0), ("a", 2)]
    assert [log().get("a", seed) for seed in range(3)] == RUNS
