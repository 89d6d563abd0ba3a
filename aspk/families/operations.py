"""What networks are made of: operations, each of which holds everything that it depends on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, TypedDict

from aspk.metrics import Kind, LayerShape, Source
from aspk.space.genes import NetworkSettings

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
        """The same as keywords of :func:`aspk.families.neurons.lif`, without what is learnt."""
        return {
            "tau": self.tau,
            "v_threshold": self.v_threshold,
            "reset": self.reset,
            "decay_input": self.decay_input,
        }


def neurons_of(settings: NetworkSettings, neuron: str, tau: float, v_threshold: float) -> LIF:
    """The neurons that settings and genes describe."""
    return LIF(tau, v_threshold, settings.reset, settings.decay_input, learnt=neuron == "plif")


@dataclass(frozen=True, kw_only=True)
class ConvolutionShape(LayerShape):
    """A convolution other than one with a 3x3 kernel, stride 1 and all channels connected.

    Attributes:
        kernel: side of the kernel, odd; the padding is half of it, rounded down.
        stride: pixels from one output to the next.
        fan_out: outputs that read an input value in each window that contains it.
    """

    kernel: int
    stride: int
    fan_out: int


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One step of a network.

    Attributes:
        reads: names of the values that it reads, the main one first.
        writes: name of the value that it makes; an older value of this name is replaced.
    """

    reads: tuple[str, ...]
    writes: str

    def layers(self, steps: int) -> Iterator[LayerShape]:
        """The layers that an energy account bills if the network runs ``steps`` steps; none by default."""
        yield from ()


@dataclass(frozen=True, kw_only=True)
class Product(Operation):
    """A layer with weights and batch normalisation; or several that read the same value.

    Its output is the spikes of the neurons behind it or, without neurons, currents.

    Attributes:
        names: the layers' names, those of their weights in the network's module.
        source: what they read.
        inputs: channels that each reads.
        outputs: channels that each makes.
        size: height and width of their input; for a linear layer, the number of tokens and 1.
        neurons: the neurons behind them, if any.
        bias: whether they have biases, which the normalisation cancels.
    """

    names: tuple[str, ...]
    source: Source
    inputs: int
    outputs: int
    size: tuple[int, int]
    neurons: LIF | None
    bias: bool

    @property
    def form(self) -> tuple[int, ...]:
        """Shape of each one's weights, outputs first."""
        return (self.outputs, self.inputs)

    @property
    def made(self) -> tuple[int, int]:
        """Height and width of their output."""
        return self.size

    def _layer(self, name: str, kind: Kind, steps: int) -> LayerShape:
        read, made, weights = math.prod(self.size), math.prod(self.made), math.prod(self.form)
        biases = self.outputs * self.bias
        learnt = self.neurons.learnt if self.neurons else False
        return LayerShape(
            name=name,
            kind=kind,
            source=self.source,
            operations=weights * made,
            repeats=steps,
            input_size=self.inputs * read,
            output_size=self.outputs * made if self.neurons else 0,
            parameters=weights + biases + 2 * self.outputs + learnt,
            normalised_size=None if self.neurons else self.outputs * made,
        )


