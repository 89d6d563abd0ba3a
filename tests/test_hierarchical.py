"""Hierarchical networks, against spikingjelly's Max-Former and the embeddings that its authors published."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from spaces import shipped
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.model.maxformer import maxformer_cifar
from torch import nn
from torch.nn.functional import conv2d, max_pool2d

from aspk.costs import Cost, cost
from aspk.energy import PAPER
from aspk.errors import GenotypeError, SpaceError
from aspk.families import Supernet, calibrate, network_of, program_of
from aspk.families.counting import Counter
from aspk.families.hierarchical.network import StageEmbedding
from aspk.families.layers import initialise, nobody
from aspk.families.neurons import lif
from aspk.report.structure import parts_of
from aspk.space.file import load_space, space_from_dict

SHAPE = (3, 16, 16)  # half the published side: the same layers, a quarter of the work
NEURONS = {"tau": 2.0, "v_threshold": 1.0, "reset": "hard", "decay_input": True}


def prepared(config, settings, x, shape=SHAPE):
    """A network in which biases and shifts matter and every site fires, calibrated on ``x``."""
    network = network_of(config, settings, shape=shape, classes=10)
    initialise(network, 0)
    network.double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                shift = 1.0 if any(f".{part}." in name for part in "qkv") else 0.2
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(shift + 0.3 * noise)
        calibrate(network, x)
        fired = {}
        network(x, lambda name, _, spikes: fired.update({name: spikes}))
    rates = {name: spikes.mean().item() for name, spikes in fired.items() if spikes is not None}
    assert all(0.001 < rate < 0.999 for rate in rates.values()), rates
    return network


def counterparts(ours, theirs):
    """Layers of ours and of spikingjelly's with the same weights: ours, and the other's product and norm."""
    first = theirs.patch_embed1
    yield [ours.embed[0].conv1], first.conv, first.bn
    yield [ours.embed[0].conv2], first.branch[1], first.branch[2]
    yield [ours.embed[0].shortcut], first.shortcut[1], first.shortcut[2]
    for mine, other in zip(ours.embed[1:], (theirs.patch_embed2, theirs.patch_embed3), strict=True):
        yield [mine.conv1], other.conv1, other.bn1
        yield [mine.conv2], other.conv2, other.bn2
        yield [mine.shortcut], other.shortcut[0], other.shortcut[1]
    stages = zip(ours.blocks, (theirs.stage1, theirs.stage2, theirs.stage3), strict=True)
    for mine, other in (pair for stage in stages for pair in zip(stage[0].children(), stage[1], strict=True)):
        if hasattr(other, "dwconv"):
            yield [mine.dwconv], other.dwconv, other.bn
        if hasattr(other, "attn"):
            yield [mine.q, mine.k, mine.v], *other.attn.qkv
            yield [mine.proj], *other.attn.proj
        mlp = getattr(other, "mlp", other)
        yield [mine.fc1], mlp.fc1, mlp.bn1
        yield [mine.fc2], mlp.fc2, mlp.bn2


def product(layer):
    return layer.conv if hasattr(layer, "conv") else layer.linear


def copy(ours, theirs):
    for layers, made, norm in counterparts(ours, theirs):
        with torch.no_grad():
            made.weight.copy_(torch.cat([product(one).weight for one in layers]).reshape(made.weight.shape))
            assert (made.bias is None) == (product(layers[0]).bias is None)
            if made.bias is not None:
                made.bias.copy_(product(layers[0]).bias)
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(norm, name).copy_(torch.cat([getattr(one.norm, name) for one in layers]))
    theirs.head.load_state_dict(ours.head.state_dict())


def test_the_published_network_is_spikingjellys():
    """Outputs in evaluation mode, and in training mode outputs and the gradients of all weights."""
    space = load_space("maxformer")
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0)).double()
    ours = prepared(space.reference, space.settings, x)
    theirs = maxformer_cifar(num_classes=10).double()
    assert theirs.stage3[0].attn.attn_lif.v_threshold == 0.5
    copy(ours, theirs)
    with torch.no_grad():
        expected = theirs.eval()(x)
        functional.reset_net(theirs)
        assert expected.std() > 1e-3
        torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-12)
    weights = torch.randn(2, 10, generator=torch.Generator().manual_seed(2)).double()
    made, expected = ours.train()(x), theirs.train()(x)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-12)
    (made * weights).sum().backward()
    (expected * weights).sum().backward()
    for layers, other, norm in counterparts(ours, theirs):
        for part, own in ((norm, [one.norm for one in layers]), (other, [product(one) for one in layers])):
            grad = torch.cat([one.weight.grad for one in own]).reshape(part.weight.shape)
            assert grad.abs().max() > 0
            torch.testing.assert_close(grad, part.weight.grad, rtol=1e-7, atol=1e-10)
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in ours.parameters())


def test_published_numbers():
    """6.57 M parameters and 3.90 G operations of layers with weights at T = 4; attention comes on top."""
    space = load_space("maxformer")
    layers = program_of(space.reference, space.settings, shape=(3, 32, 32), classes=10).layers
    assert cost.parameters(layers) == 6_568_282
    weighted = [one for one in layers if one.kind != "attention"]
    assert cost.operations(tuple(weighted)) == 3_895_201_536
    assert cost.operations(layers) - cost.operations(tuple(weighted)) == 4 * 2 * 2 * 64**2 * 384


class PublishedEmbedding(nn.Module):
    """An embedding that halves the side, of cifar10-100/embedding_hub.py of github bic-L/MaxFormer."""

    def __init__(self, channels, width, kind):
        super().__init__()
        self.kind, stride = kind, 1 if kind == "max" else 2
        self.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, stride=2 if kind == "orig" else 1, bias=False)
        self.conv3 = nn.Conv2d(channels, width, 1, stride=stride, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(3))

    def forward(self, x):
        spikes = lif(x, **NEURONS)
        x = self.layer(self.conv1, 0, spikes, pooled=self.kind == "max")
        x = self.layer(self.conv2, 1, lif(x, **NEURONS), pooled=self.kind == "one_max")
        return x + self.layer(self.conv3, 2, spikes, pooled=self.kind == "max")

    def layer(self, conv, index, x, *, pooled):
        y = self.norms[index](conv(x.flatten(0, 1)))
        y = max_pool2d(y, 3, stride=2, padding=1) if pooled else y
        return y.unflatten(0, x.shape[:2])


@pytest.mark.parametrize("side", [8, 7])
@pytest.mark.parametrize("kind", ["orig", "one_max", "max"])
def test_embeddings_are_the_published_ones(kind, side):
    generator = torch.Generator().manual_seed(3)
    ours = StageEmbedding("embed.1", 4, 6, None, kind).double()
    initialise(ours, 0)
    theirs = PublishedEmbedding(4, 6, kind).double()
    pairs = ((ours.conv1, theirs.conv1), (ours.conv2, theirs.conv2), (ours.shortcut, theirs.conv3))
    with torch.no_grad():
        for index, (mine, conv) in enumerate(pairs):
            conv.weight.copy_(product(mine).weight.reshape(conv.weight.shape))
            mine.norm.bias.add_(0.5)
            theirs.norms[index].load_state_dict(mine.norm.state_dict())
    x = torch.randn(3, 2, 4, side, side, generator=generator, dtype=torch.float64)
    config = dataclasses.replace(shipped("hierarchical_tiny").reference, embedding=kind)
    made = ours(x, NEURONS, config, nobody)
    assert made.shape == (3, 2, 6, (side + 1) // 2, (side + 1) // 2)
    torch.testing.assert_close(made, theirs(x), rtol=0, atol=1e-12)


def networks(space, count=6):
    rng = np.random.default_rng(0)
    return [space.reference, *map(space.decode, space.sample_choices(count, rng))]


@pytest.mark.parametrize("embedding", ["orig", "one_max", "max"])
def test_operations_are_counted_as_they_occur(embedding):
    """Exact operations of every convolution: what one with weights of 1 adds up; odd sides, too."""
    space = shipped("hierarchical_small")
    shape = (2, 7, 9)
    for number, mixers in enumerate((("dwc3", "dwc5", "dwc7"), ("dwc7", "ssa", "qk_token"))):
        blocks = (
            dataclasses.replace(one, mixer=mixer)
            for one, mixer in zip(space.reference.blocks, mixers, strict=True)
        )
        config = dataclasses.replace(space.reference, blocks=tuple(blocks), embedding=embedding, embed_dim=32)
        program = program_of(config, space.settings, shape=shape, classes=10)
        x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(number)).double()
        network = prepared(config, space.settings, x, shape)
        counter, found = Counter(program.layers), {}

        def watch(layer, inputs, spikes, network=network, found=found):
            parts = layer.split(".")
            if parts[-1] in ("conv2", "conv1", "dwconv") and layer != "embed.0.conv1":
                conv = network.get_submodule(layer).conv
                ones = torch.ones_like(conv.weight)
                made = conv2d(
                    inputs[0].flatten(0, 1), ones, None, conv.stride, conv.padding, groups=conv.groups
                )
                found[layer] = made.sum().item() / 3

        with torch.no_grad():
            network(x, counter)
            network(x, watch)
        counts = {layer.name: layer.exact_operations for layer in counter.counts()}
        assert len(found) == 5 + sum(
            block.stage_blocks for block in config.blocks if block.mixer.startswith("dwc")
        )
        assert {name: counts[name] for name in found} == pytest.approx(found, rel=1e-12)


def test_smaller_kernels_are_the_centres_of_larger_ones():
    space = shipped("hierarchical_small")
    supernet = Supernet(space, shape=(1, 8, 8), classes=4, seed=0)
    whole = supernet.network.blocks[1].get_submodule("0").dwconv.conv.weight
    assert whole.shape[2:] == (7, 7)
    for side in (3, 5, 7):
        block = dataclasses.replace(space.reference.blocks[1], mixer=f"dwc{side}")
        first, _, last = space.reference.blocks
        config = dataclasses.replace(space.reference, blocks=(first, block, last))
        own = supernet.extract(config).blocks[1].get_submodule("0").dwconv.conv
        edge = (7 - side) // 2
        assert torch.equal(own.weight, whole[: len(own.weight), :, edge : 7 - edge, edge : 7 - edge])
        assert own.padding == (side // 2, side // 2)
        supernet.network.zero_grad()
        supernet.train()(torch.randn(4, 1, 8, 8), config).square().sum().backward()
        changed = supernet.network.blocks[1].get_submodule("0").dwconv.conv.weight.grad.abs().sum((0, 1)) > 0
        assert changed[edge : 7 - edge, edge : 7 - edge].all()
        assert changed.sum() == side**2


@pytest.mark.parametrize("name", ["hierarchical_tiny", "hierarchical_small", "maxformer"])
def test_costs_know_the_stages(name):
    space = shipped(name)
    for kind in ("parameters", "operations"):
        known = Cost(kind, space, (3, 16, 16), 10)
        X = space.sample_choices(10, np.random.default_rng(1))
        of = [known(space.decode(x)) for x in X]
        assert known.of(X).tolist() == of
        assert known.least == known(space.smallest)
        assert known.least <= min(of)


def test_every_layer_behind_the_first_reads_spikes():
    space = shipped("hierarchical_small")
    for config in networks(space):
        first, *others = program_of(config, space.settings, shape=(1, 16, 16), classes=10).layers
        assert first.source == "image"
        weighted = [one for one in others if one.kind in ("conv", "linear", "attention", "mask")]
        assert {one.source for one in weighted} == {"spikes"}


def changed(table, key, value, name="hierarchical_tiny"):
    data = load_space(name).to_json()
    data[table][key] = value
    return data


def test_a_reference_may_differ_from_stage_to_stage():
    space = load_space("hierarchical_tiny")
    assert [block.mixer for block in space.reference.blocks] == ["none", "dwc3", "ssa"]
    data = space.to_json()
    assert data["reference"]["mixer"] == ["none", "dwc3", "ssa"]
    assert data["reference"]["mlp_ratio"] == 2
    again = space_from_dict(data)
    assert again == space
    assert again.fingerprint == space.fingerprint
    assert space.decode(space.encode(space.reference)) == space.reference
    with pytest.raises(GenotypeError, match=r"gene 'mixer' cannot be fixed: the reference has \['none'"):
        space.fixed(["mixer"])
    with pytest.raises(
        SpaceError, match=r"reference.mixer = \['none', 'ssa'\]: expected one value, or a list"
    ):
        space_from_dict(changed("reference", "mixer", ["none", "ssa"]))
    with pytest.raises(SpaceError, match=r"reference.mixer = \['none', 'ssa', 'dwc7'\]: not one of its"):
        space_from_dict(changed("reference", "mixer", ["none", "ssa", "dwc7"]))
    with pytest.raises(SpaceError, match=r"reference.embed_dim = \[64, 64, 64\]: expected a whole number"):
        space_from_dict(changed("reference", "embed_dim", [64, 64, 64]))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            changed("network", "depth", [2, 3]),
            r"network.depth = \[2, 3\]: expected \[3\], the number of stages",
        ),
        (changed("settings", "patch_size", 2), r"settings.patch_size = 2: expected 4, since the 3 stages"),
        (changed("network", "stem_convs", [2, 4]), r'gene stem_convs: belongs to family = "spikformer" or'),
        (changed("network", "embed_dim", [20, 64]), r"embed_dim=20: must be a multiple of 8"),
        (
            changed("block", "num_heads", [2, 4]),
            r"num_heads=4 does not divide stage 0's share of embed_dim=6",
        ),
        (changed("block", "stage_blocks", [1], "tiny"), r'gene stage_blocks: belongs to family = "hierar'),
        (
            changed("block", "mixer", ["dwc3", "ssa"], "tiny"),
            r"mixer = 'dwc3': networks of family 'spikformer'",
        ),
    ],
)
def test_what_the_family_does_not_have_is_refused(data, message):
    with pytest.raises(SpaceError, match=message):
        space_from_dict(data)


def test_the_drawing_names_every_operation():
    space = load_space("hierarchical_small")
    config = dataclasses.replace(space.reference, embedding="orig")
    program = program_of(config, space.settings, shape=(1, 28, 28), classes=10)
    parts = {part.name: part.steps for part in parts_of(program, (), PAPER)}
    assert list(parts)[:4] == ["embed.0", "blocks.0.0", "embed.1", "blocks.1.0"]
    shown = {(step.kind, step.detail) for steps in parts.values() for step in steps}
    assert ("conv", "depthwise 3×3, 48 channels, 14×14") in shown
    assert ("conv", "conv 48→48, 28×28, stride 2") in shown
    assert ("pooling", "every second pixel") in shown
    assert "other" not in {kind for kind, _ in shown}
