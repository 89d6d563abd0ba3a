"""A network is declared once: engine, module, costs and exports agree on every gene of every space.

The genes are found in the spaces' own lists. A new one is tested the moment a space has it.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from spaces import FOLDER, HIERARCHICAL, MIXERS, NEURONS, STEMS, SWITCHES, TINY, shipped

from aspk.costs import cost
from aspk.data import DataSet, Split
from aspk.engines import NativeEngine, Population, TorchEngine, choose_engine
from aspk.errors import EngineError
from aspk.families import Supernet, calibrate, program_of
from aspk.families.base import OPERATIONS, Addition, Head, Linear, Pooling, Product
from aspk.metrics import Metrics
from aspk.space import load_space
from aspk.standalone.export import export_network, load_exported

SHIPPED = sorted(path.stem for path in FOLDER.glob("*.toml"))
SPACES = [*map(shipped, SHIPPED), SWITCHES, *NEURONS, *MIXERS, *STEMS, HIERARCHICAL]


def flips(space, *, tries=40):
    """For every gene of a space the two networks that differ in it alone, so that it is in use in one."""
    rng, found = np.random.default_rng(3), []
    for column, gene in enumerate(space.genes):
        for row in space.sample_choices(tries, rng):
            other = row.copy()
            other[column] = (row[column] + 1) % len(gene.choices)
            if space.key(row) != space.key(other):
                found.append((gene, space.decode(row), space.decode(other)))
                break
    return found


def loud(space, shape):
    """A supernet in which neurons fire throughout, and each site has learnt a time constant of its own."""
    supernet = Supernet(space, shape=shape, classes=4, seed=1).double().eval()
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in supernet.network.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.5)
            elif parameter.dim() == 0:
                parameter.uniform_(-1.5, 1.5, generator=generator)
    return supernet


def image_shape(space):
    return (1, 2 * space.settings.patch_size, 2 * space.settings.patch_size)


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_every_gene_can_be_flipped_and_changes_the_program_or_the_time(space):
    found = flips(space)
    changeable = [gene for gene in space.genes if len(gene.choices) > 1]
    assert [gene for gene, *_ in found] == changeable
    for gene, one, other in found:
        a, b = (program_of(c, space.settings, shape=image_shape(space), classes=4) for c in (one, other))
        assert a != b, gene.parameter


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_the_module_is_what_the_program_says(space):
    """Weights, parameters, what is read and fired: all of the module's, by the program alone."""
    shape = image_shape(space)
    supernet = loud(space, shape)
    generator = torch.Generator().manual_seed(5)
    x = torch.rand(2, *shape, dtype=torch.float64, generator=generator)
    seen = {}

    def watch(layer, inputs, spikes):
        seen[layer] = inputs[0].shape, None if spikes is None else spikes.shape

    for config in {config for _, *pair in flips(space) for config in pair}:
        program = program_of(config, space.settings, shape=shape, classes=4)
        network = supernet.extract(config)
        seen.clear()
        with torch.no_grad():
            network(x, watch)
        assert list(seen) == [layer.name for layer in program.layers]
        for layer in program.layers:
            read, fired = seen[layer.name]
            once = layer.kind == "head" or (layer.source == "image" and len(read) == 4)
            images = read[0] if once else read[:2].numel()
            assert read.numel() == layer.input_size * images, layer.name
            if layer.output_size:
                assert fired.numel() == layer.output_size * 2 * config.time_steps, layer.name
        assert cost.parameters(program.layers) == sum(p.numel() for p in network.parameters())
        for product in (one for one in program.operations if isinstance(one, Product)):
            for name in product.names:
                site = network.get_submodule(name)
                weight = (site.linear if isinstance(product, Linear) else site.conv).weight
                assert weight.shape == product.form, name
        assert network.head.weight.shape == (program.head.classes, program.head.inputs)


@pytest.mark.parametrize("engine", ["native", "torch"])
@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
def test_engines_score_the_network_that_is_exported(space, engine, tmp_path):
    """All networks of all flips in one population, each against the module of it alone, in float64."""
    shape = image_shape(space)
    supernet = loud(space, shape)
    generator = torch.Generator().manual_seed(6)
    calibration, x = (torch.rand(n, *shape, dtype=torch.float64, generator=generator) for n in (5, 3))
    pairs = flips(space)
    configs = list(dict.fromkeys(config for _, *pair in pairs for config in pair))
    operations = [one for config in configs for one in supernet.program(config).operations]
    options = {"device": torch.device("cpu"), "dtype": torch.float64}
    population = Population(supernet, configs, choose_engine(engine, **options, operations=operations))
    population.calibrate(calibration)
    logits = population.run(x)
    for config in configs:
        network = calibrate(supernet.extract(config), calibration)
        with torch.no_grad():
            torch.testing.assert_close(logits[config], network(x), rtol=1e-9, atol=1e-12)
    # The last pair goes through a file as well.
    split = Split(x, torch.zeros(len(x), dtype=torch.int64))
    data = DataSet(
        "made", shape, 4, split, split, split, standardisation=((0.5, 0.25),), class_names=tuple("abcd")
    )
    for config in pairs[-1][1:]:
        network = calibrate(supernet.extract(config), calibration)
        folder = export_network(
            tmp_path / str(configs.index(config)),
            network,
            data=data,
            weights="inherited",
            metrics=Metrics(accuracy=0.5, energy_mj=1.0),
            provenance={},
        )
        exported = load_exported(folder)
        assert exported.network.config == config
        with torch.no_grad():
            assert torch.equal(exported.network(x.float()), network.float()(x.float()))


def test_an_engine_refuses_what_it_does_not_run():
    class WithoutPooling(TorchEngine):
        name = "poor"
        operations = OPERATIONS - {Pooling}

    space = load_space("tiny")
    supernet = Supernet(space, shape=(1, 8, 8), classes=4)
    with pytest.raises(EngineError, match="engine 'poor' does not run Pooling; take engine 'torch'"):
        Population(supernet, [space.reference], WithoutPooling())


def test_networks_that_the_native_engine_does_not_run_go_to_the_torch_engine(monkeypatch, caplog):
    monkeypatch.setattr(NativeEngine, "operations", OPERATIONS - {Pooling})
    operations = program_of(TINY.reference, TINY.settings, shape=(1, 8, 8), classes=4).operations
    options = {"device": torch.device("cpu"), "dtype": torch.float32}
    assert choose_engine("native", **options).name == "native"
    assert choose_engine("native", **options, operations=operations).name == "torch"
    assert "does not run Pooling" in caplog.text


def test_programs_of_networks_that_differ_in_time_alone_share_all_operations():
    space = load_space("tiny")
    low, high = (
        space.decode([0 if gene.name != "time_steps" else choice for gene in space.genes])
        for choice in (0, 1)
    )
    a, b = (program_of(config, space.settings, shape=(1, 8, 8), classes=4) for config in (low, high))
    assert a.operations == b.operations
    assert a.time_steps != b.time_steps
    assert isinstance(a.operations[-1], Head)
    assert sum(isinstance(one, Addition) for one in a.operations) == 1 + 2 * low.depth
