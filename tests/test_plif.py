"""Learnt time constants in supernets and networks: what they start from, cost, and how they are kept."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import torch
from spaces import NEURONS

from aspk import training
from aspk.costs import cost
from aspk.families import Supernet, program_of
from aspk.space import load_space
from aspk.spec.settings import Recipe
from aspk.training import train_supernet
from aspk.training.checkpoint import load_supernet
from aspk.training.network import train_network
from aspk.training.optimizer import optimizer_of

SPACE = load_space("tiny_genes")
RECIPE = Recipe(updates=8, batch_size=16, checkpoint_every=4)
PLIF = replace(
    SPACE.reference,
    stem_neuron="plif",
    blocks=tuple(replace(block, neuron="plif", tau=4.0) for block in SPACE.reference.blocks),
)


def time_constants(network):
    return {name: 1 + (-value).exp().item() for name, value in network.named_parameters() if value.dim() == 0}


def test_a_supernet_has_one_time_constant_at_each_site_that_starts_from_the_references():
    supernet = Supernet(SPACE, shape=(1, 8, 8), classes=4)
    taus = time_constants(supernet.network)
    sites = [layer.name for layer in supernet.program(PLIF).layers if layer.output_size]
    assert sorted(taus) == sorted(f"{site}.w" for site in sites)
    assert all(abs(tau - 2) < 1e-6 for tau in taus.values())
    assert not time_constants(supernet.extract(SPACE.reference))
    # The weights beside them are those of a supernet without PLIF.
    others = load_space("tiny_genes").fixed(["neuron", "stem_neuron"])
    for name, value in Supernet(others, shape=(1, 8, 8), classes=4).state_dict().items():
        assert torch.equal(value, supernet.state_dict()[name])


def test_each_site_costs_one_parameter_and_no_operation():
    def layers(config):
        return program_of(config, SPACE.settings, shape=(1, 8, 8), classes=4).layers

    sites = sum(layer.output_size > 0 for layer in layers(PLIF))
    assert sites == 5 + 7 * PLIF.depth
    assert cost.parameters(layers(PLIF)) == cost.parameters(layers(SPACE.reference)) + sites
    assert cost.operations(layers(PLIF)) == cost.operations(layers(SPACE.reference))


def test_time_constants_never_decay():
    supernet = Supernet(SPACE, shape=(1, 8, 8), classes=4)
    for decayed in ("all", "weights"):
        groups = optimizer_of(supernet, replace(RECIPE, decayed=decayed)).param_groups
        decaying = {id(one) for group in groups if group["weight_decay"] for one in group["params"]}
        assert decaying
        assert sum(len(group["params"]) for group in groups) == len(list(supernet.parameters()))
        for name, parameter in supernet.named_parameters():
            least = 2 if decayed == "weights" else 1
            assert (id(parameter) in decaying) == (parameter.dim() >= least), name


def test_they_learn_in_a_supernet_and_an_interrupted_training_goes_on_to_the_bit(
    tmp_path, digits, monkeypatch
):
    step = training.SupernetRun.step

    def interrupted(run):
        if run.update == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return step(run)

    recipe = replace(RECIPE, reference=0.0, largest=0.0, smallest=0.0)
    train_supernet(SPACE, digits, recipe, folder=tmp_path / "once", progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(training.SupernetRun, "step", interrupted)
        assert not train_supernet(SPACE, digits, recipe, folder=tmp_path / "twice", progress=False).finished
    assert train_supernet(SPACE, digits, recipe, folder=tmp_path / "twice", progress=False).finished
    once, twice = (
        load_supernet(tmp_path / name / "supernet.safetensors").supernet for name in ("once", "twice")
    )
    for name, value in once.state_dict().items():
        assert torch.equal(value, twice.state_dict()[name]), name
    assert len({round(tau, 6) for tau in time_constants(once.network).values()}) > 10
    # A network of it has the supernet's.
    extracted = dict(once.extract(PLIF).named_parameters())
    assert all(
        torch.equal(extracted[name], once.network.get_parameter(name))
        for name in extracted
        if name.endswith(".w")
    )


def test_a_network_alone_starts_from_its_own_time_constant(tmp_path, digits):
    run = train_network(
        PLIF, SPACE.settings, digits, RECIPE, state_file=tmp_path / "state.pt", progress=False
    )
    start = training.network.NetworkRun(PLIF, SPACE.settings, digits, RECIPE, 0, None)
    before, after = time_constants(start.model), time_constants(run.model)
    assert all(
        abs(before[f"blocks.{block}.{site}.w"] - 4) < 1e-6 for block in (0, 1) for site in ("q", "av", "fc2")
    )
    assert all(abs(before[f"stem.{stage}.w"] - 2) < 1e-6 for stage in range(4))
    assert all(before[name] != after[name] for name in before)


def test_mixed_blocks_are_saved_and_read(tmp_path, digits):
    """Blocks with and without weights of their own for their neurons."""
    space = NEURONS[0]
    network = replace(
        space.largest,
        blocks=tuple(
            replace(block, neuron=kind)
            for block, kind in zip(space.largest.blocks, ("lif", "plif", "lif"), strict=True)
        ),
    )
    supernet = Supernet(space, shape=(1, 8, 8), classes=4)
    training.checkpoint.check_weights(
        supernet.extract(network).state_dict(), network, space.settings, shape=(1, 8, 8), classes=4
    )
