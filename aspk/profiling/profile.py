"""The energy account of somebody's own module: one forward pass, watched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aspk.costs import cost
from aspk.energy import PAPER, STRICT, EnergyModel, energy_mj, energy_text
from aspk.errors import ProfilingError
from aspk.evaluation.exported import ExportedNetwork
from aspk.families import Spikformer
from aspk.families.counting import Counter as SpikformerCounter
from aspk.families.mode import evaluation_mode
from aspk.metrics import Kind, LayerCount, Source
from aspk.profiling.recorder import Neurons, Operation, Recorder, is_neuron
from aspk.profiling.snapshot import untouched


@dataclass(frozen=True, kw_only=True)
class NeuronSite:
    """A group of neurons, as means over the images.

    Attributes:
        name: the module's name.
        neurons: how many.
        steps: steps that they ran.
        spikes: what they fired for one image, over all steps.
    """

    name: str
    neurons: float
    steps: int
    spikes: float

    @property
    def firing_rate(self) -> float:
        """Mean firing rate."""
        return self.spikes / (self.neurons * self.steps)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What a module did with one batch; ``print`` shows the account.

    Attributes:
        layers: counts of each product, in the order of execution; every account can be computed from them.
        sites: the neuron modules.
        parameters: trainable parameters.
        time_steps: simulated steps T.
        images: images in the batch.
    """

    layers: tuple[LayerCount, ...]
    sites: tuple[NeuronSite, ...]
    parameters: int
    time_steps: int
    images: int

    def energy_mj(self, model: EnergyModel = PAPER) -> float:
        """Estimated energy of one image in mJ."""
        return energy_mj(self.layers, model)

    def text(self, models: Sequence[EnergyModel] = (PAPER, STRICT)) -> str:
        """The account as a table, models side by side."""
        lines = [energy_text(self.layers, models)]
        silent = [site.name for site in self.sites if not site.spikes]
        if self.sites and len(silent) == len(self.sites):
            lines.append("No neuron fired. Train the module or calibrate its batch normalisation first.")
        elif silent:
            lines.append(f"Silent neurons: {', '.join(silent)}.")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()


def profile_energy(
    module: nn.Module,
    x: Tensor,
    *,
    time_first: bool | None = None,
    time_steps: int | None = None,
    neurons: tuple[type[nn.Module], ...] = (),
) -> Profile:
    """Count what a spiking network of your own does with ``x``, for any :class:`~aspk.EnergyModel`.

    Convolutions, linear layers and products of two activations (attention) are found wherever they happen,
    as modules or as functions, and billed in the order in which they are executed. A product is classified by
    what it reads: 0/1 values are ``spikes``, other whole numbers the ``residual`` stream (a value n is |n|
    spikes), anything else ``analog``, billed as MACs; the first product reads the ``image`` unless its input
    is 0/1. Element-wise operations (masks, Hadamard products, residual additions) are not billed.

    The module runs once in evaluation mode without gradients, with membranes that are reset before; then its
    parameters, buffers, modes, hooks and membranes are what they were.

    Args:
        module: a trained or calibrated module.
        x: its input: images [B, C, H, W], or [T, B, ...] with time first.
        time_first: whether the first axis of ``x`` is time; None: if ``x`` has five axes.
        time_steps: simulated steps T; None takes it from ``x`` or from how often the neurons ran.
        neurons: classes of neuron modules beside spikingjelly's and snnTorch's.

    Returns:
        The counts as means over the images of ``x``.

    Raises:
        ProfilingError: ``x`` holds no images, or the module computes nothing that can be billed.
    """
    time_first = x.dim() == 5 if time_first is None else time_first
    if x.dim() < 1 + time_first or not x.numel():
        raise ProfilingError(f"x has shape {tuple(x.shape)}: expected a batch of images")
    images = x.shape[1] if time_first else x.shape[0]
    if time_first and time_steps not in (None, x.shape[0]):
        raise ProfilingError(f"time_steps = {time_steps!r}, but x has {x.shape[0]} steps")
    module = module.network if isinstance(module, ExportedNetwork) else module
    if isinstance(module, Spikformer):
        return _spikformer(module, x, images)
    recorder = Recorder(module, neurons)
    _run(module, x, recorder, neurons)
    if not recorder.operations:
        raise ProfilingError(f"{type(module).__name__} ran no convolution, linear layer or matrix product")
    steps = time_steps or (x.shape[0] if time_first else _steps(recorder))
    names = list(recorder.operations)
    layers = tuple(
        _layer(name, recorder, images=images, steps=steps, static=not time_first, ends=(names[0], names[-1]))
        for name in names
    )
    sites = tuple(
        NeuronSite(
            name=name,
            neurons=site.numel / (images * len(site.steps)),
            steps=len(site.steps),
            spikes=sum(site.steps) / images,
        )
        for name, site in recorder.neurons.items()
    )
    parameters = sum(p.numel() for p in module.parameters() if p.requires_grad)
    return Profile(layers=layers, sites=sites, parameters=parameters, time_steps=steps, images=images)


