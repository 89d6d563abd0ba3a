"""Running many networks of one supernet at once: whatever two of them share is computed once.

A network is a path in a tree: the stem, then block by block, in a block first the neurons of q, k and v, then
the heads, then the width of the MLP. Batch-normalisation statistics belong to a node of it, since they depend
on the path up to there only. With statistics of a network's own, T is part of the stem's node; with those
that are the same for every T, the first t steps of a longer run are the t-step run, and T is the last level.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aspk import cost
from aspk.config import SubnetConfig
from aspk.engines.base import Charge, Counts, Engine, Layer, Moments, Program, State, pixel_counts
from aspk.errors import EngineError
from aspk.metrics import LayerCount, LayerShape
from aspk.supernet import Supernet
from aspk.supernet.neurons import Neurons
from aspk.supernet.spikformer import ConvNorm, LinearNorm


class _Record:
    """What one layer read and fired at one node, all images so far: sums at each step, [T]."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs = self.exact = torch.zeros(0)
        self.outputs: Tensor | None = None

    def add(self, inputs: Tensor, exact: Tensor, outputs: Tensor | None) -> None:
        """Add a batch; ``exact`` is the inputs as an exact count of operations weighs them."""
        if self.inputs.numel():
            inputs, exact = inputs + self.inputs, exact + self.exact
            outputs = None if outputs is None or self.outputs is None else outputs + self.outputs
        self.inputs, self.exact, self.outputs = inputs, exact, outputs


_Node = tuple[Hashable, ...]
_Trail = tuple[_Record, ...]
_NOTHING: _Trail = ()
_DEEPEST = 126  # blocks: each adds at most two spikes to the two of the stem, and a byte holds 255


