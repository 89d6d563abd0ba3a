"""Networks with membrane shortcuts, against spikingjelly's SDT and Spikingformer's published layers."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.model.spike_driven_transformer import SpikeDrivenTransformer
from torch import nn

from aspk.costs import cost
from aspk.errors import SpaceError
from aspk.families import network_of, program_of
from aspk.families.layers import initialise, normalised
from aspk.metrics import LayerShape
from aspk.space.file import load_space, space_from_dict

SHAPE = (3, 16, 16)  # half the published side: the same layers, a quarter of the work


def lif_node(v_threshold=1.0):
    return neuron.LIFNode(tau=2.0, v_threshold=v_threshold, detach_reset=True, step_mode="m")


def prepared(config, settings, x):
    """A network in which biases and shifts matter and every site fires, calibrated on ``x``."""
    network = network_of(config, settings, shape=SHAPE, classes=10)
    initialise(network, 0)
    network.double().train()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                shift = 1.0 if any(f".{part}." in name for part in "qkv") else 0.2
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(shift + 0.3 * noise)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.momentum = 1.0
        network(x)
        fired = {}
        network.eval()(x, lambda name, _, spikes: fired.update({name: spikes}))
    rates = {name: spikes.mean().item() for name, spikes in fired.items() if spikes is not None}
    assert all(0.001 < rate < 0.999 for rate in rates.values()), rates
    return network


def pointwise(conv, linear):
    """Fill a 1x1 convolution with a linear layer's weights."""
    conv.weight.data = linear.weight.data.reshape(conv.weight.shape).clone()
    if conv.bias is not None:
        conv.bias.data = linear.bias.data.clone()
    else:
        assert linear.bias is None


def copy_sdt(ours, theirs):
    embed = theirs.patch_embed
    stages = [(stage[0], stage[1]) for stage in [*embed.stages, embed.final_stage]]
    stages.append((embed.rpe_conv, embed.rpe_bn))
    for site, (conv, norm) in zip([*ours.stem, ours.position], stages, strict=True):
        conv.load_state_dict(site.conv.state_dict())
        norm.load_state_dict(site.norm.state_dict())
    for mine, block in zip(ours.blocks, theirs.blocks, strict=True):
        for part in ("q", "k", "v", "proj"):
            pointwise(getattr(block.attn, f"{part}_conv"), getattr(mine, part).linear)
            getattr(block.attn, f"{part}_bn").load_state_dict(getattr(mine, part).norm.state_dict())
        for index, site in ((1, mine.fc1), (2, mine.fc2)):
            pointwise(getattr(block.mlp, f"fc{index}"), site.linear)
            getattr(block.mlp, f"bn{index}").load_state_dict(site.norm.state_dict())
    theirs.head.load_state_dict(ours.head.state_dict())


def test_sdt_is_spikingjellys():
    space = load_space("sdt")
    config = space.reference
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0)).double()
    ours = prepared(config, space.settings, x)
    theirs = SpikeDrivenTransformer(
        T=config.time_steps,
        num_classes=10,
        embed_dims=config.embed_dim,
        num_heads=config.blocks[0].num_heads,
        depths=config.depth,
        mlp_ratio=config.blocks[0].mlp_ratio,
        pooling_stat="0011",
    ).double()
    assert theirs.blocks[0].attn.attn_lif.v_threshold == 0.5  # unless arguments replace all neurons'
    copy_sdt(ours, theirs)
    with torch.no_grad():
        expected = theirs.eval()(x)
        functional.reset_net(theirs)
        assert expected.std() > 1e-3
        torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-12)
    assert sum(p.numel() for p in theirs.parameters()) == cost.parameters(
        program_of(config, space.settings, shape=(3, 32, 32), classes=10).layers
    )


