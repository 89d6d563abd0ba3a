"""Settings of training and evaluation: plain values in study files."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, replace
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, get_args

from msgspec import Meta

from aspk.errors import DataError, EngineError, TrainingError
from aspk.util.schema import (
    Count,
    Key,
    Natural,
    NonNegative,
    Positive,
    Share,
    check_fields,
    check_table,
    located,
    table_of,
)

SplitName = Literal["train", "search", "test"]
StatisticsName = Literal["auto", "own", "shared_time", "running"]
STATISTICS: tuple[StatisticsName, ...] = get_args(StatisticsName)

_Name = Annotated[str, Meta(min_length=1, description="a name")]
_Folder = Annotated[str, Meta(min_length=1, description="a folder")]
_Size = Annotated[
    Annotated[int, Meta(ge=1, le=2**53)] | Annotated[float, Meta(gt=0, lt=1)],
    Meta(description="a number of images, or a share above 0 and below 1"),
]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the weights of a supernet, or of a single network, are trained.

    The default is the recipe ``cpu``; the shipped ones are files in ``studies/recipes``. The keys that say
    which networks an update trains (``paths``, ``largest``, ``smallest``, ``reference``, ``random_paths``,
    ``prefix_loss``) have no effect on a single network.

    Attributes:
        updates: number of updates.
        batch_size: images in an update.
        learning_rate: peak of AdamW's learning rate.
        weight_decay: AdamW's weight decay.
        warmup: share of the updates in which the rate rises linearly; a cosine to 0 follows.
        clip: largest norm of the gradient.
        label_smoothing: smoothing of the labels in the cross entropy.
        paths: ``single``: one network per update. ``sandwich``: the largest learns from the labels; the
            smallest and ``random_paths`` others learn from the largest, by the Kullback-Leibler divergence
            of their predictions (Yu and Huang, ICCV 2019).
        random_paths: random networks of a ``sandwich`` update.
        largest: probability that an update trains the largest network, with ``single``.
        smallest: likewise for the smallest network.
        reference: likewise for the reference network. Any other update draws every gene uniformly from its
            choices.
        prefix_loss: with ``single``, run every update at the longest T and average the loss over the T
            choices, each on the mean of the first T steps' logits, so that one pass trains all T.
        accumulate: pieces in which a batch is run, one after the other; each is normalised on its own.
        amp: run convolutions and linear layers in bfloat16, and keep spikes and currents in it; weights,
            membranes, statistics and attention are float32. ``auto``: if the machine on which a run begins
            has units for it, see :func:`aspk.engines.device.half_precision`; the run continues as it began.
        augment: magnitude of RandAugment, 0 to 30, for pictures; 0 is off.
        erase: probability of erasing a random rectangle.
        mixup: alpha of mixup; 0 is off.
        decayed: what the weight decay works on: ``all`` parameters, or ``weights`` only, those of
            convolutions and linear layers: biases, normalisations and learnt time constants are left alone.
        ema: decay of an exponential moving average of the weights over the updates, which is then what is
            evaluated, saved and exported; 0.999, say. It is lower in the first updates: (1 + n) / (10 + n)
            after n of them. 0 is off.
        checkpoint_every: updates between two checkpoints.
    """

    updates: Count = 1000
    batch_size: Count = 64
    learning_rate: Positive = 5e-3
    weight_decay: NonNegative = 0.02
    warmup: Share = 0.1
    clip: Positive = 1.0
    label_smoothing: Share = 0.1
    paths: Literal["single", "sandwich"] = "single"
    random_paths: Natural = 2
    largest: Share = 0.15
    smallest: Share = 0.1
    reference: Share = 0.1
    prefix_loss: bool = True
    accumulate: Count = 1
    amp: bool | Literal["auto"] = "auto"
    augment: Annotated[int, Meta(ge=0, le=30)] = 0
    erase: Share = 0.0
    mixup: NonNegative = 0.0
    decayed: Literal["all", "weights"] = "all"
    ema: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    checkpoint_every: Count = 100

    # Keys that were added later, with the value that stands for the earlier behaviour.
    _BEFORE: ClassVar[Mapping[str, object]] = {"decayed": "all", "ema": 0.0}

    def __post_init__(self) -> None:
        check_fields(self, error=TrainingError)
        if self.largest + self.smallest + self.reference > 1:
            raise TrainingError("largest + smallest + reference must not exceed 1")
        if self.batch_size % self.accumulate:
            raise TrainingError(
                f"accumulate = {self.accumulate!r}: must divide batch_size = {self.batch_size}"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, as checkpoints and records keep them.

        A key that was added later is left out if its value stands for the earlier behaviour, so that work
        begun by an earlier version still belongs to the same recipe.
        """
        values = dataclasses.asdict(self)
        return {k: v for k, v in values.items() if k not in self._BEFORE or v != self._BEFORE[k]}

    def as_begun(self, begun: object) -> Recipe:
        """The recipe for continuing work that was begun before ``amp = "auto"`` was the default.

        Args:
            begun: the recipe that a checkpoint or a record names, in any form; its ``amp`` is kept.
        """
        amp = begun.get("amp") if isinstance(begun, Mapping) else None
        return replace(self, amp=amp) if self.amp == "auto" and isinstance(amp, bool) else self

    @property
    def trains_prefixes(self) -> bool:
        """Whether every update runs the longest T and trains each shorter T as its first steps."""
        return self.paths == "single" and self.prefix_loss

    @property
    def augmented(self) -> bool:
        """Whether training images are augmented."""
        return bool(self.augment or self.erase or self.mixup)

    def schedule(self, update: int) -> float:
        """Share of the peak learning rate: a linear rise, then half a cosine to 0."""
        warmup = self.warmup * self.updates
        if update < warmup:
            return (update + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * (update - warmup) / max(1.0, self.updates - warmup)))


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Which data set, and how it is split.

    A size is a number of images (an int) or a share (a float between 0 and 1): of the training data for
    ``train`` and ``search``, of the test set for ``test``, of all images where there is no test set.

    Attributes:
        name: the data set's name, see :func:`aspk.data.load_data`.
        folder: where its files are, if not in the usual place.
        train: size of ``train``; unless given, everything that ``search`` (and ``test``) leave.
        search: size of ``search``.
        test: size of ``test``; unless given, the data set's own test set, or 0.2 of an undivided one.
        resize: height and width to which images are resized, in pixels; unless given, they stay as they are.
        frames: number of frames into which a recording's events are counted; for data sets of uncounted
            events, such as ``nmnist``, which require it.
        split_by: with ``frames``, whether each has the same number of events (``number``) or the same
            duration (``time``).
    """

    name: _Name
    folder: _Folder | None = None
    train: _Size | None = None
    search: _Size = 0.2
    test: _Size | None = None
    resize: Annotated[int, Meta(ge=1, le=1024)] | None = None
    frames: Annotated[int, Meta(ge=1, le=1000)] | None = None
    split_by: Literal["number", "time"] = "number"

    def __post_init__(self) -> None:
        check_fields(self, error=DataError)

    @classmethod
    def from_json(cls, data: object) -> DataSettings:
        """Settings from a name, or from a table of plain values such as ``[data]`` of a study file.

        Raises:
            DataError: a key is unknown or missing, or a value is wrong.
        """
        values = check_table({"data": data_key()}, {"data": data}, error=DataError)["data"]
        with located("data."):
            return cls(name=values) if isinstance(values, str) else cls(**values)

    def in_folder(self, folder: str | None) -> DataSettings:
        """The same data with its files in another folder; None leaves them where they are."""
        return self if folder is None else replace(self, folder=folder)

    def to_json(self) -> str | dict[str, Any]:
        """What :meth:`from_json` reads: the name alone, or a table of what differs from the defaults."""
        changed = {
            item.name: value
            for item in dataclasses.fields(self)
            if (value := getattr(self, item.name)) != item.default
        }
        return self.name if changed == {"name": self.name} else changed


@cache
def data_key() -> Key:
    """The key ``data`` of a study file: a name, or a table."""
    return Key(_Name, table_of(DataSettings), MISSING, "the data set and its splits.")


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """How candidates are evaluated.

    Attributes:
        split: the split on which accuracy and spikes are measured.
        images: number of images of it (always the first ones, in the split's random order), if not all.
        calibration_images: images of ``train`` (always the first ones) on which a candidate's
            batch-normalisation statistics are computed, as one batch.
        batch_size: images run at once.
        statistics: whose batch-normalisation statistics a candidate uses. ``own``: its own, calibrated at
            its own T. ``shared_time``: its own, calibrated at the longest T of the space, so that networks
            that differ only in T share them. ``running``: the averages over all networks that training
            left behind, correct for none of them; for comparisons. ``auto``: those under which the weights
            were trained, see :meth:`for_weights`.
    """

    split: SplitName = "search"
    images: Count | None = None
    calibration_images: Count = 256
    batch_size: Count = 512
    statistics: StatisticsName = "auto"

    def __post_init__(self) -> None:
        check_fields(self, error=DataError)

    def for_weights(self, recipe: Recipe | None) -> EvaluationSettings:
        """These settings with ``auto`` replaced by the statistics that suit a supernet's weights.

        Where each shorter T was trained as the first steps of the longest one, its activations were
        normalised by the longest T's statistics, and are best evaluated that way (``shared_time``); every
        other recipe trains a network at its own T (``own``). ``docs/training.md`` has the measurements.

        Args:
            recipe: the recipe that trained the weights; None, if it is unknown, takes ``own``.
        """
        if self.statistics != "auto":
            return self
        prefixes = recipe is not None and recipe.trains_prefixes
        return replace(self, statistics="shared_time" if prefixes else "own")


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What evaluations run on: this changes their speed, not what they measure.

    Attributes:
        name: ``native`` (C++, on a CPU with a compiler) or ``torch`` (anywhere); ``auto`` is the fastest that
            works here.
        memory: bytes that an evaluation may hold at once beyond the data set and the weights. With little
            memory, fewer images run at once; a single image always runs.
        cache: whether results are kept on disk, in the study's folder.
        cache_entries: maximum number of results kept, in memory and on disk; the oldest are dropped first.
    """

    name: Literal["auto", "native", "torch"] = "auto"
    memory: Count = 2**30
    cache: bool = True
    cache_entries: Count = 100_000

    def __post_init__(self) -> None:
        check_fields(self, error=EngineError)