class Population:
    """Some networks of a supernet, to be run together.

    Args:
        supernet: the weights; not changed.
        configs: the networks.
        engine: executes.
        statistics: see :class:`aspk.settings.EvaluationSettings`.
        count: whether events are counted.

    Raises:
        EngineError: a network has more than 126 blocks.
    """

    def __init__(
        self,
        supernet: Supernet,
        configs: Sequence[SubnetConfig],
        engine: Engine,
        *,
        statistics: str = "own",
        count: bool = True,
    ) -> None:
        self._supernet, self._engine, self._count = supernet, engine, count
        self._configs = list(dict.fromkeys(configs))
        deepest = max((config.depth for config in self._configs), default=0)
        if deepest > _DEEPEST:
            raise EngineError(
                f"a network of {deepest} blocks: a stream's sums fit a byte up to {_DEEPEST} blocks"
            )
        self._own_time = statistics == "own"
        self._running = statistics == "running"
        self._calibrating = False
        self._moments: dict[Hashable, tuple[Moments, int]] = {}
        self._charges: dict[Hashable, Charge] = {}
        self._layers: dict[Hashable, Layer] = {}
        self._records: dict[Hashable, _Record] = {}
        self._trails: dict[SubnetConfig, _Trail] = {}
        self._known: weakref.WeakKeyDictionary[State, Counts] = weakref.WeakKeyDictionary()
        self._sums: dict[SubnetConfig, Tensor] = {}  # over the tokens of the last stream, [B, T, D]
        self._pixels: dict[int, Counts] = {}  # of the images themselves, by steps
        self._program: Program | None = None
        self._images = 0

    # ------------------------------------------------------------------ what is asked of it

    @torch.no_grad()
    def calibrate(self, images: Tensor) -> None:
        """Take the statistics of every network on ``images``, as one batch, unless they are running ones."""
        if self._running:
            return
        self._calibrating = True
        self._walk(images)
        self._calibrating = False

    @torch.no_grad()
    def run(self, images: Tensor) -> dict[SubnetConfig, Tensor]:
        """Logits [B, classes] of every network on images [B, C, H, W] or sequences [T, B, C, H, W]."""
        batch = images.shape[-4]
        if self._program is not None and batch > self._program.images:
            raise EngineError(
                f"{batch} images at once, expected at most the {self._program.images} of the first batch"
            )
        if self._program is None:
            self._program = self._engine.program(self._walk, images)
        self._program.run(images)
        self._images += batch
        for steps, pixels in self._pixels.items():
            events = pixel_counts(images, steps)
            pixels.sums.add_(events.sums)
            pixels.windowed.add_(events.windowed)
        return {config: self._logits(config, sums[:batch]) for config, sums in self._sums.items()}

    def counts(self, config: SubnetConfig) -> tuple[LayerCount, ...]:
        """What the layers of one network read and fired, as means over all images run so far."""
        records = {record.name: record for record in self._trails[config]}
        return tuple(
            _layer_count(shape, records[shape.name], config.time_steps, self._images, self._tokens)
            for shape in self.shapes(config)
        )

    def shapes(self, config: SubnetConfig) -> tuple[LayerShape, ...]:
        """The layers of one network."""
        supernet = self._supernet
        return cost.layer_shapes(config, supernet.space.settings, supernet.shape, supernet.classes)

    @property
    def _tokens(self) -> int:
        patch = self._supernet.space.settings.patch_size
        height, width = self._supernet.shape[1:]
        return -(-height // patch) * -(-width // patch)

    # ------------------------------------------------------------------ the tree

    def _walk(self, images: Tensor) -> None:
        def stem(config: SubnetConfig) -> _Node:
            own = (config.time_steps,) if self._own_time else ()
            return (config.embed_dim, config.stem_v_threshold, config.stem_tau, *own)

        for node, configs in _groups(self._configs, stem):
            longest = max(config.time_steps for config in configs)
            if self._calibrating and not self._own_time:
                longest = int(max(self._supernet.space.network["time_steps"]))
            self._block(node, 0, configs, *self._stem(node, configs[0], images, longest))

    def _stem(self, node: _Node, config: SubnetConfig, images: Tensor, steps: int) -> tuple[State, _Trail]:
        engine, trail = self._engine, _NOTHING
        neurons = self._neurons(config.stem_tau, config.stem_v_threshold)
        x: State = engine.products(self._layer(config, "stem.0"), images, steps)
        spikes = self._fire(node, self._layer(config, "stem.0"), x, neurons)
        if self._counting:
            zeros = torch.zeros(2, steps, dtype=torch.float64, device=images.device)
            pixels = self._pixels.setdefault(steps, Counts(zeros[0], zeros[1]))
            trail = self._record(node, "stem.0", zeros[0], self._events(spikes).sums)
            trail[0].inputs, trail[0].exact = pixels.sums, pixels.windowed  # that run() adds up
        pooled = cost.pooled_stages(self._supernet.space.settings)
        for index, name in enumerate(("stem.1", "stem.2", "stem.3", "position")):
            x = engine.pool(spikes) if index in pooled else spikes
            spikes = self._fire(node, self._layer(config, name), x, neurons)
            if self._counting:
                read, fired = self._events(x), self._events(spikes).sums
                trail += self._record(node, name, read.sums, fired, exact=read.windowed)
        return engine.stream(x, spikes, keep=not self._calibrating), trail

    def _block(
        self, node: _Node, index: int, configs: Sequence[SubnetConfig], x: State, trail: _Trail
    ) -> None:
        """All that follows the stream ``x``: the networks that end here, and the next block of the others."""
        for config in configs:
            if config.depth == index:
                self._finish(node, config, x, trail)
        settings, name = self._supernet.space.settings, f"blocks.{index}"

        def genes(config: SubnetConfig) -> _Node:
            block = config.blocks[index]
            return (block.v_threshold, block.tau, settings.attention_width(config, block))

        for own, group in _groups([config for config in configs if config.depth > index], genes):
            neurons = self._block_neurons(group[0], index)
            layer = self._layer(group[0], *(f"{name}.{part}" for part in "qkv"))
            qkv = self._fire((*node, index), layer, x, neurons)
            self._attend((*node, index, *own), index, group, x, qkv, trail)

    def _attend(
        self, node: _Node, index: int, configs: Sequence[SubnetConfig], x: State, qkv: State, trail: _Trail
    ) -> None:
        engine, name = self._engine, f"blocks.{index}"
        scale = self._supernet.space.settings.attention_scale

        def genes(config: SubnetConfig) -> _Node:
            return (config.blocks[index].num_heads, config.blocks[index].attention_v_threshold)

        for own, group in _groups(configs, genes):
            block, neurons = group[0].blocks[index], self._block_neurons(group[0], index)
            attention: Neurons = {**neurons, "v_threshold": block.attention_v_threshold}
            seen = engine.attend(qkv, block.num_heads, scale, attention)
            spikes = seen.spikes
            projected = self._fire((*node, *own), self._layer(group[0], f"{name}.proj"), spikes, neurons)
            records: _Trail = ()
            if self._counting:
                inner, read, sent = (*node, *own), self._events(x).sums, self._events(spikes).sums
                for part, fired in zip("qkv", (seen.q, seen.k, seen.v), strict=True):
                    records += self._record(inner, f"{name}.{part}", read, fired)
                records += self._record(inner, f"{name}.qk", seen.q, None, exact=seen.pairs)
                records += self._record(inner, f"{name}.av", seen.v, sent)
                records += self._record(inner, f"{name}.proj", sent, self._events(projected).sums)
            after = engine.add(x, projected)
            del seen, spikes, projected
            self._mlp((*node, *own), index, group, after, trail + records)

    def _mlp(self, node: _Node, index: int, configs: Sequence[SubnetConfig], x: State, trail: _Trail) -> None:
        engine, name = self._engine, f"blocks.{index}"
        neurons = self._block_neurons(configs[0], index)
        widest = max(configs, key=lambda config: config.blocks[index].mlp_ratio)
        hidden = (
            self._fire(node, self._layer(widest, f"{name}.fc1"), x, neurons)
            if engine.independent_outputs  # a narrower layer's neurons are the first ones of the widest
            else None
        )
        for own, group in _groups(configs, lambda config: (config.blocks[index].mlp_ratio,)):
            first, second = (self._layer(group[0], f"{name}.{layer}") for layer in ("fc1", "fc2"))
            inner = (
                self._fire(node, first, x, neurons)
                if hidden is None
                else engine.leading(hidden, len(first.weight))
            )
            spikes = self._fire((*node, *own), second, inner, neurons)
            records: _Trail = ()
            if self._counting:
                read, between, sent = (self._events(state).sums for state in (x, inner, spikes))
                records += self._record((*node, *own), f"{name}.fc1", read, between)
                records += self._record((*node, *own), f"{name}.fc2", between, sent)
            after = engine.add(x, spikes)
            del inner, spikes
            self._block((*node, *own), index + 1, group, after, trail + records)

    def _finish(self, node: _Node, config: SubnetConfig, x: State, trail: _Trail) -> None:
        if self._calibrating:
            return
        self._sums[config] = self._engine.token_sums(x)
        if self._counting:
            self._trails[config] = trail + self._record(
                (*node, config.time_steps), "head", self._events(x).sums, None
            )

    def _logits(self, config: SubnetConfig, sums: Tensor) -> Tensor:
        steps, head = config.time_steps, self._supernet.network.head
        features = sums[:, :steps].sum(1).to(head.weight.dtype) / (steps * self._tokens)  # [B, D]
        return F.linear(features, head.weight[:, : config.embed_dim], head.bias)

    # ------------------------------------------------------------------ one layer

    def _fire(self, node: _Node, layer: Layer, x: State, neurons: Neurons) -> State:
        """Spikes of a layer behind ``node``, which is all that its statistics depend on."""
        key = (node, layer.key)
        if self._calibrating and key not in self._moments:
            self._moments[key] = self._engine.moments(layer, x)
        constants = (self._calibrating, *key, *neurons.values())
        if constants not in self._charges:
            moments = self._moments_of(key, layer)
            self._charges[constants] = self._engine.charge(layer, moments, neurons)
        return self._engine.fire(layer, x, self._charges[constants], neurons)

    def _moments_of(self, key: _Node, layer: Layer) -> Moments:
        if self._running:
            return layer.running
        moments, count = self._moments[key]
        # PyTorch's batch normalisation: the biased variance in training, the unbiased one is kept for later.
        return moments if self._calibrating else moments.unbiased(count)

    def _layer(self, config: SubnetConfig, *names: str) -> Layer:
        """Layers that read the same input as one: the leading slices of the supernet's."""
        outputs, inputs = self._widths(config, names[0])
        key = (*names, outputs, inputs)
        if key not in self._layers:
            sites = [self._supernet.network.get_submodule(name) for name in names]
            self._layers[key] = _joined([_leading(names, site, outputs, inputs) for site in sites])
        return self._layers[key]

    def _widths(self, config: SubnetConfig, name: str) -> tuple[int, int]:
        """Outputs and inputs of a layer."""
        width = config.embed_dim
        if not name.startswith("blocks"):
            widths = (self._supernet.shape[0], *cost.stem_widths(config), width)
            index = cost.STEM_STAGES if name == "position" else int(name.removeprefix("stem."))
            return widths[index + 1], widths[index]
        _, index_, part = name.split(".")
        block = config.blocks[int(index_)]
        attention = self._supernet.space.settings.attention_width(config, block)
        hidden = int(width * block.mlp_ratio)
        sizes = {"proj": (width, attention), "fc1": (hidden, width), "fc2": (width, hidden)}
        return sizes.get(part, (attention, width))

    def _neurons(self, tau: float, v_threshold: float) -> Neurons:
        settings = self._supernet.space.settings
        return {
            "tau": tau,
            "v_threshold": v_threshold,
            "reset": settings.reset,
            "decay_input": settings.decay_input,
        }

    def _block_neurons(self, config: SubnetConfig, index: int) -> Neurons:
        return self._neurons(config.blocks[index].tau, config.blocks[index].v_threshold)

    # ------------------------------------------------------------------ counting

    @property
    def _counting(self) -> bool:
        return self._count and not self._calibrating

    def _events(self, x: State) -> Counts:
        """Counted once for what several layers read."""
        if x not in self._known:
            self._known[x] = self._engine.count(x)
        return self._known[x]

    def _record(
        self, node: _Node, name: str, inputs: Tensor, outputs: Tensor | None, *, exact: Tensor | None = None
    ) -> tuple[_Record]:
        record = self._records.setdefault((node, name), _Record(name))
        record.add(inputs, inputs if exact is None else exact, outputs)
        return (record,)


def _groups(
    configs: Sequence[SubnetConfig], key: Callable[[SubnetConfig], _Node]
) -> list[tuple[_Node, list[SubnetConfig]]]:
    """The networks by key, in the order in which the keys first appear."""
    groups: dict[_Node, list[SubnetConfig]] = {}
    for config in configs:
        groups.setdefault(key(config), []).append(config)
    return list(groups.items())


def _leading(names: tuple[str, ...], site: nn.Module, outputs: int, inputs: int) -> Layer:
    """The leading slice of one of the supernet's layers."""
    assert isinstance(site, ConvNorm | LinearNorm)
    product, norm = site.conv if isinstance(site, ConvNorm) else site.linear, site.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    bias = 0.0 if product.bias is None else product.bias[:outputs].double()
    running = Moments(norm.running_mean[:outputs].double() - bias, norm.running_var[:outputs].double())
    weight = product.weight[:outputs, :inputs]
    return Layer(names, weight, norm.weight[:outputs], norm.bias[:outputs], running, norm.eps)


def _joined(layers: Sequence[Layer]) -> Layer:
    """Layers one above the other."""
    if len(layers) == 1:
        return layers[0]
    running = Moments(
        torch.cat([layer.running.mean for layer in layers]),
        torch.cat([layer.running.variance for layer in layers]),
    )
    return Layer(
        names=layers[0].names,
        weight=torch.cat([layer.weight for layer in layers]),
        gain=torch.cat([layer.gain for layer in layers]),
        offset=torch.cat([layer.offset for layer in layers]),
        running=running,
        eps=layers[0].eps,
    )


def _layer_count(shape: LayerShape, record: _Record, steps: int, images: int, tokens: int) -> LayerCount:
    inputs, exact = (t[:steps].cpu().double() / images for t in (record.inputs, record.exact))
    fired = [] if record.outputs is None else (record.outputs[:steps].cpu().double() / images).tolist()
    if shape.kind == "head":  # reads the mean over tokens and steps, once
        inputs = exact = inputs.sum()[None] / (tokens * steps)
    fan_out = {
        "conv": shape.operations // (9 * shape.input_size),
        "attention": 1 if shape.output_size == 0 else shape.operations / shape.input_size,
    }.get(shape.kind, shape.operations / shape.input_size)
    return LayerCount(
        **asdict(shape),
        input_sums=tuple(inputs.tolist()),
        exact_operations=float(exact.sum()) * fan_out,
        output_spikes=float(sum(fired)),
        output_sums=tuple(fired),
    )
