"""Infers which input axis is time and which holds the images, from options, shapes and the neurons' runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from aspk.errors import ProfilingError
from aspk.profiling.neurons import Neurons

_Ran = Counter[tuple[int, int]]  # (steps, batch) to the number of neuron modules that ran so


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How an input is read.

    Attributes:
        name: the axes: ``[B, ...]`` (one image for all steps), ``[T, B, ...]``, ``[B, T, ...]`` or
            ``[T*B, ...]``.
        time_steps: simulated steps T.
        images: images in the batch.
        reason: why it is read this way.
    """

    name: str
    time_steps: int
    images: int
    reason: str

    @property
    def static(self) -> bool:
        """Whether one image stands for all steps."""
        return self.name == "[B, ...]"

    def __str__(self) -> str:
        return f"{self.name} with T = {self.time_steps} ({self.reason})"


def layout_of(
    shape: tuple[int, ...],
    sites: Collection[Neurons],
    *,
    time_first: bool | None,
    time_steps: int | None,
    convolved: bool = False,
) -> Layout:
    """How an input of this shape is read.

    Neurons record how many steps they ran and on how many images. A neuron supports a reading of the input if
    it ran on that number of images (or a multiple, such as windows) for that number of steps (or a multiple);
    the reading with the most support is taken.

    Args:
        shape: of the input, one batch.
        sites: the neurons that ran on it.
        time_first: the user's setting for the axes; None if not given.
        time_steps: the user's setting for T; None if not given.
        convolved: whether the first product is a convolution with the first axis as its batch.

    Raises:
        ProfilingError: input, neurons and options contradict each other.
    """
    ran = Counter((site.time_steps, site.calls[0][1]) for site in sites)
    if len(shape) > 2 and time_first is None and ran and all(_ambiguous(site, shape) for site in sites):
        raise ProfilingError(
            f"the input has shape {shape}, neurons of your own gave {next(iter(sites)).shape} in one call: "
            "nothing says whether the first axis is time, say it with time_first=True or False"
        )
    readings = _readings(shape, ran, time_first, time_steps, convolved)
    if not ran and readings:
        return readings[0]
    for loosely in (False, True):
        scores = [_support(reading, ran, loosely=loosely) for reading in readings]
        if any(supported for _, supported in scores):
            return readings[scores.index(max(scores))]
    said = time_first is not None and time_steps is not None
    if said and readings and any(steps % readings[0].time_steps == 0 for steps, _ in ran):
        return readings[0]  # the user has given both, and the steps agree
    raise ProfilingError(_contradiction(shape, ran, time_first, time_steps))


def _ambiguous(site: Neurons, shape: tuple[int, ...]) -> bool:
    """Whether one call of the user's own neurons returned the input's first two axes."""
    return len(site.calls) == 1 and site.shape[:2] == shape[:2]


def _support(reading: Layout, ran: _Ran, *, loosely: bool) -> tuple[int, int]:
    """The number of neurons that match a reading exactly, and of those that ran a multiple of it.

    If ``loosely``, a batch of one fits any: its batch axis may have been lost in a reshape.
    """
    exact = ran[reading.time_steps, reading.images]
    multiple = sum(
        count
        for (steps, batch), count in ran.items()
        if (batch % reading.images == 0 or (loosely and batch == 1)) and steps % reading.time_steps == 0
    )
    return exact, multiple


def _readings(
    shape: tuple[int, ...], ran: _Ran, time_first: bool | None, time_steps: int | None, convolved: bool
) -> list[Layout]:
    """The possible readings of the input; of equally supported ones, the likeliest comes first."""
    sequences, static = [], []
    reason = "as its neurons ran" if ran else "assumed: no neurons were found"
    axes = len(shape)
    if time_first or (time_first is None and axes >= 3):
        sequences.append(("[T, B, ...]", shape[0], shape[1]))
    if not time_first and axes >= 3 and ran:
        sequences.append(("[B, T, ...]", shape[1], shape[0]))
    if not time_first:
        static.append(("[B, ...]", time_steps or _usual_steps(ran, shape[0]), shape[0]))
        folded = {steps for steps, batch in ran if steps > 1 and steps * batch == shape[0]}
        static += [("[T*B, ...]", steps, shape[0] // steps) for steps in sorted(folded)]
    if not ran and axes != 5:
        sequences = sequences if time_first else []
    likely = static + sequences if axes <= 2 or convolved else sequences + static
    return [
        Layout(name=name, time_steps=steps, images=images, reason=reason)
        for name, steps, images in likely
        if time_steps in (None, steps)
    ]


def _usual_steps(ran: _Ran, images: int) -> int:
    """The steps that most neurons ran on this many images, or on a batch whose axis was lost."""
    fitting = Counter({steps: count for (steps, batch), count in ran.items() if batch % images == 0})
    fitting = fitting or Counter({steps: count for (steps, batch), count in ran.items() if batch == 1})
    return fitting.most_common(1)[0][0] if fitting else 1


def _contradiction(shape: tuple[int, ...], ran: _Ran, time_first: bool | None, time_steps: int | None) -> str:
    said = [f"{name} = {value}" for name, value in _options(time_first, time_steps) if value is not None]
    neurons = " and ".join(f"{steps} steps on a batch of {batch}" for (steps, batch), _ in ran.most_common(3))
    return (
        f"the input has shape {tuple(shape)}{', ' + ', '.join(said) if said else ''}, "
        f"{'but the neurons ran ' + neurons if ran else 'which do not fit'}: say which axis is time with "
        "time_first=True or False and how many steps there are with time_steps="
    )


def _options(time_first: bool | None, time_steps: int | None) -> list[tuple[str, object]]:
    return [("time_first", time_first), ("time_steps", time_steps)]