def _spikformer(network: Spikformer, x: Tensor, images: int) -> Profile:
    """Networks of aspk tell their layers themselves."""
    shapes = cost.layer_shapes(network.config, network.settings, network.shape, network.classes)
    counter = SpikformerCounter(shapes)
    with torch.no_grad(), evaluation_mode(network):
        network(x, counter)
    steps = network.config.time_steps
    layers = counter.counts()
    sites = tuple(
        NeuronSite(name=layer.name, neurons=layer.output_size, steps=steps, spikes=layer.output_spikes)
        for layer in layers
        if layer.output_size
    )
    parameters = cost.parameters(shapes)
    return Profile(layers=layers, sites=sites, parameters=parameters, time_steps=steps, images=images)


def _run(module: nn.Module, x: Tensor, recorder: Recorder, neurons: tuple[type[nn.Module], ...]) -> None:
    with untouched(module):
        module.eval()
        _reset(module, neurons)
        with torch.inference_mode(mode=False), torch.no_grad(), recorder.watching():
            module(x)


def _reset(module: nn.Module, neurons: tuple[type[nn.Module], ...]) -> None:
    for part in module.modules():
        reset = getattr(part, "reset", None)
        if is_neuron(part, neurons) and callable(reset):
            reset()


def _steps(recorder: Recorder) -> int:
    """How often most neuron modules ran; without any there is one step."""
    found = Counter(len(site.steps) for site in recorder.neurons.values())
    return found.most_common(1)[0][0] if found else 1


def _layer(
    name: str, recorder: Recorder, *, images: int, steps: int, static: bool, ends: tuple[str, str]
) -> LayerCount:
    operation = recorder.operations[name]
    behind = [site for site in recorder.neurons.values() if site.after == name]
    source, sums = _source(operation, first=name == ends[0]), _sums(operation, images, steps)
    kind: Kind = "head" if source == "analog" and name == ends[1] else operation.kind
    runs, exact = len(sums), operation.exact / images
    if source == "image" and static and runs == 1:  # computed once for all steps; accounts differ on that
        sums, exact = sums * steps, exact * steps
    parameters = sum(p.numel() for p in _parameters(recorder, name))
    return LayerCount(
        name=name,
        kind=kind,
        source=source,
        operations=operation.macs // (images * runs),
        repeats=len(sums),
        input_size=operation.input_numel // (images * runs),
        output_size=sum(site.numel for site in behind) // (images * len(sums)),
        parameters=parameters,
        input_sums=tuple(sums),
        exact_operations=exact,
        output_spikes=sum(sum(site.steps) for site in behind) / images,
        output_sums=_output_sums(behind, images, len(sums)),
    )


def _source(operation: Operation, *, first: bool) -> Source:
    if operation.binary:
        return "spikes"
    if first:
        return "image"
    return "residual" if operation.integer else "analog"


def _sums(operation: Operation, images: int, steps: int) -> list[float]:
    """Input sums at each step; a single one if the operation does not run step by step."""
    calls = operation.rows
    if all(len(rows) % (images * steps) == 0 for rows in calls):  # time is the leading axis of each call
        total = torch.stack([rows.view(steps, -1).sum(1) for rows in calls]).sum(0)
    elif len(calls) % steps == 0 and all(len(rows) % images == 0 for rows in calls):  # one step at a time
        total = torch.stack([rows.sum() for rows in calls]).view(steps, -1).sum(1)
    else:
        total = torch.stack([rows.sum() for rows in calls]).sum()[None]
    return [float(value) / images for value in total]


def _output_sums(behind: Sequence[Neurons], images: int, steps: int) -> tuple[float, ...]:
    if not behind or any(len(site.steps) != steps for site in behind):
        return ()
    return tuple(sum(values) / images for values in zip(*(site.steps for site in behind), strict=True))


def _parameters(recorder: Recorder, name: str) -> list[nn.Parameter]:
    """Those of the operation's own module."""
    modules = dict(recorder.module.named_modules())
    return list(modules[name].parameters(recurse=False)) if name in modules else []
