"""The supernet: one network in shared weights, against spikingjelly's Spikformer and against itself."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from spaces import SWITCHES, shipped
from spikingjelly.activation_based import functional, layer
from spikingjelly.activation_based.model import spikformer as oracle
from torch import nn

from aspk.costs import cost
from aspk.errors import GenotypeError
from aspk.families import Spikformer, Supernet, network_of
from aspk.families.layers import initialise
from aspk.space.file import load_space
from aspk.space.genes import NetworkSettings
from aspk.util.shipped import shipped_files

SHAPE, CLASSES = (1, 8, 8), 10
SPACES = {
    **{name: partial(shipped, name) for name in shipped_files("search_spaces")},
    "switches": lambda: SWITCHES,
}


def images(count=6, shape=SHAPE, seed=0, dtype=torch.float64):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.fixture(scope="module")
def tiny():
    return load_space("tiny")


@pytest.fixture(scope="module")
def supernet(tiny):
    return Supernet(tiny, shape=SHAPE, classes=CLASSES).double().eval()


def random_configs(space, count, seed=0):
    return [space.decode(x) for x in space.sample_choices(count, np.random.default_rng(seed))]


# ---------------------------------------------------------------------- against the original network


class PoolBehindLIF(nn.Module):
    """A stem stage of spikingjelly's Spikformer with the pool where the paper's code has it."""

    def __init__(self, stage):
        super().__init__()
        conv, norm, pool = stage.conv_bn.block
        stage.conv_bn.block = layer.SeqToANNContainer(conv, norm)
        self.stage, self.pool = stage, pool

    def forward(self, x):
        spikes = self.stage(x)
        return self.pool(spikes.flatten(0, 1)).unflatten(0, spikes.shape[:2])


def spikingjelly_spikformer(config, shape, classes):
    block = config.blocks[0]
    network = oracle.Spikformer(
        T=config.time_steps,
        in_channels=shape[0],
        img_size_h=shape[1],
        img_size_w=shape[2],
        patch_size=4,
        num_classes=classes,
        embed_dims=config.embed_dim,
        num_heads=block.num_heads,
        mlp_ratio=block.mlp_ratio,
        depths=config.depth,
    )
    stages = network.patch_embed.stages
    for index in (2, 3):
        stages[index] = PoolBehindLIF(stages[index])
    return network


def biased(conv, linear):
    """A 1x1 convolution with the weights and, unlike spikingjelly's, the bias of a linear layer."""
    result = nn.Conv1d(linear.in_features, linear.out_features, 1)
    result.weight.data, result.bias.data = linear.weight.data[..., None].clone(), linear.bias.data.clone()
    assert result.weight.shape == conv.weight.shape
    return result


def copy_into_oracle(ours, theirs):
    for index, stage in enumerate(theirs.patch_embed.stages):
        plain = stage.stage if isinstance(stage, PoolBehindLIF) else stage
        load_conv(ours.stem[index], plain.conv_bn.block)
    load_conv(ours.position, theirs.patch_embed.positional_encoding.conv_bn.block)
    for mine, block in zip(ours.blocks, theirs.blocks, strict=True):
        fused = nn.Linear(mine.q.linear.in_features, 3 * mine.q.linear.out_features)
        parts = (mine.q, mine.k, mine.v)
        fused.weight.data = torch.cat([part.linear.weight.data for part in parts])
        fused.bias.data = torch.cat([part.linear.bias.data for part in parts])
        norm = block.attn.qkv_conv_bn[1]
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(norm, name).data = torch.cat([getattr(part.norm, name).data for part in parts])
        block.attn.qkv_conv_bn[0] = biased(block.attn.qkv_conv_bn[0], fused)
        pairs = ((mine.proj, block.attn.proj_conv_bn), (mine.fc1, block.mlp.fc1), (mine.fc2, block.mlp.fc2))
        for site, container in pairs:
            container[0] = biased(container[0], site.linear)
            container[1].load_state_dict(site.norm.state_dict())
    theirs.head.load_state_dict(ours.head.state_dict())


def load_conv(site, sequence):
    sequence[0].load_state_dict(site.conv.state_dict())
    sequence[1].load_state_dict(site.norm.state_dict())


