"""The evaluator's accuracy, counts and energy against brute force and spikingjelly's own counter."""

from __future__ import annotations

import dataclasses
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from spaces import SWITCHES
from spikingjelly.activation_based import op_counter
from torch import nn

from aspk.costs import cost
from aspk.data import Split, load_data
from aspk.energy import STRICT, energy_mj
from aspk.errors import DataError
from aspk.evaluation.supernet import SupernetEvaluator, measure
from aspk.families import Supernet
from aspk.families.counting import Counter
from aspk.space.file import load_space
from aspk.spec.settings import EngineSettings, EvaluationSettings
from aspk.testing import check_evaluator
from aspk.training.checkpoint import load_supernet

TINY = load_space("tiny")


@pytest.fixture(scope="module")
def evaluator(trained_folder, digits):
    supernet = load_supernet(trained_folder / "supernet.safetensors").supernet
    settings = EvaluationSettings(calibration_images=48, batch_size=100)
    small = dataclasses.replace(digits, search=Split(digits.search.images[:150], digits.search.labels[:150]))
    return SupernetEvaluator(supernet, small, settings=settings)


def network_and_images(space, seed, count=5, shape=(1, 8, 8)):
    supernet = Supernet(space, shape=shape, classes=4, seed=seed).double().eval()
    x = torch.rand(count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    config = space.decode(space.sample_choices(1, np.random.default_rng(seed))[0])
    return supernet.extract(config, supernet.calibrate(x, config)), x


def observed(network, x):
    shapes = cost.layer_shapes(network.config, network.settings, network.shape, network.classes)
    counter, seen = Counter(shapes), {}

    def both(layer, inputs, spikes):
        counter(layer, inputs, spikes)
        seen[layer] = (inputs, spikes)

    with torch.no_grad():
        network(x, both)
    return {count.name: count for count in counter.counts()}, seen


@pytest.mark.parametrize("space", [TINY, SWITCHES], ids=["tiny", "switches"])
@pytest.mark.parametrize("seed", range(3))
def test_counts_are_those_of_brute_force(space, seed):
    network, x = network_and_images(space, seed)
    counts, seen = observed(network, x)
    images = len(x)
    for name, (inputs, spikes) in seen.items():
        count, values = counts[name], inputs[0]
        if spikes is not None:
            assert count.output_spikes * images == pytest.approx(float(spikes.sum()), abs=1e-9)
            assert spikes[:, 0].numel() == count.output_size * count.repeats
            assert count.output_sums == pytest.approx([float(step.sum()) / images for step in spikes])
        if name in ("stem.0", "head"):
            continue
        assert sum(count.input_sums) * images == pytest.approx(float(values.sum()), abs=1e-6)
        for step, total in enumerate(count.input_sums):
            assert total * images == pytest.approx(float(values[step].sum()), abs=1e-6)
        assert values[0, 0].numel() == count.input_size
        assert count.exact_operations * images == pytest.approx(brute_force(name, network, inputs), rel=1e-12)


def brute_force(name, network, inputs):
    """Synaptic operations counted one event at a time."""
    if name.endswith(".qk"):
        q, k = (tensor.flatten(0, 2).numpy() for tensor in inputs)  # [T*B*heads, L, D]
        return sum(
            float(q[g, i] @ k[g, j])
            for g in range(len(q))
            for i in range(q.shape[1])
            for j in range(k.shape[1])
        )
    values = inputs[0]
    if name.endswith(".av"):
        return float(values.sum()) * values.shape[-2]
    layer = network.get_submodule(name)
    if hasattr(layer, "linear"):
        return float(values.sum()) * layer.linear.out_features
    height, width = values.shape[-2:]
    total = 0.0
    for *_, row, column in (index := values.nonzero()).tolist():
        rows = sum(0 <= row + d < height for d in (-1, 0, 1))
        columns = sum(0 <= column + d < width for d in (-1, 0, 1))
        total += rows * columns
    assert len(index)
    return total * layer.conv.out_channels  # values are 0/1


@pytest.mark.parametrize("seed", range(3))
def test_exact_operations_are_those_of_spikingjellys_counter(seed):
    network, x = network_and_images(TINY, seed)
    counts, seen = observed(network, x)
    firing = 0
    for name in ("stem.1", "stem.2", "stem.3", "position", "blocks.0.proj", "blocks.0.fc2"):
        spikes = seen[name][0][0]
        site = network.get_submodule(name)
        layer = site.conv if hasattr(site, "conv") else site.linear
        flat = spikes.flatten(0, 1) if hasattr(site, "conv") else spikes.flatten(0, 2)
        firing += bool(flat.sum())
        bare = (
            nn.Linear(layer.in_features, layer.out_features, bias=False) if hasattr(site, "linear") else layer
        )
        counter = op_counter.SynOpCounter()
        with torch.no_grad(), op_counter.DispatchCounterMode([counter]):
            bare.double()(flat)
        assert counter.get_total() == pytest.approx(counts[name].exact_operations * len(x), rel=1e-9)
    assert firing >= 4


def test_counts_do_not_depend_on_the_batch_size(evaluator):
    network = evaluator.network(TINY.reference)
    split = evaluator._split
    one, many = (measure(network, split, batch_size=size) for size in (7, 150))
    # the last bit of a convolution depends on the batch size, and may move a borderline spike
    assert one.energy_mj == pytest.approx(many.energy_mj, rel=1e-3)
    assert one.accuracy == pytest.approx(many.accuracy, abs=2 / 150)


def test_accuracy_is_that_of_the_extracted_network(evaluator):
    for x in TINY.sample_choices(3, np.random.default_rng(2)):
        config = TINY.decode(x)
        (metrics,) = evaluator.evaluate([config])
        network = evaluator.network(config)
        with torch.no_grad():
            logits = torch.cat([network(part) for part in evaluator._split.images.split(100)])
        hits = sum(int(a == b) for a, b in zip(logits.argmax(1), evaluator._split.labels, strict=True))
        assert metrics.accuracy == hits / len(evaluator._split)


def test_evaluation_leaves_the_supernet_as_it_was(evaluator):
    before = {name: tensor.clone() for name, tensor in evaluator.supernet.state_dict().items()}
    first = evaluator.evaluate([TINY.reference])
    evaluator.evaluate([TINY.smallest])
    assert evaluator.evaluate([TINY.reference]) == first
    assert all(torch.equal(before[name], t) for name, t in evaluator.supernet.state_dict().items())


def test_it_is_an_evaluator_as_users_are_asked_to_write(evaluator):
    check_evaluator(evaluator, TINY)


def test_energy_is_that_of_the_counts_and_a_silent_network_costs_its_first_layer(evaluator):
    (metrics,) = evaluator.evaluate([TINY.reference])
    assert metrics.energy_mj == pytest.approx(energy_mj(metrics.layers))
    assert energy_mj(metrics.layers, STRICT) > metrics.energy_mj
    silenced = dataclasses.replace(
        TINY.reference,
        stem_v_threshold=1e6,
        blocks=tuple(dataclasses.replace(b, v_threshold=1e6) for b in TINY.reference.blocks),
    )
    (silent,) = evaluator.evaluate([silenced])
    first, head = silent.layers[0], silent.layers[-1]
    macs = first.operations * first.repeats + head.operations
    assert silent.spikes == 0
    assert silent.energy_mj == pytest.approx(4.6e-9 * macs)


def test_wrong_images_are_refused(trained_folder):
    supernet = Supernet(TINY, shape=(3, 8, 8), classes=10)
    with pytest.raises(DataError, match="digits has"):
        SupernetEvaluator(supernet, load_data("digits"))
    with pytest.raises(DataError, match="calibration_images"):
        EvaluationSettings(calibration_images=0)


def test_statistics_are_the_networks_own_shared_over_time_or_the_running_ones(evaluator):
    config = dataclasses.replace(TINY.reference, time_steps=2)
    networks = {
        kind: SupernetEvaluator(
            evaluator.supernet,
            load_data("digits"),
            settings=EvaluationSettings(calibration_images=48, statistics=kind),
        ).network(config)
        for kind in ("own", "shared_time", "running")
    }
    images = load_data("digits").train.images[:48]
    longest = dataclasses.replace(config, time_steps=max(TINY.network["time_steps"]))
    expected = {
        "own": evaluator.supernet.calibrate(images, config),
        "shared_time": evaluator.supernet.calibrate(images, longest),
        "running": dict(evaluator.supernet.extract(config).named_buffers()),
    }
    for kind, network in networks.items():
        assert network.config == config
        for name, tensor in network.named_buffers():
            assert torch.equal(tensor, expected[kind][name]), (kind, name)
    names = [name for name in expected["own"] if name.endswith("running_var")]
    assert any(not torch.equal(expected["own"][name], expected["shared_time"][name]) for name in names)
    with pytest.raises(DataError, match="statistics = 'mine'"):
        EvaluationSettings(statistics="mine")


def test_the_first_images_of_a_split_are_enough_if_the_settings_say_so(evaluator, digits):
    first = dataclasses.replace(digits, search=Split(digits.search.images[:70], digits.search.labels[:70]))
    (expected,) = SupernetEvaluator(evaluator.supernet, first).evaluate([TINY.smallest])
    settings = EvaluationSettings(images=70)
    assert SupernetEvaluator(evaluator.supernet, digits, settings=settings).evaluate([TINY.smallest]) == [
        expected
    ]
    with pytest.raises(DataError, match="images = 0"):
        EvaluationSettings(images=0)


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_threads_get_what_one_gets(evaluator, digits, engine):
    """With ``study.optimize(n_jobs=4)``, the native engine wrote into others' memory and crashed."""
    configs = list({TINY.decode(x) for x in TINY.sample_choices(16, np.random.default_rng(0))})

    def fresh():
        settings = EvaluationSettings(calibration_images=48, images=100)
        machine = EngineSettings(name=engine)
        return SupernetEvaluator(evaluator.supernet, digits, settings=settings, machine=machine)

    shared, alone = fresh(), fresh()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda config: shared.evaluate([config])[0], configs))
    finally:
        sys.setswitchinterval(before)
    assert found == [alone.evaluate([config])[0] for config in configs]
