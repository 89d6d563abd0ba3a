"""The energy account of a user's own module, from watching its forward passes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from aspk.costs import cost
from aspk.energy import PAPER, STRICT, Comparison, EnergyModel, compare, energy_mj, energy_text
from aspk.errors import ProfilingError
from aspk.evaluation.exported import ExportedNetwork
from aspk.families import Network, program_of
from aspk.families.base import Addition, Pooling, Program
from aspk.families.counting import Counter as NetworkCounter
from aspk.families.mode import evaluation_mode
from aspk.metrics import Kind, LayerCount
from aspk.profiling.counts import Totals, added, elementwise_counts, layer_counts, totals_of
from aspk.profiling.inputs import batches, check_watchable, main_input, run, to_device
from aspk.profiling.layout import Layout, layout_of
from aspk.profiling.neurobench import NeuroBench, connection_sparsity, footprint
from aspk.profiling.neurons import Neurons, reset
from aspk.profiling.notes import notes
from aspk.profiling.op_counter import op_counter_totals, unknown_totals
from aspk.profiling.operations import settle
from aspk.profiling.recorder import Recorder
from aspk.profiling.recording import Elementwise, Recording
from aspk.profiling.snapshot import untouched


@dataclass(frozen=True, kw_only=True)
class NeuronSite:
    """A group of neurons, as means over the images.

    Attributes:
        name: the module's name.
        neurons: how many.
        steps: how many steps they ran.
        spikes: spikes fired for one image, over all steps.
        step_spikes: the same at each step.
    """

    name: str
    neurons: float
    steps: int
    spikes: float
    step_spikes: tuple[float, ...] = ()

    @property
    def firing_rate(self) -> float:
        """Mean firing rate."""
        return self.spikes / (self.neurons * self.steps)


@dataclass(frozen=True, kw_only=True)
class Uncounted:
    """An operation that multiplies, or may do so, and that no account bills.

    Attributes:
        operator: its name in torch.
        calls: how often it was called.
        shapes: the most frequent shapes of its operands.
    """

    operator: str
    calls: int
    shapes: str


Source = tuple[nn.Module, Any, int, tuple[type[nn.Module], ...]]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What a module did; ``print`` shows the account, followed by what it leaves out.

    Attributes:
        layers: counts of each product, and of neurons that follow none, in the order of execution; every
            account can be computed from them.
        sites: the neuron modules.
        parameters: trainable parameters.
        time_steps: simulated steps T.
        images: number of images seen.
        layout: how the input's axes were read.
        elementwise: operations between two activations, element by element, for each module and kind.
        scaled: values of one image that are multiplied by a weight each, element by element, by module: in no
            account.
        not_counted: operations that are in no account.
        unrecognised: modules that look like neurons but are of no known class, with their classes.
        offline: products of weights with weights, by module: computed once and not billed.
        inside_neurons: products over time that are the update of a neuron, by module.
        neurobench: NeuroBench's metrics; None for aspk's own networks, which report their own layers (to get
            them, profile ``torch.nn.Sequential(network)`` with ``time_steps=``).
        source: the module, its first batch, the images in it, and classes of neurons.
    """

    layers: tuple[LayerCount, ...]
    sites: tuple[NeuronSite, ...]
    parameters: int
    time_steps: int
    images: int
    layout: str = ""
    elementwise: tuple[LayerCount, ...] = ()
    scaled: tuple[tuple[str, int], ...] = ()
    not_counted: tuple[Uncounted, ...] = ()
    unrecognised: tuple[tuple[str, str], ...] = ()
    offline: tuple[tuple[str, int], ...] = ()
    inside_neurons: tuple[tuple[str, int], ...] = ()
    neurobench: NeuroBench | None = None
    source: Source | None = field(default=None, repr=False, compare=False)

    def energy_mj(self, model: EnergyModel = PAPER) -> float:
        """Estimated energy of one image in mJ."""
        return energy_mj((*self.layers, *self.elementwise), model)

    def rates(self) -> dict[str, tuple[float, ...]]:
        """Firing rate of each neuron site at each step."""
        return {site.name: tuple(spikes / site.neurons for spikes in site.step_spikes) for site in self.sites}

    def compare(self, models: Sequence[EnergyModel] = ()) -> Comparison:
        """The network under all presets, further ``models``, and spikingjelly's accounts.

        spikingjelly's accounts run the module once more, on the first batch.
        """
        if self.source is None:
            others = unknown_totals("the profile knows no module")
        else:
            others = op_counter_totals(*self.source)
            if (some := self.source[2]) < self.images:
                note = f"the first {some:,} of {self.images:,} images"
                others = tuple(replace(total, counted_on=note) for total in others)
        name = type(self.source[0]).__name__ if self.source else "network"
        return compare(
            (*self.layers, *self.elementwise),
            network=name,
            time_steps=self.time_steps,
            models=models,
            others=others,
            rates=self.rates(),
        )

    def text(self, models: Sequence[EnergyModel] = (PAPER, STRICT)) -> str:
        """The account as a table, models side by side, with notes."""
        billed = any(model.elementwise == "billed" for model in models)
        rows = (*self.layers, *self.elementwise) if billed else self.layers
        return "\n".join([energy_text(rows, models), *notes(self, models)])

    def __str__(self) -> str:
        return self.text()


