"""Stems of fewer convolutions, of other widths, with poolings elsewhere: what they are part of, and cost."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from spaces import POOLED_ONE_WAY, SMALL, STEMS

from aspk.costs import Cost, cost
from aspk.errors import GenotypeError, SpaceError
from aspk.families import Supernet, program_of
from aspk.families.base import Pooling, Product
from aspk.space import load_space, space_from_dict

SPACE = load_space("tiny_genes")
SHAPE = (1, 8, 8)


def stem(config, settings=SPACE.settings, shape=SHAPE):
    """Inputs, outputs and height of each convolution, and how many of them stand before each pooling."""
    convolutions, poolings = [], []
    for one in program_of(config, settings, shape=shape, classes=4).operations:
        if isinstance(one, Pooling):
            poolings.append(len(convolutions))
        elif isinstance(one, Product) and one.names[0].startswith("stem."):
            convolutions.append((one.inputs, one.outputs, one.size[0]))
    return convolutions, poolings


@pytest.mark.parametrize(
    ("genes", "convolutions", "poolings"),
    [
        ({}, [(1, 6, 8), (6, 12, 8), (12, 24, 8), (24, 48, 4)], [3, 4]),
        ({"stem_pooling": "early"}, [(1, 6, 8), (6, 12, 4), (12, 24, 2), (24, 48, 2)], [1, 2]),
        ({"stem_convs": 3}, [(1, 6, 8), (6, 12, 8), (12, 48, 4)], [2, 3]),
        ({"stem_convs": 2}, [(1, 6, 8), (6, 48, 4)], [1, 2]),
        ({"stem_fraction": 0.25}, [(1, 12, 8), (12, 24, 8), (24, 48, 8), (48, 48, 4)], [3, 4]),
        ({"stem_convs": 2, "stem_fraction": 0.25}, [(1, 12, 8), (12, 48, 4)], [1, 2]),
    ],
)
def test_stems(genes, convolutions, poolings):
    assert stem(replace(SPACE.reference, **genes)) == (convolutions, poolings)


def test_a_smaller_stem_is_a_part_of_the_largest_one():
    supernet = Supernet(SPACE, shape=SHAPE, classes=4)
    assert SPACE.superset.stem_convs == 4
    whole = supernet.network.state_dict()
    for convs in (2, 3):
        small = replace(SPACE.reference, embed_dim=32, stem_convs=convs)
        network = supernet.extract(small)
        own = {name: value for name, value in network.state_dict().items() if name.startswith("stem.")}
        numbers = sorted({int(name.split(".")[1]) for name in own})
        assert numbers == [*range(convs - 1), 3]  # the last convolution is that of every stem
        for name, value in own.items():
            leading = tuple(slice(size) for size in value.shape)
            assert torch.equal(value, whole[name][leading]), name
        x = torch.rand(3, *SHAPE)
        with torch.no_grad():
            assert torch.equal(network(x), supernet.eval()(x, small))


@pytest.mark.parametrize("space", [*STEMS, *POOLED_ONE_WAY], ids=lambda space: space.name)
def test_genotypes_of_one_network_are_one_and_the_largest_has_every_weight(space):
    side = 2 * space.settings.patch_size
    programs = {
        program_of(space.decode(x), space.settings, shape=(1, side, side), classes=4)
        for x in space.networks()
    }
    assert len(programs) == space.size
    supernet = Supernet(space, shape=(1, side, side), classes=4)
    for x in space.networks():
        supernet.extract(space.decode(x))


@pytest.mark.parametrize("space", [*STEMS, *POOLED_ONE_WAY], ids=lambda space: space.name)
@pytest.mark.parametrize("name", ["parameters", "operations"])
def test_closed_costs_know_the_stem(space, name):
    known = Cost(name, space, (3, 32, 32), 10)
    rows = list(space.networks())
    layers = [program_of(space.decode(x), space.settings, shape=(3, 32, 32), classes=10).layers for x in rows]
    expected = [getattr(cost, name)(one) for one in layers]
    assert known.of(rows).tolist() == expected
    assert known.least == min(expected)


def test_stems_that_cannot_be_built_are_named():
    def space(**genes):
        data = SMALL.to_json()
        data["network"] |= {name: [value] for name, value in genes.items()}
        data["reference"] |= genes
        return data

    with pytest.raises(SpaceError, match="stem_convs=2: expected at least 3, the poolings that patch_size=8"):
        space_from_dict(space(stem_convs=2) | {"settings": {"patch_size": 8}})
    with pytest.raises(SpaceError, match="embed_dim=8: must be a multiple of 16 for the stem"):
        space_from_dict(space(stem_fraction=0.0625))
    with pytest.raises(SpaceError, match="stem_convs"):
        space_from_dict(space(stem_convs=5))
    with pytest.raises(SpaceError, match=r"stem_pooling.*early.*late"):
        space_from_dict(space(stem_pooling="soon"))
    with pytest.raises(GenotypeError, match="stem_convs"):
        type(SMALL.reference).from_json(SMALL.reference.to_json() | {"stem_convs": 1})
