"""What a network consists of: a program of operations, which its family declares once.

Everything that is known of a network without running it is a fold over its program: the shapes of its layers,
parameters and operations, the slices of a supernet's weights, what is counted, and what two networks share.
An operation holds everything that it depends on. So two networks compute the same up to some point if, and
only if, their operations up to there are equal: no list of genes says so, and none can be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypedDict

from aspk.metrics import Kind, LayerShape, Source

Reset = Literal["hard", "soft"]


class Neurons(TypedDict):
    """The properties of one site's neurons, see :func:`aspk.families.neurons.lif`."""

    tau: float
    v_threshold: float
    reset: Reset
    decay_input: bool


@dataclass(frozen=True)
class LIF:
    """Leaky integrate-and-fire neurons, see :func:`aspk.families.neurons.lif`.

    Attributes:
        tau: membrane time constant in steps, > 1.
        v_threshold: firing threshold, > 0.
        reset: what a spike does to the membrane.
        decay_input: whether the input is divided by tau.
        learnt: whether each site's time constant is a weight of the network (PLIF), and ``tau`` what it is
            before training.
    """

    tau: float
    v_threshold: float
    reset: Reset
    decay_input: bool
    learnt: bool = False

    @property
    def arguments(self) -> Neurons:
        """The same, as :func:`aspk.families.neurons.lif` takes them, but for what is learnt."""
        return {
            "tau": self.tau,
            "v_threshold": self.v_threshold,
            "reset": self.reset,
            "decay_input": self.decay_input,
        }


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One step of a network.

    Attributes:
        reads: names of the values that it reads, first the one that it works on.
        writes: name of the value that it makes; an older one of this name is gone.
    """

    reads: tuple[str, ...]
    writes: str

    def layers(self, steps: int) -> Iterator[LayerShape]:
        """The layers that an energy account bills, when the network runs ``steps`` steps; none by default."""
        yield from ()


@dataclass(frozen=True, kw_only=True)
class Product(Operation):
    """A layer with weights, batch normalisation and neurons; or several that read the same value.

    Attributes:
        names: the layers' names, those of their weights in the network's module.
        source: what they read.
        inputs: channels that each reads.
        outputs: channels that each fires.
        size: height and width of what they read; the number of tokens and 1 for a linear layer.
        neurons: those behind them.
    """

    names: tuple[str, ...]
    source: Source
    inputs: int
    outputs: int
    size: tuple[int, int]
    neurons: LIF

    def _layer(self, name: str, kind: Kind, weights: int, biases: int, steps: int) -> LayerShape:
        positions = self.size[0] * self.size[1]
        return LayerShape(
            name=name,
            kind=kind,
            source=self.source,
            operations=weights * positions,
            repeats=steps,
            input_size=self.inputs * positions,
            output_size=self.outputs * positions,
            parameters=weights + biases + 2 * self.outputs + self.neurons.learnt,
        )


@dataclass(frozen=True, kw_only=True)
class Convolution(Product):
    """3x3 convolutions with padding 1 and without bias."""

    def layers(self, steps: int) -> Iterator[LayerShape]:
        """See :class:`Operation`."""
        for name in self.names:
            yield self._layer(name, "conv", 9 * self.inputs * self.outputs, 0, steps)


@dataclass(frozen=True, kw_only=True)
class Linear(Product):
    """Linear layers with bias over tokens."""

    def layers(self, steps: int) -> Iterator[LayerShape]:
        """See :class:`Operation`."""
        for name in self.names:
            yield self._layer(name, "linear", self.inputs * self.outputs, self.outputs, steps)


@dataclass(frozen=True, kw_only=True)
class Pooling(Operation):
    """Max pooling of spikes, 3x3 with stride 2 and padding 1.

    Attributes:
        place: the layer whose spikes it pools.
        size: values that it reads in one step.
    """

    place: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Attention(Operation):
    """Spiking self-attention: neurons behind ``scale`` (q kᵀ) v, of the spikes of q, k and v in each head.

    It reads the spikes of q, k and v, and names what those were made of, so that it is at hand when events
    are counted.

    Attributes:
        names: the names of q kᵀ and of the product with v.
        made_by: the layers that fire q, k and v.
        heads: attention heads.
        scale: factor on (q kᵀ) v.
        width: channels of q, k and v each.
        tokens: number of tokens.
        neurons: those behind it.
    """

    names: tuple[str, str]
    made_by: tuple[str, str, str]
    heads: int
    scale: float
    width: int
    tokens: int
    neurons: LIF

    def layers(self, steps: int) -> Iterator[LayerShape]:
        """See :class:`Operation`."""
        fired, learnt = (0, self.width * self.tokens), (0, int(self.neurons.learnt))
        for name, neurons, parameters in zip(self.names, fired, learnt, strict=True):
            yield LayerShape(
                name=name,
                kind="attention",
                source="spikes",
                operations=self.tokens * self.tokens * self.width,
                repeats=steps,
                input_size=self.width * self.tokens,
                output_size=neurons,
                parameters=parameters,
            )


@dataclass(frozen=True, kw_only=True)
class Addition(Operation):
    """Sums: of spikes, which starts a residual stream of tokens, or of a stream and spikes.

    Attributes:
        place: the part of the network that it belongs to.
        size: values that it makes in one step.
        starts: whether it starts the stream.
    """

    place: str
    size: int
    starts: bool = False


@dataclass(frozen=True, kw_only=True)
class Mean(Operation):
    """The mean over the tokens of a stream, at each step.

    Attributes:
        read_by: the layer that reads it.
        tokens: number of tokens.
    """

    read_by: str
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Head(Operation):
    """A linear layer with bias on means over tokens and time, which gives the logits.

    Attributes:
        name: the layer's name.
        inputs: channels.
        classes: number of classes.
    """

    name: str
    inputs: int
    classes: int

    def layers(self, steps: int) -> Iterator[LayerShape]:
        """See :class:`Operation`; it runs once, whatever the steps."""
        weights = self.inputs * self.classes
        yield LayerShape(
            name=self.name,
            kind="head",
            source="analog",
            operations=weights,
            repeats=1,
            input_size=self.inputs,
            output_size=0,
            parameters=weights + self.classes,
        )


OPERATIONS: frozenset[type[Operation]] = frozenset(
    {Convolution, Linear, Pooling, Attention, Addition, Mean, Head}
)
IMAGE = "image"  # the value that a network is given


@dataclass(frozen=True)
class Program:
    """The operations of one network, in the order of execution.

    Attributes:
        operations: the first reads the image, the last two are the mean over tokens and the head.
        time_steps: simulated steps T.
    """

    operations: tuple[Operation, ...]
    time_steps: int

    @property
    def layers(self) -> tuple[LayerShape, ...]:
        """Every layer, in the order of execution."""
        return tuple(layer for one in self.operations for layer in one.layers(self.time_steps))

    @property
    def first(self) -> Product:
        """The operation that reads the image."""
        first = self.operations[0]
        assert isinstance(first, Product)
        return first

    @property
    def mean(self) -> Mean:
        """The operation before the last one."""
        mean = self.operations[-2]
        assert isinstance(mean, Mean)
        return mean

    @property
    def head(self) -> Head:
        """The last operation."""
        head = self.operations[-1]
        assert isinstance(head, Head)
        return head

    def drivers(self, site: str) -> tuple[str, ...]:
        """The layers with weights whose normalisations decide how much the neurons of a site fire."""
        for operation in self.operations:
            if isinstance(operation, Attention) and site in operation.names:
                return operation.made_by
        return (site,)
