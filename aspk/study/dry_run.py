"""A study tried out before it is paid for: two training steps and an evaluation on generated images."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from aspk.costs import cost
from aspk.data import DataSet, generated_data, network_input
from aspk.data.generated import kind_of
from aspk.engines.device import resolve_device
from aspk.evaluation.supernet import SupernetEvaluator
from aspk.families import Supernet
from aspk.metrics import Metrics
from aspk.space import SearchSpace
from aspk.space.file import load_space
from aspk.space.genes import SubnetConfig
from aspk.spec.settings import Recipe
from aspk.spec.study import StudySpec
from aspk.study.problem import check_bounds
from aspk.study.sampler import check_sampler
from aspk.study.timing import SHARE_OF_SPEED, TrainingTime, training_time
from aspk.training import SupernetRun

_STEPS = 2
_SAMPLED = 256  # random networks whose operations are averaged
_BACKWARD = 3  # a training step costs about as much as three forward passes
_DEVICES = (2, 4, 8)
_STATE = 4  # weights, gradients, and two moments of AdamW


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one part of a study will cost.

    Attributes:
        name: which part.
        images: passes of an image through a network.
        operations: dense multiply-accumulates of all of them; backward passes count twice.
    """

    name: str
    images: int
    operations: float


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a dry run measured, and what to expect of the real one.

    Attributes:
        spec: the study.
        space: its search space.
        shape: channels, height and width of its images.
        classes: number of classes.
        parameters: of the supernet.
        device: where it ran.
        batch: images of each training step.
        losses: of the training steps.
        seconds: of each training step; the first one includes warming up.
        metrics: of the reference network with untrained weights on generated images.
        data_bytes: what the data set takes as float32.
        state_bytes: weights, gradients and moments of the supernet in training.
        activation_bytes: what a pass of the largest network keeps for its backward pass, per image.
        peak_bytes: the most that the steps took on a GPU, None on a CPU.
        work: the parts of the study.
        time: what training is expected to take on this machine.
    """

    spec: StudySpec
    space: SearchSpace
    shape: tuple[int, int, int]
    classes: int
    parameters: int
    device: torch.device
    batch: int
    losses: tuple[float, ...]
    seconds: tuple[float, ...]
    metrics: Metrics
    data_bytes: int
    state_bytes: int
    activation_bytes: int
    peak_bytes: int | None
    work: tuple[Work, ...]
    time: TrainingTime

    @property
    def piece(self) -> int:
        """Images that the recipe runs at once."""
        return self.spec.train.batch_size // self.spec.train.accumulate

    @property
    def training_bytes(self) -> int:
        """Memory that training needs at the recipe's batch size, the data set not counted."""
        return self.state_bytes + self.piece * self.activation_bytes


