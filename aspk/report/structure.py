"""The structure of a study's network, part by part, from its family's program and its trial's counts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from aspk.energy import EnergyModel, layer_energy, site_flag
from aspk.errors import AspkError
from aspk.families import program_of
from aspk.families.base import (
    Addition,
    Attention,
    DepthwiseConvolution,
    Head,
    Maps,
    Mean,
    Operation,
    Pooling,
    Product,
    Program,
    Sampling,
    StridedConvolution,
    Tokens,
)
from aspk.metrics import LayerCount, LayerShape
from aspk.report.summary import Row, StudySummary
from aspk.space.file import space_from_dict
from aspk.space.genes import NetworkSettings, SubnetConfig
from aspk.util.numbers import is_count


@dataclass(frozen=True, kw_only=True)
class Step:
    """One operation as a diagram shows it.

    Attributes:
        part: the part of the network to which it belongs, such as ``stem`` or ``blocks.0``.
        kind: ``conv``, ``linear``, ``attention``, ``head``, ``pooling``, ``addition``, ``mean`` or ``other``.
        label: its names within the part.
        detail: widths and sizes.
        width: output channels; 0 where these are not shown.
        branch: whether it is on a branch off the stream that ends in an addition.
        rate: mean firing rate of the neurons that follow it, None without neurons.
        share: its share of the network's energy, None where it is not billed.
        flag: of the neurons that follow it: ``dead``, ``saturated`` or empty.
        neurons: their constants, as text.
    """

    part: str
    kind: str
    label: str
    detail: str
    width: int
    branch: bool
    rate: float | None
    share: float | None
    flag: str
    neurons: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """Steps that belong together.

    Attributes:
        name: for example ``stem`` or ``blocks.0``.
        steps: in the order of execution.
    """

    name: str
    steps: tuple[Step, ...]

    @property
    def share(self) -> float:
        """Its share of the network's energy."""
        return math.fsum(step.share or 0.0 for step in self.steps)


def network_parts(summary: StudySummary, row: Row, model: EnergyModel) -> tuple[Part, ...]:
    """The parts of a trial's network, first to last; empty where the study does not describe it.

    Args:
        summary: the study.
        row: the trial; its counts give firing rates and energies.
        model: the account on which the shares are based.
    """
    program = _program(summary, row)
    if program is None or row.metrics is None:
        return ()
    return parts_of(program, row.metrics.layers, model)


def parts_of(program: Program, layers: Sequence[LayerCount], model: EnergyModel) -> tuple[Part, ...]:
    """The parts of a program, with the counts of its run."""
    counts = {layer.name: layer for layer in layers}
    total = math.fsum(layer_energy(layer, model).mj for layer in layers)
    branches, steps, part = _branches(program.operations), [], ""
    for index, operation in enumerate(program.operations):
        if isinstance(operation, Tokens | Maps):  # another view of the same values
            continue
        part = _part(operation, program.time_steps) or part
        steps.append(_step(operation, part, counts, model, total, branch=index in branches))
    return tuple(
        Part(name=name, steps=tuple(found)) for name, found in groupby(steps, key=lambda step: step.part)
    )


def _program(summary: StudySummary, row: Row) -> Program | None:
    """The program of a trial's network; None where the trial's counts do not fit it."""
    layers = row.metrics.layers if row.metrics else ()
    classes = summary.context.get("classes")
    if not layers or not is_count(classes, 1):
        return None
    try:
        space = space_from_dict(summary.space)
        config = space.decode(space.from_parameters(row.parameters))
        shapes = list(_input_shapes(summary.context, layers))
        found = (_fitting(config, space.settings, shape, classes, layers) for shape in shapes)
        return next((program for program in found if program is not None), None)
    except AspkError:
        return None


def _fitting(
    config: SubnetConfig,
    settings: NetworkSettings,
    shape: tuple[int, int, int],
    classes: int,
    layers: Sequence[LayerCount],
) -> Program | None:
    program = program_of(config, settings, shape=shape, classes=classes)
    return program if _sizes(program.layers) == _sizes(layers) else None


def _sizes(layers: Sequence[LayerShape]) -> list[tuple[object, ...]]:
    return [(one.name, one.operations, one.input_size, one.output_size, one.parameters) for one in layers]


