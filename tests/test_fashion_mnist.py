"""The Fashion-MNIST study as it is shipped: weights that fit the space, and real images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from aspk.data import load_data
from aspk.data.fashion_mnist import ORIGIN
from aspk.evaluation.supernet import SupernetEvaluator
from aspk.space.file import load_space
from aspk.spec.study import load_study_file
from aspk.study.storage import verdict_of
from aspk.training.checkpoint import load_supernet
from aspk.trials.verdict import UNKNOWN, verdict_sentence

FOLDER = Path(__file__).resolve().parent.parent / "studies" / "fashion_mnist"


@pytest.fixture(scope="module")
def spec():
    return load_study_file("fashion_mnist")


def test_the_shipped_weights_are_those_of_the_study(spec, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert spec.weights_file.resolve() == FOLDER / "supernet.safetensors"
    assert spec.weights_file.stat().st_size < 4e6
    loaded = load_supernet(spec.weights_file)
    assert loaded.supernet.space.fingerprint == load_space(spec.space).fingerprint
    made = loaded.provenance
    for name in ("updates", "batch_size", "learning_rate", "prefix_loss", "largest", "smallest", "reference"):
        assert made["recipe"][name] == getattr(spec.train, name), name
    assert made["updates"] == spec.train.updates
    assert made["seed"] == spec.seed
    assert made["data"] == spec.data.to_json()


def test_the_shipped_ranking_is_of_the_shipped_weights(spec):
    report = json.loads((FOLDER / "rank.json").read_text(encoding="utf-8"))
    assert report["n"] >= 16
    assert report["weights"] == load_supernet(spec.weights_file).fingerprint
    assert report["evaluation"]["statistics"] == "shared_time"
    assert verdict_of(spec, "shared_time") == verdict_sentence(report) != UNKNOWN
    assert report["recipe"]["updates"] == spec.retrain.updates
    assert len(report["networks"]) == report["n"]


@pytest.mark.dataset
def test_the_shipped_weights_recognise_real_images(spec):
    if not any((folder / "t10k-images-idx3-ubyte.gz").exists() for folder in ORIGIN.installed):
        pytest.skip("needs Debian's dataset-fashion-mnist")
    data = load_data(spec.data)
    assert (len(data.train), len(data.search), len(data.test)) == (50_000, 10_000, 10_000)
    loaded = load_supernet(spec.weights_file)
    assert loaded.provenance["data_fingerprint"] == data.fingerprint()
    settings = replace(spec.evaluation, images=1000)
    evaluator = SupernetEvaluator(loaded.supernet, data, settings=settings)
    space = load_space(spec.space)
    largest, smallest = evaluator.evaluate([space.largest, space.smallest])
    assert largest.accuracy > 0.85
    assert smallest.accuracy > 0.7
    assert smallest.energy_mj < largest.energy_mj / 5
