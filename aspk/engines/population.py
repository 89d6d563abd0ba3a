"""Running many networks of one supernet at once: whatever two of them share is computed once.

A network is a path in the tree of all networks' operations (:mod:`aspk.engines.tree`). Batch-normalisation
statistics belong to a node of the tree, since they depend only on the path up to it.
"""

from __future__ import annotations

import functools
import weakref
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from aspk.engines.base import (
    Charge,
    Counts,
    Engine,
    Layer,
    Moments,
    State,
    foreign_operations,
    pixel_counts,
)
from aspk.engines.base import Program as EngineProgram
from aspk.engines.records import Record, layer_count
from aspk.engines.slices import Slices
from aspk.engines.tree import Node, Steps, Time, plant
from aspk.errors import EngineError
from aspk.families import Supernet
from aspk.families.base import (
    IMAGE,
    LIF,
    Addition,
    Convolution,
    Firing,
    Maps,
    Mean,
    Mixer,
    Operation,
    Pooling,
    Product,
    Program,
    Sampling,
    Tokens,
)
from aspk.families.neurons import lif
from aspk.metrics import LayerCount, LayerShape
from aspk.space.genes import SubnetConfig

_LARGEST = 255  # that a byte of a stream holds


class _States(NamedTuple):
    """What was computed on the way to a node.

    Attributes:
        values: the values, by the names that operations read.
        kept: what the engine keeps for a layer that reads a value next, by the layer's key.
        wide: spikes of the widest of several layers that differ only in their number of outputs.
    """

    values: Mapping[str, State]
    kept: Mapping[Hashable, State]
    wide: dict[Product, State]


class _Notes:
    """What belongs to a node: statistics of the layers right behind it, and what was counted at it."""

    def __init__(self) -> None:
        self.moments: dict[Hashable, tuple[Moments, int]] = {}
        self.charges: dict[Hashable, Charge] = {}
        self.records: dict[str, Record] = {}


