"""Running many networks of one supernet at once: whatever two of them share is computed once.

A network is a path in a tree: the stem, then block by block, in a block first the neurons of q, k and v, then
the heads, then the width of the MLP. Batch-normalisation statistics belong to a node of it, since they depend
on the path up to there only. With statistics of a network's own, T is part of the stem's node; with those
that are the same for every T, the first t steps of a longer run are the t-step run, and T is the last level.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from aspk.costs import cost
from aspk.engines.base import Charge, Counts, Engine, Layer, Moments, Program, State, pixel_counts
from aspk.engines.slices import Slices
from aspk.errors import EngineError
from aspk.families import Supernet
from aspk.families.neurons import Neurons
from aspk.metrics import LayerCount, LayerShape
from aspk.space.genes import SubnetConfig


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
        statistics: see :class:`aspk.spec.settings.EvaluationSettings`.
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
        self._slices = Slices(supernet)
        self._records: dict[Hashable, _Record] = {}
        self._trails: dict[SubnetConfig, _Trail] = {}
        self._known: weakref.WeakKeyDictionary[State, Counts] = weakref.WeakKeyDictionary()
        self._sums: dict[SubnetConfig, Tensor] = {}  # over the tokens of the last stream, [B, T, D]
        self._pixels: Counts | None = None  # of the images themselves
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
        if self._pixels is not None:
            events = pixel_counts(images, len(self._pixels.sums))
            self._pixels.sums.add_(events.sums)
            self._pixels.windowed.add_(events.windowed)
        return {config: self._logits(config, sums[:batch]) for config, sums in self._sums.items()}

    def counts(self, config: SubnetConfig) -> tuple[LayerCount, ...]:
        """What the layers of one network read and fired, as means over all images run so far."""
        records = {record.name: record for record in self._trails[config]}
        return tuple(
            _layer_count(shape, records[shape.name], config.time_steps, self._images, self._tokens)
            for shape in self.shapes(config)
        )

    def image_bytes(self) -> int:
        """Estimate of the memory that one image needs: states, and each network's sums over tokens."""
        first = self.shapes(self._supernet.space.largest)[0]  # computed for the supernet's whole width
        states = max(self._engine.image_bytes((first, *self.shapes(one)[1:])) for one in self._configs)
        return states + sum(4 * config.time_steps * config.embed_dim for config in self._configs)

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
        engine, longest = self._engine, max(config.time_steps for config in self._configs)
        if self._calibrating and not self._own_time:
            longest = self._supernet.space.max_time_steps
        products = engine.products(self._slices.first(), images, longest)
        if self._counting and self._pixels is None:
            zeros = torch.zeros(2, longest, dtype=torch.float64, device=images.device)
            self._pixels = Counts(zeros[0], zeros[1])  # that run() adds up

        def stem(config: SubnetConfig) -> _Node:
            return (config.embed_dim, config.stem_v_threshold, config.stem_tau)

        for node, configs in _groups(self._configs, stem):
            steps = max(config.time_steps for config in configs) if self._own_time else longest
            own = engine.leading(engine.first(products, steps), cost.stem_widths(configs[0])[0])
            if not self._own_time:
                self._stem(node, configs, own)
            elif images.dim() == 4:
                self._stem(node, configs, own, several=True)
            else:
                for time, group in _groups(configs, lambda config: (config.time_steps,)):
                    self._stem((*node, *time), group, engine.first(own, group[0].time_steps))

    def _stem(
        self, node: _Node, configs: Sequence[SubnetConfig], products: State, *, several: bool = False
    ) -> None:
        """The stem and all that follows; with ``several``, networks of each T part behind its first layer."""
        engine, layer = self._engine, self._slices.layer(configs[0], "stem.0")
        spikes = self._fire(node, layer, products, self._stem_neurons(configs[0]))
        trail = _NOTHING
        if self._counting:
            assert self._pixels is not None
            trail = self._record(node, "stem.0", self._pixels.sums, self._events(spikes).sums)
            trail[0].inputs, trail[0].exact = self._pixels.sums, self._pixels.windowed
        x = self._pooled(0, spikes)
        if not several:
            return self._stages(node, configs, x, x, trail)
        # A still image's first layer is the same for every T; of the second one, the products are.
        kept = engine.keep(self._slices.layer(configs[0], "stem.1"), x)
        for time, group in _groups(configs, lambda config: (config.time_steps,)):
            first, read = (engine.first(state, group[0].time_steps) for state in (x, kept))
            self._stages((*node, *time), group, first, read, trail)

    def _stages(
        self, node: _Node, configs: Sequence[SubnetConfig], x: State, read: State, trail: _Trail
    ) -> None:
        """The stem behind its first layer, and all that follows; ``read`` is ``x``, or what is kept of it."""
        config, neurons = configs[0], self._stem_neurons(configs[0])
        for index, name in enumerate(("stem.1", "stem.2", "stem.3", "position"), 1):
            spikes = self._fire(node, self._slices.layer(config, name), read, neurons)
            if self._counting:
                events, fired = self._events(x), self._events(spikes).sums
                trail += self._record(node, name, events.sums, fired, exact=events.windowed)
            if name != "position":
                x = read = self._pooled(index, spikes)
        self._block(node, 0, configs, self._engine.stream(x, spikes, keep=not self._calibrating), trail)

    def _pooled(self, index: int, spikes: State) -> State:
        """What the layer behind a stage of the stem reads."""
        pooled = index in cost.pooled_stages(self._supernet.space.settings)
        return self._engine.pool(spikes) if pooled else spikes

    def _stem_neurons(self, config: SubnetConfig) -> Neurons:
        return self._neurons(config.stem_tau, config.stem_v_threshold)

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
            layer = self._slices.layer(group[0], *(f"{name}.{part}" for part in "qkv"))
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
            projected = self._fire(
                (*node, *own), self._slices.layer(group[0], f"{name}.proj"), spikes, neurons
            )
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
            self._fire(node, self._slices.layer(widest, f"{name}.fc1"), x, neurons)
            if engine.independent_outputs  # a narrower layer's neurons are the first ones of the widest
            else None
        )
        for own, group in _groups(configs, lambda config: (config.blocks[index].mlp_ratio,)):
            first, second = (self._slices.layer(group[0], f"{name}.{layer}") for layer in ("fc1", "fc2"))
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
        if self._calibrating:
            x = self._engine.keep(layer, x)
            if key not in self._moments:
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
        **vars(shape),
        input_sums=tuple(inputs.tolist()),
        exact_operations=float(exact.sum()) * fan_out,
        output_spikes=float(sum(fired)),
        output_sums=tuple(fired),
    )