@pytest.mark.parametrize("depth", [2, 4])
def test_reference_network_is_the_original_spikformer(depth):
    space = load_space("auto_spikformer")
    config = dataclasses.replace(space.reference, blocks=space.reference.blocks[:depth])
    shape, small = (3, 16, 16), 2  # half the paper's side: the same layers, a quarter of the work
    ours = Spikformer(config, space.settings, shape=shape, classes=10)
    initialise(ours, 0)
    ours.double().train()
    x = images(small, shape)
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if name.endswith("bias"):  # biases and shifts that matter, and make every neuron site fire
                shift = 1.0 if ".q." in name or ".k." in name or ".v." in name else 0.2
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(shift + 0.3 * noise)
        ours(x)  # calibrates: running statistics are those of x
        ours.eval()
        theirs = spikingjelly_spikformer(config, shape, 10).double()
        copy_into_oracle(ours, theirs)
        theirs.eval()
        fired = {}
        logits = ours(x, lambda name, _, spikes: fired.update({name: spikes}))
        expected = theirs(x).mean(0)
        functional.reset_net(theirs)
    rates = {name: spikes.mean().item() for name, spikes in fired.items() if spikes is not None}
    assert all(0.001 < rate < 0.999 for rate in rates.values()), rates
    assert expected.std() > 1e-3
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)


def test_reference_network_has_the_published_number_of_parameters():
    space = load_space("auto_spikformer")
    with torch.device("meta"):
        network = Spikformer(space.reference, space.settings, shape=(3, 32, 32), classes=10)
    assert sum(parameter.numel() for parameter in network.parameters()) == 9_324_730


# ---------------------------------------------------------------------- entanglement


@pytest.mark.parametrize("name", SPACES)
def test_extract_is_the_supernet_exactly(name):
    space, x = SPACES[name](), images()
    supernet = Supernet(space, shape=SHAPE, classes=CLASSES).double().eval()
    for config in random_configs(space, 3 if name == "auto_spikformer" else 8):
        statistics = supernet.calibrate(x, config)
        network = supernet.extract(config, statistics)
        assert torch.equal(supernet(x, config, statistics=statistics), network(x))
        assert torch.equal(supernet(x, config), supernet.extract(config)(x))
        assert not {p.data_ptr() for p in network.parameters()} & {
            p.data_ptr() for p in supernet.parameters()
        }


