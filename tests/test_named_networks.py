"""Networks that a space's file names: reading, identity, what the commands show of them."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from spaces import FIXED
from spaces import mixers as mixer_space

from aspk.cli.main import main
from aspk.costs import Cost
from aspk.errors import SpaceError
from aspk.families import network_of
from aspk.report.named_networks import named_networks_text
from aspk.space import load_space, space_from_dict

SHAPE = (3, 32, 32)
PAPER = load_space("auto_spikformer")


def named(**networks):
    data = copy.deepcopy(FIXED.to_json())
    return space_from_dict({**data, "networks": networks}, where="my.toml")


def test_a_table_changes_the_reference_block_by_block_or_in_all_blocks():
    space = named(same={}, other={"embed_dim": 48, "mlp_ratio": [1, 1.5], "tau": 4, "time_steps": 1})
    first, second = replace(FIXED.reference.blocks[0], tau=4.0, mlp_ratio=1.0), None
    second = replace(first, mlp_ratio=1.5)
    assert space.named["same"] == FIXED.reference
    assert space.named["other"] == replace(
        FIXED.reference, embed_dim=48, time_steps=1, blocks=(first, second)
    )
    one = named(short={"depth": 1}).named["short"]
    assert one == replace(FIXED.reference, blocks=FIXED.reference.blocks[:1])


def test_words_may_differ_by_block_too():
    data = mixer_space("mixed", {}, words=("ssa", "none")).to_json()
    space = space_from_dict({**data, "networks": {"a": {"mixer": ["ssa", "ssa"], "neuron": ["lif", "lif"]}}})
    assert [block.mixer for block in space.named["a"].blocks] == ["ssa", "ssa"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"colour": 1}, r"my.toml: networks.a.colour = 1: unknown key"),
        ({"stem_tau": 2}, r"my.toml: networks.a.stem_tau = 2: unknown key.*; expected embed_dim, depth"),
        ({"embed_dim": [24]}, r"networks.a.embed_dim = \[24\]: expected a whole number above 0"),
        ({"embed_dim": 40}, r"my.toml: networks.a: not a network of the space: .*40"),
        ({"depth": 3}, r"my.toml: networks.a: not a network of the space"),
        ({"num_heads": [2, 4, 2]}, r"networks.a.num_heads = \[2, 4, 2\]: expected 2 values, one for each"),
        ({"num_heads": []}, r"networks.a.num_heads = \[\]: expected"),
        ({"num_heads": [2, "4"]}, r"networks.a.num_heads = \[2, '4'\]: expected"),
        (3, r"networks.a = 3: expected a table"),
    ],
)
def test_a_wrong_table_is_one_message(table, message):
    with pytest.raises(SpaceError, match=message):
        named(a=table)


def test_names_are_no_part_of_a_spaces_identity():
    space = named(a={"embed_dim": 48})
    assert space == FIXED
    assert space.fingerprint == FIXED.fingerprint
    assert space.to_json() == FIXED.to_json()
    assert space.fixed(["embed_dim"]).named == {}  # of which network a need not be a member


@pytest.mark.parametrize(
    ("name", "sizes", "count"),
    [
        ("found_cifar10", (240, (4, 4, 3.5, 4), (12, 12, 6, 6)), 3_595_960),  # as the issue gives it
        ("found_cifar100", (240, (3.5, 3, 3.5, 3.5), (12, 12, 12, 12)), None),
        ("found_cifar100_shallow", (384, (3.5, 3), (6, 6)), None),
    ],
)
def test_the_authors_networks(name, sizes, count):
    config = PAPER.named[name]
    ratios, heads = ([getattr(block, gene) for block in config.blocks] for gene in ("mlp_ratio", "num_heads"))
    assert (config.embed_dim, tuple(ratios), tuple(heads)) == sizes
    assert {(block.v_threshold, block.tau) for block in config.blocks} == {(1.0, 2.0)}
    assert config.time_steps == 4
    built = network_of(config, PAPER.settings, shape=SHAPE, classes=10)
    counted = sum(parameter.numel() for parameter in built.parameters())
    assert counted == Cost("parameters", PAPER, shape=SHAPE, classes=10)(config)
    assert count in (None, counted)


def test_the_authors_staged_spaces():
    steps, neurons = load_space("auto_spikformer_t"), load_space("auto_spikformer_neurons")
    assert steps.network["time_steps"] == (3, 4, 5, 6)
    sizes = sum((3 * 2) ** depth for depth in (2, 3, 4))
    assert steps.size == 4 * 4 * sizes  # widths and T
    assert neurons.size == 5 * (8 * 3) ** 4  # T, and threshold and tau in each of four blocks
    assert steps.reference == neurons.reference == PAPER.reference
    for member in (steps.smallest, neurons.largest):
        PAPER.encode(replace(member, time_steps=4))  # parts of the paper's space, apart from T


def test_the_table_shows_what_differs():
    space = named(a={"embed_dim": 48, "mlp_ratio": [1, 1.5]})
    text = named_networks_text(space, shape=(1, 8, 8), classes=10, energy=True)
    header, _, reference, a, *notes = text.splitlines()
    columns = ["network", "embed_dim", "mlp_ratio", "parameters", "operations", "mJ", "strict", "mJ"]
    assert header.split() == columns
    assert "1 1.5" in a
    cost = Cost("operations", space, shape=(1, 8, 8), classes=10)
    assert f"{cost(space.named['a']):,.0f}" in a
    assert f"{cost(space.reference):,.0f}" in reference
    assert "random" in " ".join(notes)


def test_commands_show_and_take_the_names(capsys):
    assert main(["space", "auto_spikformer"]) == 0
    assert "3,595,960" in capsys.readouterr().out
    assert main(["space", "auto_spikformer", "--classes", "100"]) == 0
    assert "3,617,650" in capsys.readouterr().out  # a row of the head and a bias for each of 90 more classes
    small = ["--random-weights", "--shape", "3,8,8", "--images", "2", "--json", "-"]
    assert main(["energy", "--space", "auto_spikformer", "--named", "found_cifar10", *small]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["config"] == PAPER.named["found_cifar10"].to_json()
    assert main(["energy", "--space", "auto_spikformer", "--named", "nobody", *small]) == 1
    assert "names no network 'nobody': expected one of found_cifar10, " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["energy", "--weights", "some.safetensors", "--named", "found_cifar10"])
    assert "give --space" in capsys.readouterr().err


def test_a_named_network_runs():
    config = PAPER.named["found_cifar100_shallow"]
    network = network_of(config, PAPER.settings, shape=(3, 8, 8), classes=100).eval()
    assert network(torch.zeros(1, 3, 8, 8)).shape == (1, 100)
