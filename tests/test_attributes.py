"""What is written to a trial is what is read from it."""

from __future__ import annotations

import json

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_metrics import metrics

from aspk.errors import MetricsError
from aspk.metrics import Metrics
from aspk.trials import attributes


@given(metrics())
def test_round_trip(one: Metrics) -> None:
    written = json.loads(json.dumps(attributes.metrics_to_attributes(one)))
    assert attributes.metrics_from_attributes(written) == one


def test_through_a_real_trial() -> None:
    one = Metrics(accuracy=0.5, energy_mj=0.25, parameters=7, extras={"latency": 3.0})
    study = optuna.create_study()
    trial = study.ask()
    for key, value in attributes.metrics_to_attributes(one).items():
        trial.set_user_attr(key, value)
    trial.set_user_attr("note", "hello")
    trial.set_user_attr("flag", True)
    trial.set_user_attr(attributes.FAILURE, 3)
    study.tell(trial, 1.0)
    assert attributes.metrics_from_attributes(study.trials[0].user_attrs) == one
    assert study.trials[0].user_attrs["energy_mj"] == 0.25  # readable on the dashboard


@pytest.mark.parametrize("found", [{}, {"accuracy": 0.5}, {"energy_mj": 0.5}, {"loss": 3}])
def test_a_strangers_trial_has_no_metrics(found: dict[str, object]) -> None:
    assert attributes.metrics_from_attributes(found) is None


@pytest.mark.parametrize(
    "change", [{"accuracy": "high"}, {attributes.LAYERS: [1]}, {attributes.LAYERS: {"name": ["a"]}}]
)
def test_damaged_attributes_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(MetricsError):
        attributes.metrics_from_attributes({"accuracy": 0.5, "energy_mj": 1.0, **change})


@given(st.lists(st.integers(0, 300), max_size=2000))
def test_genotypes_survive_in_pieces_that_every_storage_takes(x: list[int]) -> None:
    written = attributes.genotype_to_attributes(np.array(x, dtype=int))  # type: ignore[arg-type]
    assert all(len(json.dumps(value)) <= 2045 for value in written.values())
    assert attributes.genotype_from_attributes(json.loads(json.dumps(written)) | {"else": 1}) == x


@pytest.mark.parametrize(
    "damaged", [{}, {"aspk:genotype": "x"}, {"aspk:genotype": [1.5]}, {"aspk:genotype:0": "[1"}]
)
def test_what_is_no_genotype_reads_as_none(damaged: dict[str, object]) -> None:
    assert attributes.genotype_from_attributes(damaged) is None


def test_names_are_distinct_and_our_own() -> None:
    names = [value for name, value in vars(attributes).items() if name.isupper() and isinstance(value, str)]
    assert len(names) == len(set(names)) >= 7
    assert all(name.startswith("aspk:") for name in names)