def profile_energy(
    module: nn.Module,
    x: Tensor | tuple[Any, ...] | Mapping[str, Any] | Iterable[Any],
    *,
    time_first: bool | None = None,
    time_steps: int | None = None,
    neurons: tuple[type[nn.Module], ...] = (),
    call: Callable[[nn.Module, Any], object] | None = None,
    progress: bool = True,
) -> Profile:
    """Count what a network of your own does with ``x``, for any :class:`~aspk.EnergyModel`.

    Convolutions, linear layers, recurrent layers, attention and all other products are found wherever they
    happen, as modules or as functions. What a product reads is classified by where it comes from: parameters,
    buffers and anything computed from these alone are weights; the input is the ``image`` until a product or
    a neuron has read it. Anything else is classified by its values: 0 and 1 are ``spikes``, whole numbers the
    ``residual`` stream (a value n counts as abs(n) spikes), all others ``analog``, billed as MACs.

    The module runs in evaluation mode without gradients, with membranes reset before each batch; afterwards
    its parameters, buffers, modes, hooks and membranes are restored.

    Args:
        module: a trained or calibrated module.
        x: its input: images [B, C, H, W] or sequences [T, B, ...] or [B, T, ...]; a tuple or mapping of the
            arguments of one call; or an iterable of batches, such as a DataLoader, over which the counts are
            averaged. Batches that are tuples or lists hold inputs and labels; the first item is used.
        time_first: whether the first axis of ``x`` is time; None infers it from the neurons, see
            :attr:`Profile.layout`.
        time_steps: simulated steps T; None takes it from ``x`` or from how often the neurons ran.
        neurons: classes of neuron modules in addition to those of spikingjelly, snnTorch, norse and sinabs.
        call: runs the module on one batch of an iterable, if that takes more than ``module(batch)``.
        progress: whether to show a progress bar for an iterable.

    Returns:
        The counts as means over the images of ``x``.

    Raises:
        ProfilingError: ``x`` holds no images; the module computes nothing that can be billed, or cannot be
            watched; or input, neurons and options contradict each other.
    """
    check_watchable(module)
    module = module.network if isinstance(module, ExportedNetwork) else module
    parts: list[tuple[Recording, Layout]] = []
    first: Source | None = None
    device = next((parameter.device for parameter in module.parameters()), None)
    if isinstance(module, Network) and call is None:
        if time_steps not in (None, module.config.time_steps):
            raise ProfilingError(f"time_steps = {time_steps}: the network has T = {module.config.time_steps}")
        return _own(module, batches(x, labelled=True, progress=progress), device, time_first=time_first)
    for batch in batches(x, labelled=call is None, progress=progress):
        there = to_device(batch, device)
        shape = tuple(main_input(there).shape)
        steps = shape[0] if time_first else time_steps
        found = _run(module, there, neurons, call or run, steps)
        layout = layout_of(
            shape,
            found.neurons.values(),
            time_first=time_first,
            time_steps=time_steps,
            convolved=_convolved(found, shape),
        )
        if parts and layout.time_steps != parts[0][1].time_steps:
            raise ProfilingError(
                f"batches of {parts[0][1].time_steps} and of {layout.time_steps} steps: "
                "profile them separately"
            )
        parts.append((found, layout))
        first = first or (module, there, layout.images, neurons)
    if not parts:
        raise ProfilingError("x gave no batch")
    if not any(found.operations for found, _ in parts):
        raise ProfilingError(
            f"{type(module).__name__} ran no convolution, linear layer or matrix product that depends on its "
            "input"
        )
    return replace(_profile(module, parts), source=first)


def _run(
    module: nn.Module,
    batch: Any,  # noqa: ANN401  # whatever the module takes
    neurons: tuple[type[nn.Module], ...],
    call: Callable[[nn.Module, Any], object],
    time_steps: int | None,
) -> Recording:
    with untouched(module):
        module.eval()
        reset(module, neurons)
        recorder = Recorder(module, batch, neurons, time_steps=time_steps)
        with torch.inference_mode(mode=False), torch.no_grad(), recorder.watching():
            call(module, batch)
    return recorder.found


def _convolved(found: Recording, shape: tuple[int, ...]) -> bool:
    """Whether the first product is a convolution with the first axis as its batch."""
    first = next(iter(found.operations.values()), None)
    return first is not None and first.kind == "conv" and len(first.rows[0]) == shape[0]


