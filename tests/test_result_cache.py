"""Kept results: the same as computed ones, shared by processes, bounded, and never a reason to fail."""

from __future__ import annotations

import dataclasses
import json
import logging

import numpy as np
import pytest
import torch
from worker_processes import completed, launch

from aspk.data import Split
from aspk.evaluation.cache import ResultCache
from aspk.evaluation.supernet import SupernetEvaluator
from aspk.space.file import load_space
from aspk.spec.settings import EngineSettings, EvaluationSettings
from aspk.testing import FormulaEvaluator
from aspk.training.checkpoint import load_supernet

TINY = load_space("tiny")
CONFIGS = [TINY.decode(x) for x in TINY.sample_choices(6, np.random.default_rng(0))]
RESULTS = dict(zip(CONFIGS, FormulaEvaluator(TINY).evaluate(CONFIGS), strict=True))


@pytest.fixture
def small(digits):
    first = Split(digits.search.images[:60], digits.search.labels[:60])
    return dataclasses.replace(digits, search=first)


def make_evaluator(trained_folder, data, folder, **options):
    supernet = load_supernet(trained_folder / "supernet.safetensors").supernet
    settings = EvaluationSettings(calibration_images=32)
    return SupernetEvaluator(supernet, data, settings=settings, cache=folder, **options)


def test_what_is_kept_is_what_was_put(tmp_path):
    cache = ResultCache(tmp_path, context="a", entries=100)
    for config, metrics in RESULTS.items():
        assert cache.get(config) is None
        cache.put(config, metrics)
    again = ResultCache(tmp_path, context="a", entries=100)
    assert all(again.get(config) == metrics for config, metrics in RESULTS.items())
    assert ResultCache(tmp_path, context="b", entries=100).get(CONFIGS[0]) is None
    assert ResultCache(None, context="a", entries=100).get(CONFIGS[0]) is None


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"body": 3}', b'{"body": "{}", "sha256": "0"}'])
def test_a_damaged_result_is_as_none(tmp_path, damage):
    ResultCache(tmp_path, context="a", entries=100).put(CONFIGS[0], RESULTS[CONFIGS[0]])
    (path,) = tmp_path.rglob("*.json")
    path.write_bytes(damage)
    assert ResultCache(tmp_path, context="a", entries=100).get(CONFIGS[0]) is None


def test_a_flipped_digit_or_another_networks_result_is_noticed(tmp_path):
    cache = ResultCache(tmp_path, context="a", entries=100)
    for config in CONFIGS[:2]:
        cache.put(config, RESULTS[config])
    first, second = sorted(tmp_path.rglob("*.json"))
    text = first.read_text()
    body = json.loads(text)["body"]
    first.write_text(text.replace(json.dumps(body)[20:40], json.dumps(body)[20:39] + "9", 1))
    third = ResultCache(tmp_path, context="a", entries=100)
    first_was_damaged = [third.get(config) for config in CONFIGS[:2]].count(None)
    assert first_was_damaged == 1
    first.write_bytes(second.read_bytes())  # complete and sound, but under another network's name
    assert [ResultCache(tmp_path, context="a", entries=9).get(c) for c in CONFIGS[:2]].count(None) == 1


def test_the_oldest_results_go_first(tmp_path):
    cache = ResultCache(tmp_path, context="a", entries=4)
    for config in CONFIGS:
        cache.put(config, RESULTS[config])
    assert len(list(tmp_path.rglob("*.json"))) <= 4
    assert cache.get(CONFIGS[-1]) == RESULTS[CONFIGS[-1]]


def test_a_folder_that_cannot_be_written_is_named_once(tmp_path, caplog):
    (tmp_path / "file").write_text("not a folder")
    cache = ResultCache(tmp_path / "file", context="a", entries=4)
    with caplog.at_level(logging.WARNING):
        cache.put(CONFIGS[0], RESULTS[CONFIGS[0]])
        cache.put(CONFIGS[1], RESULTS[CONFIGS[1]])
    assert len(caplog.records) == 1
    assert cache.get(CONFIGS[1]) == RESULTS[CONFIGS[1]]


def _put_all(folder):
    cache = ResultCache(folder, context="a", entries=100)
    for _ in range(20):
        for config, metrics in RESULTS.items():
            cache.put(config, metrics)


def test_processes_share_a_folder(tmp_path):
    workers = [launch(_put_all, tmp_path) for _ in "ab"]
    assert [completed(worker) for worker in workers] == [0, 0]
    cache = ResultCache(tmp_path, context="a", entries=100)
    assert all(cache.get(config) == metrics for config, metrics in RESULTS.items())


def test_an_evaluator_computes_nothing_twice(trained_folder, small, tmp_path, monkeypatch):
    first = make_evaluator(trained_folder, small, tmp_path)
    results = first.evaluate(CONFIGS)
    second = make_evaluator(trained_folder, small, tmp_path)
    monkeypatch.setattr(
        second, "_measure", lambda configs, progress: {} if not configs else pytest.fail("computed again")
    )
    assert second.evaluate(CONFIGS[::-1]) == results[::-1]


def test_other_weights_images_or_settings_are_another_question(trained_folder, small, tmp_path):
    first = make_evaluator(trained_folder, small, tmp_path)
    before = first.evaluate(CONFIGS[:1])
    with torch.no_grad():
        first.supernet.network.head.weight.zero_()
    assert first.evaluate(CONFIGS[:1]) != before
    fewer = dataclasses.replace(small, search=Split(small.search.images[:30], small.search.labels[:30]))
    make_evaluator(trained_folder, fewer, tmp_path).evaluate(CONFIGS[:1])
    make_evaluator(trained_folder, small, tmp_path, machine=EngineSettings(name="torch")).evaluate(
        CONFIGS[:1]
    )
    assert len([folder for folder in tmp_path.iterdir() if folder.is_dir()]) == 4


def test_little_memory_means_few_images_at_once_and_the_same_networks(trained_folder, small):
    results = {}
    for memory in (2**30, 1):
        for name in ("native", "torch"):
            machine = EngineSettings(name=name, memory=memory)
            evaluator = make_evaluator(trained_folder, small, None, machine=machine)
            results[name, memory] = evaluator.evaluate(CONFIGS)
    # An image's spikes do not depend on its batch in the native engine; PyTorch's products round differently.
    assert results["native", 1] == results["native", 2**30]
    for a, b in zip(results["torch", 1], results["torch", 2**30], strict=True):
        assert a.accuracy == pytest.approx(b.accuracy, abs=2 / 60)
        assert a.energy_mj == pytest.approx(b.energy_mj, rel=1e-3)