class Population:
    """Some networks of a supernet, to be run together.

    Args:
        supernet: the weights; not changed.
        configs: the networks.
        engine: executes.
        statistics: see :class:`aspk.spec.settings.EvaluationSettings`.
        count: whether events are counted.

    Raises:
        EngineError: the engine does not support an operation of a network, or a network is too deep.
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
        self._programs = {config: self._supernet.program(config) for config in configs}
        for config, program in self._programs.items():
            _check(config, program, engine)
        self._own_time = statistics == "own"
        self._running = statistics == "running"
        self._calibrating = False
        self._longest = max((config.time_steps for config in configs), default=0)
        self._slices = Slices(supernet)
        self._paths: dict[SubnetConfig, tuple[Node, ...]] = {}
        self._notes: defaultdict[Node, _Notes] = defaultdict(_Notes)
        self._known: weakref.WeakKeyDictionary[State, Counts] = weakref.WeakKeyDictionary()
        self._sums: dict[Node, Tensor] = {}  # over the tokens of the last stream or current, [B, T, D]
        self._spikes: dict[Node, Tensor] = {}  # of neurons that read means over tokens, [T, B, D]
        self._pixels: Counts | None = None  # of the images themselves
        self._program: EngineProgram | None = None
        self._images = 0

    # ------------------------------------------------------------------ public interface

    @torch.no_grad()
    def calibrate(self, images: Tensor) -> None:
        """Compute every network's statistics on ``images`` as one batch, unless the running ones are used."""
        if self._running:
            return
        with self._engine.alone:
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
        with self._engine.alone:
            if self._program is None:
                self._program = self._engine.program(self._walk, images)
            self._program.run(images)
        for node in self._sums:
            assert isinstance(node.step, Mean)
            self._behind_means(node, node.step, batch)
        self._images += batch
        if self._pixels is not None:
            events = pixel_counts(images, len(self._pixels.sums))
            self._pixels.sums.add_(events.sums)
            self._pixels.windowed.add_(events.windowed)
        return {config: self._logits(config, batch) for config in self._programs}

    def counts(self, config: SubnetConfig) -> tuple[LayerCount, ...]:
        """What the layers of one network read and fired, as means over all images run so far."""
        program, records = self._programs[config], dict[str, Record]()
        for node in self._paths[config]:
            records |= self._notes[node].records
        steps, tokens = program.time_steps, program.averaged_tokens
        return tuple(
            layer_count(layer, records[layer.name], steps=steps, images=self._images, tokens=tokens)
            for layer in program.layers
        )

    def image_bytes(self) -> int:
        """Estimate of the memory that one image needs: states, and each network's sums over tokens."""
        first = self.shapes(self._supernet.space.largest)[0]  # computed for the supernet's whole width
        states = max(self._engine.image_bytes((first, *self.shapes(one)[1:])) for one in self._programs)
        sums = (program.time_steps * program.head.inputs for program in self._programs.values())
        return states + sum(4 * size for size in sums)

    def shapes(self, config: SubnetConfig) -> tuple[LayerShape, ...]:
        """The layers of one network."""
        return self._supernet.program(config).layers

    # ------------------------------------------------------------------ the tree

    def _walk(self, images: Tensor) -> None:
        root, longest = self._root(images), self._longest
        if self._calibrating and not self._own_time:
            longest = int(max(self._supernet.space.network["time_steps"]))
        if self._counting and self._pixels is None:
            zeros = torch.zeros(2, longest, dtype=torch.float64, device=images.device)
            self._pixels = Counts(zeros[0], zeros[1])  # filled by run()
        # The products of the supernet's widest first layer include those of every width.
        first = self._supernet.program(self._supernet.space.largest).first
        products = self._engine.products(self._slices.layer(first), images, longest)
        waiting = [(root, _States({IMAGE: products}, {}, {}))]
        while waiting:  # depth first, so that few states are held
            node, states = waiting.pop()
            if self._calibrating and isinstance(node.step, Mean):
                continue  # no statistics come behind the last neurons
            states = self._behind(node, states)
            waiting += [(child, states) for child in reversed(node.children.values())]

    def _root(self, images: Tensor) -> Node:
        if not self._paths:
            time: Time = "never" if not self._own_time else "second" if images.dim() == 4 else "first"
            paths = plant(list(self._programs.values()), time)
            self._paths = dict(zip(self._programs, paths, strict=True))
        return next(iter(self._paths.values()))[0]

    def _behind(self, node: Node, states: _States) -> _States:
        """The values behind a node that the nodes after it read."""
        step, values, kept = node.step, dict(states.values), dict(states.kept)
        if isinstance(step, Steps):
            first, steps = self._engine.first, step.time_steps
            values = {name: first(state, steps) for name, state in values.items()}
            kept = {key: first(state, steps) for key, state in kept.items()}
        elif isinstance(step, Operation):
            values[step.writes] = self._result(node, step, states)
            kept = {}
        values = {name: state for name, state in values.items() if name in node.live}
        if any(isinstance(one, Steps) for one in node.children) and IMAGE not in values:
            kept = self._kept(node, values)
        return _States(values, kept, {})

    def _kept(self, node: Node, values: Mapping[str, State]) -> dict[Hashable, State]:
        """Products behind a still image's first layer, whose first steps networks of every T share."""
        products = (one for parted in node.children.values() for one in parted.children)
        layers = [(one.reads[0], self._slices.layer(one)) for one in products if isinstance(one, Product)]
        return {layer.key: self._engine.keep(layer, values[name]) for name, layer in layers}

    def _result(self, node: Node, step: Operation, states: _States) -> State:
        """An operation's output; means and logits are computed when the engine is done."""
        x, *others = (states.values[name] for name in step.reads)
        if isinstance(step, Product):
            return self._product(node, step, states)
        if isinstance(step, Mixer):
            return self._mix(node, step, x, *others)
        if isinstance(step, Firing):
            return self._spike(node, step, x)
        if isinstance(step, Mean):
            self._sums[node] = self._engine.token_sums(x)
            if self._counting and step.source == "residual":
                self._note(node, step.read_by, self._events(x).sums, None)
        return self._without_neurons(step, x, *others)

    def _without_neurons(self, step: Operation, x: State, *others: State) -> State:
        engine, result = self._engine, None
        match step:
            case Tokens():
                result = engine.tokens(x)
            case Maps():
                result = engine.maps(x, step.size)
            case Pooling():
                result = engine.pool(x)
            case Sampling():
                result = engine.sample(x)
            case Addition(starts=True):
                result = engine.stream(x, *others, keep=not self._calibrating)
            case Addition():
                result = engine.add(x, *others)
        return result

    def _behind_means(self, node: Node, mean: Mean, batch: int) -> None:
        """Run what reads the means over tokens of a current: neurons, or just the head."""
        sums = self._sums[node][:batch].transpose(0, 1).contiguous()  # [T, B, D]
        if self._counting and mean.source != "residual":
            totals = torch.stack([step.sum(dtype=torch.float64) for step in sums])  # alike for every T
            self._note(node, mean.read_by, totals, None)
        for child in node.children.values():
            if isinstance(step := child.step, Firing):
                learnt = self._slices.reciprocal_tau(step.name, step.neurons)
                means = sums.to(self._supernet.network.head.weight.dtype) / mean.tokens
                fired = lif(means, reciprocal_tau=learnt, **step.neurons.arguments)
                self._spikes[child] = fired
                if self._counting:
                    totals = fired.sum((1, 2), dtype=torch.float64)
                    self._note(child, step.name, torch.zeros_like(totals), totals)
                    self._note(child, "head", totals, None)

    def _logits(self, config: SubnetConfig, batch: int) -> Tensor:
        program, head = self._programs[config], self._supernet.network.head
        steps, end = program.time_steps, self._paths[config][-2]
        if end in self._spikes:
            features = self._spikes[end][:steps].mean(0)  # [B, D]
        else:
            first, *others = self._sums[end][:batch, :steps].unbind(1)
            sums = functools.reduce(torch.add, others, first)  # in this order, whatever the number of steps
            features = sums.to(head.weight.dtype) / (steps * program.mean.tokens)
        return F.linear(features, head.weight[:, : program.head.inputs], head.bias)

    # ------------------------------------------------------------------ one operation

    def _product(self, node: Node, product: Product, states: _States) -> State:
        """The spikes, or currents, of one layer, or of several side by side."""
        engine, layer, x = self._engine, self._slices.layer(product), states.values[product.reads[0]]
        if product.source == "image":
            first = engine.first(x, node.longest) if self._own_time else x
            spikes = self._fire(node, layer, engine.leading(first, product.outputs), product.neurons)
        elif engine.independent_outputs and len(product.names) == 1 and product.neurons:
            widest = node.widest(product)  # a narrower layer's neurons are the first ones of the widest
            if widest not in states.wide:
                wide = self._slices.layer(widest)
                read = states.kept.get(wide.key, x)
                states.wide[widest] = self._fire(node, wide, read, product.neurons)
            spikes = states.wide[widest]
            if widest != product:
                spikes = engine.leading(spikes, product.outputs)
        else:
            spikes = self._fire(node, layer, states.kept.get(layer.key, x), product.neurons)
        if self._counting and len(product.names) == 1:  # of several, the mixer counts each one's spikes
            read = self._pixels if product.source == "image" else self._events(x)
            assert read is not None
            exact = read.sums
            if type(product) is Convolution:
                exact = read.windowed
            elif isinstance(product, Convolution):
                exact = engine.windowed(x, product.kernel_side, product.stride)
            fired = self._events(spikes).sums if product.neurons else None
            record = self._note(node, product.names[0], read.sums, fired, exact=exact)
            if product.source == "image":
                record.inputs, record.exact = read.sums, read.windowed  # all batches, as run() adds them up
        return spikes

    def _mix(self, node: Node, mixer: Mixer, spikes: State, x: State) -> State:
        """A mixer's output; ``x`` is what the layers in front of it read."""
        learnt = self._slices.reciprocal_tau(mixer.site, mixer.neurons)
        mixed = self._engine.mix(mixer, spikes, learnt)
        if self._counting:
            read = self._events(x).sums
            for name, fired in zip(mixer.made_by, mixed.read, strict=True):
                self._note(node, name, read, fired)
            for name, row in zip(mixer.names, mixed.rows, strict=True):
                counted = row.outputs is None or isinstance(row.outputs, Tensor)
                outputs = row.outputs if counted else self._events(row.outputs).sums
                self._note(node, name, row.inputs, outputs, exact=row.exact)
        return mixed.spikes

    def _spike(self, node: Node, firing: Firing, current: State) -> State:
        """The spikes of neurons that read a current; neurons that read means come later."""
        if current is None:
            return None
        learnt = self._slices.reciprocal_tau(firing.name, firing.neurons)
        spikes = self._engine.spike(current, firing.neurons.arguments, learnt)
        if self._counting:
            fired = self._events(spikes).sums
            self._note(node, firing.name, torch.zeros_like(fired), fired)
        return spikes

    def _fire(self, node: Node, layer: Layer, x: State, neurons: LIF | None) -> State:
        """Spikes or currents of a layer at ``node``; its statistics depend only on what precedes it."""
        assert node.parent is not None
        notes = self._notes[node.parent]
        if self._calibrating:
            x = self._engine.keep(layer, x)
            if layer.key not in notes.moments:
                notes.moments[layer.key] = self._engine.moments(layer, x)
        key = (self._calibrating, layer.key, neurons)
        if key not in notes.charges:
            moments = self._moments(notes, layer)
            notes.charges[key] = self._engine.charge(layer, moments, neurons)
        if neurons is None:
            return self._engine.current(layer, x, notes.charges[key])
        return self._engine.fire(layer, x, notes.charges[key], neurons.arguments)

    def _moments(self, notes: _Notes, layer: Layer) -> Moments:
        if self._running:
            return layer.running
        moments, count = notes.moments[layer.key]
        # As in PyTorch's batch normalisation: biased variance in training, unbiased in running statistics.
        return moments if self._calibrating else moments.unbiased(count)

    # ------------------------------------------------------------------ counting

    @property
    def _counting(self) -> bool:
        return self._count and not self._calibrating

    def _events(self, x: State) -> Counts:
        """The events of a state, counted once even if several layers read it."""
        if x not in self._known:
            self._known[x] = self._engine.count(x)
        return self._known[x]

    def _note(
        self, node: Node, layer: str, inputs: Tensor, outputs: Tensor | None, *, exact: Tensor | None = None
    ) -> Record:
        record = self._notes[node].records.setdefault(layer, Record())
        record.add(inputs, inputs if exact is None else exact, outputs)
        return record


def _check(config: SubnetConfig, program: Program, engine: Engine) -> None:
    foreign = foreign_operations(program.operations, engine)
    if foreign:
        raise EngineError(f"engine {engine.name!r} does not run {', '.join(foreign)}; take engine 'torch'")
    additions = [one for one in program.operations if isinstance(one, Addition)]
    sums = 1 + len(additions)
    if sums > _LARGEST and any(one.starts for one in additions):
        raise EngineError(
            f"a network of {config.depth} blocks adds {sums} spikes up in a stream; a byte holds {_LARGEST}"
        )