class PublishedSpikingformer(nn.Module):
    """cifar10/model.py of github zhouchenlin2096/Spikingformer, layer by layer, of spikingjelly's parts."""

    def __init__(self, config, shape, classes):
        super().__init__()
        width, block = config.embed_dim, config.blocks[0]
        widths = [width // 8, width // 4, width // 2, width, width]
        self.steps, self.heads = config.time_steps, block.num_heads
        self.convs = nn.ModuleList(
            layer.Conv2d(a, b, 3, padding=1, bias=False, step_mode="m")
            for a, b in zip([shape[0], *widths], widths, strict=False)
        )
        self.norms = nn.ModuleList(layer.BatchNorm2d(w, step_mode="m") for w in widths)
        self.lifs = nn.ModuleList(lif_node() for _ in range(4))
        self.pool = layer.MaxPool2d(3, stride=2, padding=1, step_mode="m")
        self.blocks = nn.ModuleList(nn.ModuleDict() for _ in config.blocks)
        hidden = int(width * block.mlp_ratio)
        sizes = {
            "q": (width, width, False),
            "k": (width, width, False),
            "v": (width, width, False),
            "proj": (width, width, True),
            "fc1": (width, hidden, True),
            "fc2": (hidden, width, True),
        }
        for parts in self.blocks:
            for name, (inputs, outputs, bias) in sizes.items():
                parts[name] = layer.Conv2d(inputs, outputs, 1, bias=bias, step_mode="m")
                parts[f"{name}_bn"] = layer.BatchNorm2d(outputs, step_mode="m")
            for name in ("x", "q", "k", "v", "mlp", "hidden"):
                parts[f"{name}_lif"] = lif_node()
            parts["attn_lif"] = lif_node(0.5)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        x = x.expand(self.steps, *x.shape)
        for stage, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            if stage:
                x = self.lifs[stage - 1](x)
            x = norm(conv(self.pool(x) if stage >= 3 else x))
        for parts in self.blocks:
            x = x + self.attention(parts, x)
            hidden = parts["fc1_bn"](parts["fc1"](parts["mlp_lif"](x)))
            x = x + parts["fc2_bn"](parts["fc2"](parts["hidden_lif"](hidden)))
        return self.head(x.flatten(3).mean(3).mean(0))

    def attention(self, parts, x):
        spikes = parts["x_lif"](x)
        q, k, v = (
            parts[f"{n}_lif"](parts[f"{n}_bn"](parts[n](spikes))).flatten(3).unflatten(2, (self.heads, -1))
            for n in "qkv"
        )  # [T, B, heads, C / heads, L]
        mixed = 0.125 * (v @ (k.transpose(-2, -1) @ q))
        mixed = parts["attn_lif"](mixed.flatten(2, 3)).unflatten(3, x.shape[3:])
        return parts["proj_bn"](parts["proj"](mixed))


def copy_spikingformer(ours, theirs):
    for site, conv, norm in zip([*ours.stem, ours.position], theirs.convs, theirs.norms, strict=True):
        conv.load_state_dict(site.conv.state_dict())
        norm.load_state_dict(site.norm.state_dict())
    for mine, parts in zip(ours.blocks, theirs.blocks, strict=True):
        for name in ("q", "k", "v", "proj", "fc1", "fc2"):
            pointwise(parts[name], getattr(mine, name).linear)
            parts[f"{name}_bn"].load_state_dict(getattr(mine, name).norm.state_dict())
    theirs.head.load_state_dict(ours.head.state_dict())


def test_spikingformer_is_the_published_one():
    space = load_space("spikingformer")
    config = dataclasses.replace(space.reference, blocks=space.reference.blocks[:2])
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0)).double()
    ours = prepared(config, space.settings, x)
    theirs = PublishedSpikingformer(config, SHAPE, 10).double()
    copy_spikingformer(ours, theirs)
    with torch.no_grad():
        expected = theirs.eval()(x)
        functional.reset_net(theirs)
        assert expected.std() > 1e-3
        torch.testing.assert_close(ours(x), expected, rtol=0, atol=1e-12)
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in ours.parameters())


@pytest.mark.parametrize(
    ("space", "width", "count"),
    [("sdt", 512, 10_234_378), ("sdt", 256, 2_567_434), ("spikingformer", 384, 9_320_122)],
)
def test_published_numbers_of_parameters(space, width, count):
    """Of SDT spikingjelly's, whose stem has biases; Spikingformer's paper says 9.32 million."""
    space = load_space(space)
    config = dataclasses.replace(space.reference, embed_dim=width)
    layers = program_of(config, space.settings, shape=(3, 32, 32), classes=10).layers
    assert cost.parameters(layers) == count


@pytest.mark.parametrize("name", ["spikingformer", "sdt", "membrane_tiny", "membrane_small"])
def test_every_layer_behind_the_first_reads_spikes(name):
    """So the accounts agree on who is billed as MACs: the first layer and the head."""
    space = load_space(name)
    for config in (space.largest, space.smallest, space.reference):
        first, *others = program_of(config, space.settings, shape=(1, 16, 16), classes=10).layers
        assert first.source == "image"
        weighted = [one for one in others if one.kind in ("conv", "linear", "attention", "mask")]
        assert {one.source for one in weighted} == {"spikes"}


def test_batch_normalisation_is_billed_where_no_neurons_follow():
    layer_shape = next(
        one
        for one in program_of(
            load_space("spikingformer").reference,
            load_space("spikingformer").settings,
            shape=(3, 32, 32),
            classes=10,
        ).layers
        if one.name == "blocks.0.proj"
    )
    assert isinstance(layer_shape, LayerShape)
    assert layer_shape.output_size == 0
    assert layer_shape.normalised_size == 384 * 64


def test_settings_of_another_family_are_refused():
    data = load_space("tiny").to_json()
    data["settings"]["stem"] = "sdt"
    with pytest.raises(SpaceError, match=r"settings.stem = 'sdt': belongs to family = 'membrane'"):
        space_from_dict(data)
    data["settings"]["family"] = "transformer"
    with pytest.raises(SpaceError, match=r"settings.family = 'transformer': expected"):
        space_from_dict(data)


def test_the_gradient_of_a_normalisation_is_laid_out_as_its_input():
    """The gradients are PyTorch's, however the gradient that arrives lies in memory."""
    generator = torch.Generator().manual_seed(0)
    norm = torch.nn.BatchNorm2d(3).double()
    y, weights = (torch.randn(4, 3, 5, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    y = y.contiguous(memory_format=torch.channels_last)
    gradients = []
    for module in (norm, lambda z: normalised(z, norm)):
        z = y.clone().requires_grad_()
        (module(z) * weights).sum().backward()
        gradients.append((z.grad, norm.weight.grad.clone()))
        norm.zero_grad()
    for expected, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