def _input_shapes(
    context: Mapping[str, object], layers: Sequence[LayerCount]
) -> Iterator[tuple[int, int, int]]:
    """Channels, height and width of the input: from the study, then any that fit the first layer."""
    held = context.get("shape")
    if isinstance(held, list) and len(held) == 3 and all(is_count(size, 1) for size in held):
        yield held[0], held[1], held[2]
    size = layers[0].input_size
    for channels in (1, 2, 3):
        side = math.isqrt(size // channels)
        if channels * side * side == size:
            yield channels, side, side


# ---------------------------------------------------------------------- operations


def _branches(operations: Sequence[Operation]) -> set[int]:
    """The operations on branches: those whose values an addition adds to the stream."""
    made: dict[str, int] = {}
    read: list[list[int]] = []
    for index, operation in enumerate(operations):
        read.append([made.get(name, -1) for name in operation.reads])
        made[operation.writes] = index
    found: set[int] = set()
    for index, operation in enumerate(operations):
        if not isinstance(operation, Addition):
            continue
        kept, *added = read[index]
        for place in added:
            while place not in (-1, kept) and not isinstance(operations[place], Addition):
                found.add(place)
                place = read[place][0] if read[place] else -1  # noqa: PLW2901  # back along the branch
    return found


def _part(operation: Operation, steps: int) -> str:
    """The part's name, ``blocks.0`` for ``blocks.0.q``; empty where an operation has none."""
    place = getattr(operation, "place", "")
    names = [layer.name for layer in operation.layers(steps)]
    name = names[0] if names else place if isinstance(operation, Pooling) else ""
    if name:
        return name.rpartition(".")[0] or name
    return place or getattr(operation, "read_by", "")


def _step(
    operation: Operation,
    part: str,
    counts: Mapping[str, LayerCount],
    model: EnergyModel,
    total: float,
    *,
    branch: bool,
) -> Step:
    kind, detail, width = _described(operation)
    found = [counts[name] for name in _names(operation) if name in counts]
    firing = [layer for layer in found if layer.output_size]
    neurons = sum(layer.output_size * layer.repeats for layer in firing)
    flags = {site_flag(layer) for layer in firing} - {""}
    bill = math.fsum(layer_energy(layer, model).mj for layer in found)
    return Step(
        part=part,
        kind=kind,
        label=_label(operation, part),
        detail=detail,
        width=width,
        branch=branch,
        rate=sum(layer.output_spikes for layer in firing) / neurons if neurons else None,
        share=bill / total if found and total else None,
        flag=", ".join(sorted(flags)),
        neurons=_constants(operation),
    )


def _names(operation: Operation) -> tuple[str, ...]:
    return tuple(layer.name for layer in operation.layers(1))


def _label(operation: Operation, part: str) -> str:
    names = [name.removeprefix(f"{part}.") for name in _names(operation)]
    return "" if isinstance(operation, Attention) else " ".join(name for name in names if name != part)


def _described(operation: Operation) -> tuple[str, str, int]:
    """Kind, description of widths and sizes, and output channels."""
    kinds = [layer.kind for layer in operation.layers(1)]
    kind: str = kinds[0] if kinds else "other"
    match operation:
        case DepthwiseConvolution():
            height, columns = operation.size
            side = operation.kernel
            said = f"depthwise {side}×{side}, {operation.outputs} channels, {height}×{columns}"
            found = kind, said, operation.outputs
        case Product():
            height, columns = operation.size
            size = f"{height}×{columns}" if kind == "conv" else f"{height * columns} tokens"
            size += ", stride 2" if isinstance(operation, StridedConvolution) else ""
            found = kind, f"{kind} {operation.inputs}→{operation.outputs}, {size}", operation.outputs
        case Attention():
            heads = f"{operation.heads} head{'s' if operation.heads > 1 else ''}"
            found = kind, f"attention, {heads}, {operation.tokens} tokens", operation.width
        case Head():
            found = kind, f"linear {operation.inputs}→{operation.classes}", operation.classes
        case Pooling():
            found = "pooling", "max-pool, half the size", 0
        case Addition():
            found = "addition", "", 0
        case Sampling():
            found = "pooling", "every second pixel", 0
        case Mean():
            found = "mean", f"mean over {operation.tokens} tokens", 0
        case _:  # from a family with its own operations
            name = type(operation).__name__
            said = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name)
            width = getattr(operation, "outputs", 0) or getattr(operation, "width", 0)
            found = kind, said.strip(), int(width)
    return found


def _constants(operation: Operation) -> str:
    """Threshold and time constant of the neurons that follow an operation."""
    neurons = getattr(operation, "neurons", None)
    named = {"V": "v_threshold", "τ": "tau"}
    found = [(sign, getattr(neurons, name, None)) for sign, name in named.items()]
    return ", ".join(f"{sign} {value:g}" for sign, value in found if isinstance(value, int | float))