def test_subnets_share_the_leading_slices(tiny, supernet):
    network = supernet.extract(tiny.smallest)
    width = tiny.smallest.embed_dim
    whole = supernet.network.blocks[0].q.linear.weight
    assert torch.equal(network.blocks[0].q.linear.weight, whole[:width, :width])
    assert torch.equal(
        network.stem[3].conv.weight, supernet.network.stem[3].conv.weight[:width, : width // 2]
    )


def test_training_one_path_leaves_the_other_weights_alone(tiny):
    supernet = Supernet(tiny, shape=SHAPE, classes=CLASSES).train()
    supernet(images(dtype=torch.float32), tiny.smallest).sum().backward()
    width = tiny.smallest.embed_dim
    gradient = supernet.network.blocks[0].fc1.linear.weight.grad
    assert gradient[:width, :width].abs().sum() > 0
    assert gradient[width:].abs().sum() == 0
    assert gradient[:, width:].abs().sum() == 0
    assert supernet.network.blocks[1].fc1.linear.weight.grad is None


def neighbours(space, x):
    """Genes in use, each with the genotypes in which only it differs."""
    for column in np.flatnonzero(space.active(x)):
        for index in set(range(space.cardinalities[column])) - {int(x[column])}:
            row = x.copy()
            row[column] = index
            yield space.genes[column], row


def wake_attention(supernet, by=1.0):
    """Raise the shifts of q, k and v: with random weights their spikes hardly ever meet."""
    with torch.no_grad():
        for name, module in supernet.network.named_modules():
            if name.startswith("blocks.") and name.endswith((".q", ".k", ".v")):
                module.norm.bias += by


def few_channels(space):
    """Whether heads are so narrow that q and k must fire more to meet."""
    config, settings = space.largest, space.settings
    own = (
        dataclasses.replace(config, embed_dim=settings.block_width(config, i)) for i in range(config.depth)
    )
    widths = map(settings.attention_width, own, config.blocks)
    return min(width / block.num_heads for width, block in zip(widths, config.blocks, strict=True)) < 8


@pytest.mark.parametrize("name", SPACES)
def test_every_gene_changes_logits_or_cost(name):
    space = SPACES[name]()
    supernet = Supernet(space, shape=SHAPE, classes=CLASSES).double().eval()
    wake_attention(supernet, by=2.0 if few_channels(space) else 1.0)
    with torch.no_grad():
        for parameter in supernet.parameters():
            if parameter.dim() == 0:  # a learnt time constant that starts at 2 is one of 2
                parameter.sub_(1.0)
    x = images(3)
    base = space.largest
    statistics = supernet.calibrate(x, base)
    logits = supernet(x, base, statistics=statistics)
    assert logits.std() > 0
    for gene, row in neighbours(space, space.encode(base)):
        config = space.decode(row)
        changed = supernet(x, config, statistics=supernet.calibrate(x, config))
        assert not torch.equal(logits, changed), f"{gene.parameter} does nothing"


def test_neuron_genes_reach_every_neuron_of_their_block_and_no_other(tiny, supernet):
    x, base = images(16), tiny.largest

    def spikes_of(config):
        fired = {}
        statistics = supernet.calibrate(x, base)
        supernet(x, config, statistics=statistics, observe=lambda name, _, s: fired.update({name: s}))
        return {name: spikes for name, spikes in fired.items() if spikes is not None}

    before = spikes_of(base)
    for gene, value in (("v_threshold", 0.6), ("tau", 4.0)):
        blocks = (base.blocks[0], dataclasses.replace(base.blocks[1], **{gene: value}))
        after = spikes_of(dataclasses.replace(base, blocks=blocks))
        changed = {layer for layer in before if not torch.equal(before[layer], after[layer])}
        sites = {f"blocks.1.{site}" for site in ("q", "k", "v", "av", "proj", "fc1", "fc2")}
        assert changed == sites


# ---------------------------------------------------------------------- evaluation leaves no trace


def test_logits_do_not_depend_on_batch_mates_or_on_what_ran_before(tiny, supernet):
    x = images(8)
    config, other = random_configs(tiny, 2, seed=3)
    statistics = supernet.calibrate(x, config)
    alone = supernet(x[:1], config, statistics=statistics)
    together = supernet(x, config, statistics=statistics)[:1]
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-12)
    same_weights = dataclasses.replace(
        config,
        time_steps=config.time_steps % 4 + 1,
        blocks=tuple(dataclasses.replace(block, v_threshold=0.3, tau=3.0) for block in config.blocks),
    )
    for before in (other, same_weights):
        supernet(x, before, statistics=supernet.calibrate(x, before))
        assert torch.equal(supernet(x, config, statistics=statistics)[:1], together)


def test_evaluation_changes_no_bit_of_the_supernet(tiny, supernet):
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    for config in random_configs(tiny, 3):
        supernet(images(), config, statistics=supernet.calibrate(images(), config))
        supernet.extract(config)(images())
    assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())


def test_first_steps_of_a_long_run_are_the_short_run(tiny, supernet):
    x, longest = images(), tiny.largest
    statistics = supernet.calibrate(x, longest)
    steps = supernet(x, longest, statistics=statistics, per_step=True)
    for count in range(1, longest.time_steps + 1):
        short = dataclasses.replace(longest, time_steps=count)
        torch.testing.assert_close(
            supernet(x, short, statistics=statistics), steps[:count].mean(0), rtol=0, atol=1e-12
        )


def test_a_repeated_image_is_the_static_image(tiny, supernet):
    x, config = images(), tiny.largest
    statistics = supernet.calibrate(x, config)
    sequence = x.expand(config.time_steps, *x.shape)
    torch.testing.assert_close(
        supernet(sequence, config, statistics=statistics),
        supernet(x, config, statistics=statistics),
        rtol=0,
        atol=1e-12,
    )


