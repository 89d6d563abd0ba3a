"""Turns recordings into layer counts, as means over the images of one or more batches."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from aspk.metrics import Kind, LayerCount, Source
from aspk.profiling.layout import Layout
from aspk.profiling.neurons import Neurons
from aspk.profiling.operations import Operation
from aspk.profiling.recording import Elementwise, Recording


@dataclass
class Totals:
    """Counts of one layer, summed over images.

    Attributes:
        operation: its product; None for neurons that follow no product.
        sums: input sums at each step.
        runs: how often it ran for one image; less than the steps in ``sums`` where it ran once for all steps.
        sites: the neurons that follow it.
    """

    operation: Operation | None
    sums: list[float]
    runs: int
    sites: list[Neurons] = field(default_factory=list)


def totals_of(found: Recording, layout: Layout, *, binary: Collection[str]) -> dict[str, Totals]:
    """Counts of one batch.

    Args:
        found: its recording.
        layout: how its input is read.
        binary: the products that read only 0 and 1 in all batches: a batch may happen to hold a binary image.
    """
    totals: dict[str, Totals] = {}
    sites = found.neurons.values()
    time_leads = not any(site.batch_first for site in sites)
    step_by_step = bool(sites) and not any(site.multi_step for site in sites)
    for name, operation in found.operations.items():
        sums = _sums(operation, layout, time_leads=time_leads, step_by_step=step_by_step)
        runs = len(sums)
        if operation.image and name not in binary and layout.static and runs == 1:
            sums = sums * layout.time_steps  # computed once for all steps, which accounts bill differently
        totals[name] = Totals(operation, sums, runs)
    for name, site in found.neurons.items():
        before = totals.get(site.after or "")
        if before is not None and len(site.steps) == len(before.sums):
            before.sites.append(site)
        else:
            totals[name] = Totals(None, [0.0] * len(site.steps), len(site.steps), [site])
    return totals


def _sums(operation: Operation, layout: Layout, *, time_leads: bool, step_by_step: bool) -> list[float]:
    """Input sums at each step; a single one if the operation does not run step by step.

    Args:
        operation: the product.
        layout: how the input is read.
        time_leads: whether the time axis of a call with all steps is before its batch axis.
        step_by_step: whether neurons ran one step in each call, so that calls tell steps apart, not rows.
    """
    calls, images, steps = operation.rows, layout.images, layout.time_steps
    once = operation.image and layout.static and all(copies < steps for copies in operation.copies)
    divisible = operation.macs % (images * steps) == 0 and operation.input_numel % (images * steps) == 0
    called = divisible and len(calls) % steps == 0
    if called and step_by_step:
        total = torch.stack([rows.sum() for rows in calls]).view(steps, -1).sum(1)
    elif divisible and not once and all(len(rows) % (images * steps) == 0 for rows in calls):
        axes, axis = ((steps, -1), 1) if time_leads else ((images, steps, -1), (0, 2))
        total = torch.stack([rows.view(axes).sum(axis) for rows in calls]).sum(0)
    elif called:  # one step at a time
        total = torch.stack([rows.sum() for rows in calls]).view(steps, -1).sum(1)
    else:
        total = torch.stack([rows.sum() for rows in calls]).sum()[None]
    return [float(value) for value in total]


def added(batches: Sequence[dict[str, Totals]]) -> dict[str, Totals]:
    """Counts of several batches as one."""
    first: dict[str, Totals] = {}
    for batch in batches:
        for name, totals in batch.items():
            known = first.get(name)
            if known is None:
                first[name] = totals
                continue
            if len(known.sums) == len(totals.sums):
                known.sums = [one + other for one, other in zip(known.sums, totals.sums, strict=True)]
            else:  # it ran a different number of times
                known.sums, known.runs = [sum(known.sums) + sum(totals.sums)], 1
            if known.operation is not None and totals.operation is not None:
                known.operation.add(totals.operation)
            for site, other in zip(known.sites, totals.sites, strict=False):
                site.steps = [a + b for a, b in zip(site.steps, other.steps, strict=False)]
                site.numel += other.numel
    return first


def layer_counts(module: nn.Module, totals: Mapping[str, Totals], images: int) -> tuple[LayerCount, ...]:
    """The layers in the order in which they ran, as means over the images."""
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    weighted = [
        name
        for name, one in totals.items()
        if one.operation and one.operation.kind != "attention" and one.operation.stored
    ]
    normalised = any(one.operation is not None and one.operation.normalised for one in totals.values())
    layers = []
    for name, one in totals.items():
        if one.operation is None:
            layers.append(_site(name, one, images))
            continue
        used = one.operation.parameters & sizes.keys()
        parameters = sum(sizes.pop(parameter) for parameter in used)  # a layer used twice is counted once
        last = bool(weighted) and name == weighted[-1]
        layers.append(_layer(name, one, one.operation, images, parameters, last=last, normalised=normalised))
    return tuple(layers)


def _layer(
    name: str,
    totals: Totals,
    operation: Operation,
    images: int,
    parameters: int,
    *,
    last: bool,
    normalised: bool,
) -> LayerCount:
    source, repeats = _source(operation), len(totals.sums)
    head = source == "analog" and last and not operation.recurrent
    kind: Kind = "head" if head else operation.kind
    again = repeats // totals.runs if totals.runs < repeats else 1  # steps for which it ran once
    return LayerCount(
        name=name,
        kind=kind,
        source=source,
        operations=_share(operation.macs * again, images * repeats),
        repeats=repeats,
        runs=totals.runs,
        input_size=max(1, _share(operation.input_numel * again, images * repeats)),
        output_size=sum(_share(site.numel, images * repeats) for site in totals.sites),
        parameters=parameters,
        input_sums=tuple(value / images for value in totals.sums),
        exact_operations=operation.exact * again / images,
        output_spikes=sum(sum(site.steps) for site in totals.sites) / images,
        output_sums=_output_sums(totals, images),
        effective_macs=operation.effective_macs / images,
        effective_acs=operation.effective_acs / images,
        normalised_size=_share(operation.normalised, images * totals.runs) if normalised else None,
    )


def _site(name: str, totals: Totals, images: int) -> LayerCount:
    """Neurons that follow no product."""
    (site,), steps = totals.sites, len(totals.sums)
    size = max(1, _share(site.numel, images * steps))
    return LayerCount(
        name=name,
        kind="neurons",
        source="analog",
        operations=0,
        repeats=steps,
        runs=steps,
        input_size=size,
        output_size=size,
        parameters=0,
        input_sums=(0.0,) * steps,
        exact_operations=0.0,
        output_spikes=sum(site.steps) / images,
        output_sums=_output_sums(totals, images),
    )


def _share(total: int, parts: int) -> int:
    """One part of a count, rounded: counts may depend on more than the image."""
    return round(total / parts)


def _source(operation: Operation) -> Source:
    if operation.binary:
        return "spikes"
    if operation.image:
        return "image"
    return "residual" if operation.integer else "analog"


def _output_sums(totals: Totals, images: int) -> tuple[float, ...]:
    steps = [site.steps for site in totals.sites]
    return tuple(sum(values) / images for values in zip(*steps, strict=True))


def elementwise_counts(totals: Mapping[tuple[str, Kind], Elementwise], images: int) -> tuple[LayerCount, ...]:
    """Operations between two activations, a row for each module and kind."""
    return tuple(
        LayerCount(
            name=module,
            kind=kind,
            source="analog",
            operations=_share(one.values, images),
            repeats=1,
            input_size=max(1, _share(one.values, images)),
            output_size=0,
            parameters=0,
            input_sums=(0.0,),
            exact_operations=one.effective / images,
            output_spikes=0.0,
        )
        for (module, kind), one in totals.items()
    )
