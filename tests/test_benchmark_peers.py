"""``benchmarks/search_peers.py``: methods of other packages, which need an environment of their own."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
NEEDED = {"Ax qLogNEHVI": "ax", "SMAC3 ParEGO": "smac", "syne-tune MO-REA": "syne_tune"}


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("search_peers")


@pytest.fixture
def search(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("search")


def without(monkeypatch, *packages):
    """No package of these names is found."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name in packages else found(name, *rest)
    )


def arguments(monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["search.py", *options])


def test_the_methods_of_a_comparison_with_peers(search, monkeypatch):
    without(monkeypatch)
    monkeypatch.setattr(search, "required", lambda names: None)
    arguments(monkeypatch, "--peers")
    methods = search.chosen_methods(search.parsed())
    assert {*search.METHODS, *NEEDED, "Optuna AutoSampler"} < set(methods)
    assert "aspk surrogate, no transfer priors" in methods
    arguments(monkeypatch)
    assert list(search.chosen_methods(search.parsed())) == list(search.METHODS)


def test_what_a_log_has_is_printed_without_the_peers(search, monkeypatch, capsys, tmp_path):
    without(monkeypatch, *NEEDED.values())
    run = {"problem": "mnist_mixed", "method": "Ax qLogNEHVI", "budget": 60, "evaluations": 60, "ms": 1500.0}
    run |= {"at": {"25": 0.9, "50": 0.95}, "test": {"25": 0.8, "50": 0.8}}
    counts = [20, 30, None]
    lines = [
        json.dumps(run | {"seed": 1000 + i, "reached": {"0.9": 10, "0.95": count, "0.99": None}})
        for i, count in enumerate(counts)
    ]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    options = ["--table", "mnist_mixed", "--log", str(log), "--slow-budget", "60"]
    arguments(monkeypatch, "--peers", "--logged", *options)
    assert search.main() == 0
    *_, row = (line for line in capsys.readouterr().out.splitlines() if line.startswith("Ax"))
    assert row.split()[2:8] == ["3", "10.0", "30.0", "-", "[25.0", "-]"]
    assert log.read_text(encoding="utf-8").splitlines() == lines


def test_each_peer_has_its_encodings(peers):
    for name in peers.PEERS:
        assert sum(other.startswith(f"{name}, ") for other in peers.PEER_ENCODINGS) >= 2


@pytest.mark.parametrize(("name", "package"), NEEDED.items())
def test_a_missing_peer_is_named_with_its_installation(search, monkeypatch, capsys, name, package):
    without(monkeypatch, package)
    arguments(monkeypatch, "--peers", "--methods", name, "--table", "mnist_mixed")
    assert search.main() == 2
    error = capsys.readouterr().err
    for part in (f"{package} (for '{name}')", "pip install -r", "requirements-peers.txt", "venv"):
        assert part in error


def test_a_method_of_a_missing_peer_says_so_when_it_runs(peers, monkeypatch):
    methods, problems = map(importlib.import_module, ("search_methods", "search_problems"))
    without(monkeypatch, "smac")
    with pytest.raises(peers.MissingPeerError, match="smac"):
        methods.run(peers.PEERS["SMAC3 ParEGO"], problems.TableProblem("mnist_mixed"), 5, 0)


def test_all_packages_that_are_needed_are_in_the_requirements(peers):
    lines = peers.REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert {"ax-platform", "botorch", "smac", "ConfigSpace", "syne-tune"} <= set(pinned)


def chosen(peers, objective, trials, objectives=2):
    """The sampler behind each trial."""
    sampler = peers.AutoSampler(0)
    study = optuna.create_study(sampler=sampler, directions=["minimize"] * objectives)
    found = []

    def noted(trial):
        values = objective(trial)
        found.append(type(sampler._sampler).__name__)
        return values

    study.optimize(noted, n_trials=trials)
    return found, [trial.params for trial in study.trials]


def of_numbers(trial):
    x, y = trial.suggest_int("x", 0, 3), trial.suggest_float("y", 0, 1)
    return x + y, (3 - x) ** 2 + y


def test_the_rule_of_the_auto_sampler(peers):
    names, params = chosen(peers, of_numbers, 12)
    assert names == ["RandomSampler"] + ["GPSampler"] * 11
    assert chosen(peers, of_numbers, 12)[1] == params

    def of_choices(trial):
        x = trial.suggest_categorical("x", [0, 1, 2])
        return x, 2 - x

    def of_conditions(trial):
        x = trial.suggest_int("x", 0, 1)
        return (trial.suggest_float("y", 0, 1), 0.0) if x and trial.number else (1.0, 1.0)

    assert chosen(peers, of_choices, 4)[0] == ["RandomSampler"] + ["TPESampler"] * 3
    assert chosen(peers, of_conditions, 30)[0][-1] == "TPESampler"


@pytest.mark.parametrize(
    ("complete", "name"), [(249, "GPSampler"), (250, "TPESampler"), (1000, "NSGAIISampler")]
)
def test_the_auto_sampler_takes_cheaper_samplers_for_long_studies(peers, complete, name):
    study = optuna.create_study(directions=["minimize"] * 2)
    study.add_trials(
        optuna.trial.create_trial(
            params={"x": 0.5},
            distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
            values=[i, -i],
        )
        for i in range(complete)
    )
    assert peers.AutoSampler(0)._chosen(study).__name__ == name


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NEEDED, "Optuna AutoSampler"])
def test_the_same_seed_finds_the_same_networks(peers, name):
    methods, problems = map(importlib.import_module, ("search_methods", "search_problems"))
    package = NEEDED.get(name)
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: it is in benchmarks/requirements-peers.txt")
    table = problems.TableProblem("mnist_mixed")
    one, again, other = (
        methods.run(peers.PEERS[name], table, 14, seed, methods.SHORT_PATIENCE).arrays()[0]
        for seed in (1, 1, 2)
    )
    assert len(one) == 9
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