def test_calibrated_statistics_are_those_of_the_layer_inputs(tiny, supernet):
    x, config = images(32), tiny.smallest
    statistics = supernet.calibrate(x, config)
    first = nn.functional.conv2d(x, supernet.network.stem[0].conv.weight[: config.embed_dim // 8], padding=1)
    torch.testing.assert_close(statistics["stem.0.norm.running_mean"], first.mean((0, 2, 3)))
    torch.testing.assert_close(statistics["stem.0.norm.running_var"], first.var((0, 2, 3)))


# ---------------------------------------------------------------------- shapes and cost


@pytest.mark.parametrize("name", SPACES)
def test_cost_is_that_of_the_built_network(name):
    space = SPACES[name]()
    for config in random_configs(space, 4 if name == "auto_spikformer" else 12, seed=5):
        network = network_of(config, space.settings, shape=SHAPE, classes=CLASSES).eval()
        shapes = cost.layer_shapes(config, space.settings, SHAPE, CLASSES)
        assert cost.parameters(shapes) == sum(p.numel() for p in network.parameters())
        assert cost.operations(shapes) == hooked_operations(network, config)


def hooked_operations(network, config):
    """Dense operations by brute force: output elements times inputs of each, seen by hooks."""
    total = 0
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))

    def count(module, inputs, output):
        nonlocal total
        fan_in = module.weight[0].numel()
        once = module is network.head or module is first
        repeats = config.time_steps if module is first else 1
        total += output.numel() * fan_in * repeats
        assert once or output.shape[0] % config.time_steps == 0

    hooks = [
        m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)
    ]
    seen = {}
    with torch.no_grad():
        network(images(1, dtype=torch.float32), lambda site, inputs, _: seen.update({site: inputs}))
    for hook in hooks:
        hook.remove()
    for name, inputs in seen.items():
        if name.endswith(".qk"):
            q = inputs[0]  # [T, 1, heads, L, D/heads]
            total += 2 * q.numel() * q.shape[-2]
        elif name.endswith((".kv", ".q_sum")):  # sums over tokens, and over channels
            total += inputs[0].numel()
    return total


@pytest.mark.parametrize("patch_size", [1, 2, 4, 8, 16])
def test_patch_size_is_pixels_per_token_side(tiny, patch_size):
    settings = dataclasses.replace(tiny.settings, patch_size=patch_size)
    network = Spikformer(tiny.smallest, settings, shape=(1, 16, 16), classes=3).eval()
    seen = {}
    network(images(1, (1, 16, 16), dtype=torch.float32), lambda site, inputs, _: seen.update({site: inputs}))
    assert seen["blocks.0.q"][0].shape[2] == (16 // patch_size) ** 2


def test_heads_that_do_not_divide_are_refused_before_any_forward(tiny):
    block = dataclasses.replace(tiny.smallest.blocks[0], num_heads=5)
    config = dataclasses.replace(tiny.smallest, blocks=(block,))
    with pytest.raises(GenotypeError, match="num_heads=5"):
        Spikformer(config, NetworkSettings(), shape=SHAPE, classes=2)


def test_same_seed_same_weights(tiny):
    first, second, third = (Supernet(tiny, shape=SHAPE, classes=2, seed=seed) for seed in (1, 1, 2))
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(first.network.head.weight, third.network.head.weight)


def test_runs_on_the_device(tiny, device):
    supernet = Supernet(tiny, shape=SHAPE, classes=CLASSES).to(device).eval()
    x = images(4, dtype=torch.float32).to(device)
    logits = supernet(x, tiny.largest, statistics=supernet.calibrate(x, tiny.largest))
    assert logits.shape == (4, CLASSES)
    assert logits.device.type == device


def test_a_network_can_be_exported_with_torch(tiny):
    """The program that torch.export records has PyTorch's operations, not our kernels."""
    supernet = Supernet(tiny, shape=SHAPE, classes=CLASSES).eval()
    x = images(4, dtype=torch.float32)
    network = supernet.extract(tiny.reference, supernet.calibrate(x, tiny.reference))
    program = torch.export.export(network, (x,)).module()
    with torch.no_grad():
        torch.testing.assert_close(program(x), network(x), rtol=1e-4, atol=1e-5)