def dry_run(spec: StudySpec, *, batch: int | None = None, device: str = "auto") -> DryRun:
    """Build a study's supernet, train it for two steps and evaluate a network, without the data set's files.

    Args:
        spec: the study.
        batch: images of a training step; None is the recipe's on a GPU, and 2 on a CPU.
        device: where to run.

    Raises:
        AspkError: whatever would stop the real run: space, constraints, recipe, device, augmentation.
    """
    place, space = resolve_device(device), load_space(spec.space)
    on_gpu = place.type == "cuda"
    count = batch or (spec.train.batch_size // spec.train.accumulate if on_gpu else 2)
    frames = space.max_time_steps

    def data_of(images: int) -> DataSet:
        return generated_data(spec.data, images, frames=frames, seed=spec.seed).to(place)

    data = data_of(count)
    check_bounds(spec, space, data.shape, data.classes)
    check_sampler(spec, space)
    recipe = replace(spec.train, batch_size=count, accumulate=1)
    run = SupernetRun(space, data, recipe, spec.seed)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(place)
    steps = [_timed(run.step) for _ in range(_STEPS)]
    peak = torch.cuda.max_memory_allocated(place) if on_gpu else None
    settings = replace(spec.evaluation, images=count, calibration_images=count)
    evaluator = SupernetEvaluator(
        run.model, data, settings=settings, energy_model=spec.energy, machine=spec.engine
    )
    (metrics,) = evaluator.evaluate([space.reference])
    parameters = sum(tensor.numel() for tensor in run.model.parameters())
    kind = kind_of(spec.data)
    work = expected_work(spec, space, data.shape, data.classes, images=kind.images)
    per_image = int(np.prod(kind.shape)) * ((kind.frames or frames) if kind.sequences else 1)
    return DryRun(
        spec=spec,
        space=space,
        shape=data.shape,
        classes=data.classes,
        parameters=parameters,
        device=place,
        batch=count,
        losses=tuple(loss for loss, _ in steps),
        seconds=tuple(seconds for _, seconds in steps),
        metrics=metrics,
        data_bytes=4 * kind.images * per_image,
        state_bytes=4 * _STATE * parameters,
        activation_bytes=_kept(run.model, data) // count,
        peak_bytes=peak,
        work=work,
        time=training_time(
            space,
            spec.train,
            data_of,
            lambda config: _operations_in_training(config, spec.train, space, data.shape, data.classes),
            work[0].operations / (_BACKWARD * spec.train.updates * spec.train.batch_size),
            batch=count,
            seed=spec.seed,
        ),
    )


def _timed(step: Callable[[], float]) -> tuple[float, float]:
    started = time.perf_counter()
    loss = step()  # a number: the device has finished
    return loss, time.perf_counter() - started


def _kept(supernet: Supernet, data: DataSet) -> int:
    """Bytes that a pass of the largest network keeps for its backward pass, weights not counted."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in supernet.parameters()}
    sizes: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    config = supernet.space.largest
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        kept = supernet.train()(network_input(data.train.images, config.time_steps), config)
    supernet.eval()
    del kept
    return sum(sizes.values())


# ---------------------------------------------------------------------- what it will cost


def expected_work(
    spec: StudySpec, space: SearchSpace, shape: tuple[int, int, int], classes: int, *, images: int
) -> tuple[Work, ...]:
    """Images and operations of training, search and one network alone, from shapes alone.

    Args:
        spec: the study.
        space: its search space.
        shape: channels, height and width of the images.
        classes: number of classes.
        images: images of the data set; used where the study evaluates on a share of them.
    """

    def operations(config: SubnetConfig) -> int:
        return cost.operations(cost.layer_shapes(config, space.settings, shape, classes))

    def in_training(config: SubnetConfig) -> int:
        return _operations_in_training(config, train, space, shape, classes)

    X = space.sample_choices(_SAMPLED, np.random.default_rng(spec.seed))
    sampled = [space.decode(x) for x in X]
    train, retrain = spec.train, spec.retrain
    per_update = _operations_of_an_update(train, space, sampled, in_training)
    paths = 2 + train.random_paths if train.paths == "sandwich" else 1
    searched = spec.evaluation.images or _size(spec.data.search, images)
    each = searched + spec.evaluation.calibration_images
    mean = float(np.mean([operations(config) for config in sampled]))
    trained, alone = train.updates * train.batch_size, retrain.updates * retrain.batch_size
    return (
        Work(name="train", images=paths * trained, operations=_BACKWARD * trained * per_update),
        Work(name="search", images=spec.evaluations * each, operations=spec.evaluations * each * mean),
        Work(
            name="retrain, the reference once",
            images=alone,
            operations=_BACKWARD * alone * operations(space.reference),
        ),
    )


def _operations_in_training(
    config: SubnetConfig, recipe: Recipe, space: SearchSpace, shape: tuple[int, int, int], classes: int
) -> int:
    """Operations of one image in a network, forward only, at the T that it is trained at."""
    steps = space.max_time_steps if recipe.trains_prefixes else config.time_steps
    return cost.operations(
        cost.layer_shapes(replace(config, time_steps=steps), space.settings, shape, classes)
    )


def _operations_of_an_update(
    recipe: Recipe,
    space: SearchSpace,
    sampled: Sequence[SubnetConfig],
    operations: Callable[[SubnetConfig], int],
) -> float:
    """Expected operations of one image in one update, forward only, all of its paths."""
    mean = float(np.mean([operations(config) for config in sampled]))
    named = [operations(config) for config in (space.largest, space.smallest, space.reference)]
    if recipe.paths == "sandwich":
        return named[0] + named[1] + recipe.random_paths * mean
    shares = (recipe.largest, recipe.smallest, recipe.reference)
    return sum(s * n for s, n in zip(shares, named, strict=True)) + (1 - sum(shares)) * mean


def _size(size: float, images: int) -> int:
    return round(size * images) if isinstance(size, float) else size


# ---------------------------------------------------------------------- as text


def dry_run_text(seen: DryRun) -> str:
    """The dry run for the terminal."""
    spec, space, metrics = seen.spec, seen.space, seen.metrics
    channels, height, width = seen.shape
    lines = [
        f"{spec.name}: space {space.name}, {space.size:,} networks; {spec.data.name}, images "
        f"{channels}x{height}x{width}, {seen.classes} classes",
        f"supernet: {seen.parameters:,} parameters",
        f"{len(seen.losses)} training steps of {seen.batch} generated images on {seen.device.type}: losses "
        f"{', '.join(f'{loss:.3f}' for loss in seen.losses)}; "
        f"{', '.join(f'{seconds:.2f}' for seconds in seen.seconds)} s",
        f"evaluation of the reference, untrained: accuracy {metrics.accuracy:.2f}, {metrics.operations:,} "
        f"operations, {metrics.energy_mj:.3g} mJ (estimate)",
        "",
        "expected cost",
    ]
    for work in seen.work:
        lines.append(f"  {work.name:28} {work.images:>16,} images {work.operations:>10.3g} operations")
    lines += [
        f"  {'data set in memory':28} {_bytes(seen.data_bytes):>16}",
        f"  {'weights and optimizer':28} {_bytes(seen.state_bytes):>16}",
        f"  {f'activations of {seen.piece} images':28} {_bytes(seen.piece * seen.activation_bytes):>16}"
        "   (largest network, longest T, in the precision of this run without amp)",
        f"  {'training, without the data':28} {_bytes(seen.training_bytes):>16}",
    ]
    if seen.peak_bytes is not None:
        lines.append(f"  {'measured peak of the steps':28} {_bytes(seen.peak_bytes):>16}")
    lines.append("operations are dense multiply-accumulates; a training step counts as three forward passes")
    return "\n".join([*lines, "", *_time_lines(seen)])


def _time_lines(seen: DryRun) -> list[str]:
    time, updates = seen.time, seen.spec.train.updates
    sizes = " and ".join(map(str, time.sizes))
    several = ", ".join(_duration(time.hours(updates, devices)) for devices in _DEVICES)
    return [
        f"training on this machine, as busy as it is: about {_duration(time.hours(updates))}, from "
        f"{time.steps} timed steps of {sizes} images, in proportion to images and operations",
        f"on {', '.join(map(str, _DEVICES))} such devices: {several}, if each of them keeps "
        f"{SHARE_OF_SPEED:.0%} of its speed, which is assumed and not measured",
    ]


def _duration(hours: float) -> str:
    value, unit = (hours, "hours") if hours >= 1 else (60 * hours, "minutes")
    return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"


def _bytes(count: int) -> str:
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.1f} {units[0]}"