def _profile(module: nn.Module, parts: Sequence[tuple[Recording, Layout]]) -> Profile:
    images = sum(layout.images for _, layout in parts)
    sites = _sites(parts, images)
    elementwise: dict[Any, Elementwise] = {}
    uncounted: dict[str, Counter[str]] = {}
    offline, inside, unrecognised = Counter[str](), Counter[str](), dict[str, str]()
    scaled = Counter[str]()
    for found, _ in parts:
        for key, item in found.elementwise.items():
            kept = elementwise.setdefault(key, Elementwise())
            kept.values += item.values
            kept.effective += item.effective
        for name, shapes in found.uncounted.items():
            uncounted.setdefault(name, Counter()).update(shapes)
        offline.update(found.offline)
        inside.update(found.inside)
        scaled.update(found.scaled)
        unrecognised |= found.unrecognised
    settle([found.operations for found, _ in parts])
    every = [item for found, _ in parts for item in found.operations.items()]
    binary = {name for name, _ in every} - {name for name, operation in every if not operation.binary}
    totals: dict[str, Totals] = added([totals_of(found, layout, binary=binary) for found, layout in parts])
    return Profile(
        layers=layer_counts(module, totals, images),
        sites=sites,
        parameters=sum(p.numel() for p in module.parameters() if p.requires_grad),
        time_steps=parts[0][1].time_steps,
        images=images,
        layout=str(parts[0][1]),
        elementwise=elementwise_counts(elementwise, images),
        scaled=tuple((name, round(values / images)) for name, values in scaled.items()),
        not_counted=tuple(
            Uncounted(operator=name, calls=shapes.total(), shapes=shapes.most_common(1)[0][0])
            for name, shapes in uncounted.items()
        ),
        unrecognised=tuple(unrecognised.items()),
        offline=tuple(offline.items()),
        inside_neurons=tuple(inside.items()),
        neurobench=_neurobench(module, parts, totals, images),
    )


def _neurobench(
    module: nn.Module,
    parts: Sequence[tuple[Recording, Layout]],
    totals: Mapping[str, Totals],
    images: int,
) -> NeuroBench:
    values = sum((found.activations for found, _ in parts), Counter[str]())
    layers = [one.operation for one in totals.values() if one.operation is not None and one.operation.module]
    return NeuroBench(
        footprint=footprint(module),
        connection_sparsity=connection_sparsity(module),
        activation_sparsity=values["zero"] / values["all"] if values["all"] else 0.0,
        effective_macs=sum(layer.effective_macs for layer in layers) / images,
        effective_acs=sum(layer.effective_acs for layer in layers) / images,
    )


def _sites(parts: Sequence[tuple[Recording, Layout]], images: int) -> tuple[NeuronSite, ...]:
    gathered: dict[str, list[Neurons]] = {}
    for found, _ in parts:
        for name, site in found.neurons.items():
            gathered.setdefault(name, []).append(site)
    return tuple(
        NeuronSite(
            name=name,
            neurons=sum(site.numel / len(site.steps) for site in sites) / images,
            steps=len(sites[0].steps),
            spikes=sum(sum(site.steps) for site in sites) / images,
            step_spikes=tuple(
                sum(values) / images for values in zip(*(site.steps for site in sites), strict=False)
            ),
        )
        for name, sites in gathered.items()
    )


def _own(
    network: Network, given: Iterable[Any], device: torch.device | None, *, time_first: bool | None
) -> Profile:
    """Profile one of aspk's networks, which reports its own layers."""
    time_steps = network.config.time_steps
    program = program_of(network.config, network.settings, shape=network.shape, classes=network.classes)
    counter, images, static = NetworkCounter(program.layers), 0, True
    first: Source | None = None
    with torch.no_grad(), evaluation_mode(network):
        for batch in given:
            x = main_input(to_device(batch, device))
            static = x.dim() == 4
            if (not static and (x.dim() != 5 or len(x) != time_steps)) or time_first not in (
                None,
                not static,
            ):
                said = "" if time_first is None else f", time_first = {time_first}"
                raise ProfilingError(
                    f"the input has shape {tuple(x.shape)}{said}: one of aspk's networks takes images "
                    f"[B, C, H, W], or sequences [T, B, C, H, W] of its T = {time_steps} steps"
                )
            images += x.shape[0 if static else 1]
            first = first or (network, x, images, ())
            network(x, counter)
    if not images:
        raise ProfilingError("x gave no batch")
    layers = tuple(
        replace(layer, runs=1 if layer.source == "image" and static else layer.repeats)
        for layer in counter.counts()
    )
    sites = tuple(
        NeuronSite(
            name=layer.name,
            neurons=layer.output_size,
            steps=time_steps,
            spikes=layer.output_spikes,
            step_spikes=layer.output_sums,
        )
        for layer in layers
        if layer.output_size
    )
    name = "[B, ...]" if static else "[T, B, ...]"
    layout = Layout(name=name, time_steps=time_steps, images=images, reason="as its network says")
    return Profile(
        layers=layers,
        sites=sites,
        parameters=cost.parameters(program.layers),
        time_steps=time_steps,
        images=images,
        layout=str(layout),
        elementwise=_own_elementwise(program),
        source=first,
    )


def _own_elementwise(program: Program) -> tuple[LayerCount, ...]:
    """Additions to the residual stream and max-poolings, over all steps."""
    values: Counter[tuple[str, Kind]] = Counter()
    for one in program.operations:
        if isinstance(one, Pooling | Addition):
            kind: Kind = "pooling" if isinstance(one, Pooling) else "addition"
            values[one.place, kind] += one.size * program.time_steps
    return elementwise_counts({key: Elementwise(values=count) for key, count in values.items()}, 1)