@dataclass(frozen=True, kw_only=True)
class Convolution(Product):
    """3x3 convolutions with padding 1."""

    bias: bool = False
    stride: ClassVar[int] = 1

    @property
    def kernel_side(self) -> int:
        """Side of the kernels."""
        return 3

    @property
    def form(self) -> tuple[int, ...]:
        """See :class:`Product`."""
        return (self.outputs, self.inputs, self.kernel_side, self.kernel_side)

    @property
    def made(self) -> tuple[int, int]:
        """See :class:`Product`."""
        height, width = (-(-side // self.stride) for side in self.size)
        return height, width

    def layers(self, steps: int) -> Iterator[LayerShape]:
        """See :class:`Operation`."""
        for name in self.names:
            yield self._layer(name, "conv", steps)

    def _windowed(self, steps: int, fan_out: int) -> Iterator[LayerShape]:
        for name in self.names:
            plain = vars(self._layer(name, "conv", steps))
            yield ConvolutionShape(**plain, kernel=self.kernel_side, stride=self.stride, fan_out=fan_out)


@dataclass(frozen=True, kw_only=True)
class StridedConvolution(Convolution):
    """3x3 convolutions with padding 1 and stride 2."""

    stride: ClassVar[int] = 2

    def layers(self, steps: int) -> Iterator[LayerShape]:
        """See :class:`Operation`."""
        return self._windowed(steps, fan_out=self.outputs)


@dataclass(frozen=True, kw_only=True)
class DepthwiseConvolution(Convolution):
    """Convolutions of each channel on its own, with as much padding as keeps the size.

    Attributes:
        kernel: side of the kernels, odd.
    """

    kernel: int

    @property
    def kernel_side(self) -> int:
        """Side of the kernels."""
        return self.kernel

    @property
    def form(self) -> tuple[int, ...]:
        """See :class:`Product`."""
        return (self.outputs, 1, self.kernel, self.kernel)

    def layers(self, steps: int) -> Iterator[LayerShape]:
        """See :class:`Operation`."""
        return self._windowed(steps, fan_out=1)


@dataclass(frozen=True, kw_only=True)
class Linear(Product):
    """Linear layers over tokens."""

    bias: bool = True

    def layers(self, steps: int) -> Iterator[LayerShape]:
        """See :class:`Operation`."""
        for name in self.names:
            yield self._layer(name, "linear", steps)


@dataclass(frozen=True, kw_only=True)
class Pooling(Operation):
    """Max pooling of spikes or currents, 3x3 with stride 2 and padding 1.

    Attributes:
        place: the layer whose spikes, or currents, it pools.
        size: values that it reads in one step.
    """

    place: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Sampling(Operation):
    """Every second pixel of maps in both directions, the first one included.

    In front of a linear layer it makes a 1x1 convolution with stride 2.
    """


@dataclass(frozen=True, kw_only=True)
class Firing(Operation):
    """Neurons behind no layer: they read a membrane current.

    Attributes:
        name: the site's name.
        made_by: the layers that last contributed to the current.
        size: number of neurons.
        neurons: their properties.
    """

    name: str
    made_by: tuple[str, ...]
    size: int
    neurons: LIF

    def layers(self, steps: int) -> Iterator[LayerShape]:
        """See :class:`Operation`."""
        yield shape(
            self.name, "neurons", "analog", steps, reads=self.size, fires=self.size, neurons=self.neurons
        )


@dataclass(frozen=True, kw_only=True)
class Tokens(Operation):
    """Turns maps into tokens, pixel by pixel."""


@dataclass(frozen=True, kw_only=True)
class Maps(Operation):
    """Turns tokens back into maps.

    Attributes:
        size: height and width of the maps.
    """

    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Addition(Operation):
    """Sums: of spikes, which starts a residual stream of tokens; of a stream and spikes; or of currents.

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
    """The mean over the tokens of a stream or a current, at each step.

    Attributes:
        read_by: the layer that reads it.
        tokens: number of tokens.
        source: what it is the mean of: the integer ``residual`` stream, or an ``analog`` current.
    """

    read_by: str
    tokens: int
    source: Source = "residual"


@dataclass(frozen=True, kw_only=True)
class Head(Operation):
    """A linear layer with bias on means over time, which gives the logits.

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


def shape(
    name: str,
    kind: Kind,
    source: Source,
    steps: int,
    *,
    operations: int = 0,
    reads: int,
    fires: int = 0,
    neurons: LIF | None = None,
) -> LayerShape:
    """What an energy account bills for an operation without weights."""
    return LayerShape(
        name=name,
        kind=kind,
        source=source,
        operations=operations,
        repeats=steps,
        input_size=reads,
        output_size=fires,
        parameters=int(neurons.learnt) if neurons else 0,
    )
