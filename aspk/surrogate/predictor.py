"""The predictor behind :class:`~aspk.surrogate.AccuracySurrogate`; a search uses it as it is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from aspk.costs.features import FreeFeatures
from aspk.space import IntArray, SearchSpace
from aspk.space.operators import Genome
from aspk.surrogate.experience import beliefs
from aspk.surrogate.features import Features
from aspk.surrogate.models import MODELS, Regression, fitted, rank_agreement
from aspk.surrogate.process import FEW, Hyperparameters, Priors, Process, medians, spread
from aspk.util.pareto import FloatArray

Model = Literal["auto", "process", "linear", "trees"]
Logarithm = bool | Literal["auto"]
# Prior odds that the logarithm of a positive target is easier to learn: most are costs. With six to nine
# networks the evidence alone is now and then wrong about energies, and predicts negative ones.
_LOGARITHM_ODDS = 10.0
_FEW_CHOICES = 8  # of an ordered gene; more are nearly a continuum
_SHORTEST = 0.1  # length of a feature, whose range is 1, of which nothing is known
_TELLING = 1.5  # rows that double it, for each parameter of the same designs and for these themselves
_VAGUE = 1e6  # standard deviations of a target beyond which it says nothing
_CONSTANT = 1e-9  # relative range below which a free feature says nothing
# Looking through all libraries of the process takes milliseconds, which are better spent at import.
_CONTROLLER = ThreadpoolController()


@dataclass(frozen=True)
class Encoder:
    """Genotypes to what a regression sees: features of the genes, and behind them the free ones.

    Attributes:
        genome: the search space; None scales the columns of a genotype to those of the training set.
        free: what is known of a network without evaluating it.
        low: smallest value of each column in the training set.
        range: largest minus smallest value, 1 where they are equal.
        kept: the free features that differ within the training set; empty without any.
        mean: their means.
        span: their ranges.
        conditional: genes that some design of the training set does not use.
    """

    genome: Genome | None
    free: FreeFeatures | None
    low: FloatArray
    range: FloatArray
    kept: npt.NDArray[np.int64]
    mean: FloatArray
    span: FloatArray
    conditional: frozenset[int] = frozenset()

    @staticmethod
    def of(genome: Genome | None, free: FreeFeatures | None, rows: FloatArray) -> Encoder:
        """The encoder of a training set, shape (n, G)."""
        table = np.zeros((len(rows), 0)) if free is None else free.of(rows.astype(np.int64))
        span, spread_of_genes = np.ptp(table, axis=0), np.ptp(rows, axis=0)
        kept = np.flatnonzero(span > _CONSTANT * (1 + np.abs(table).max(axis=0, initial=0)))
        own_range = np.where(spread_of_genes > 0, spread_of_genes, 1.0)
        used = np.ones(rows.shape, dtype=bool) if genome is None else genome.active(rows)
        return Encoder(
            genome,
            free,
            rows.min(axis=0),
            own_range,
            kept,
            table[:, kept].mean(axis=0),
            span[kept],
            frozenset(np.flatnonzero(~used.all(axis=0)).tolist()),
        )

    def __call__(self, rows: FloatArray) -> FloatArray:
        """Features, shape (m, d); free ones to unit range, the training set's mean at 0."""
        if self.genome is None:
            return np.asarray((rows - self.low) / self.range - 0.5)
        own = self._own(rows)
        if self.free is None or not len(self.kept):
            return own
        table = self.free.of(rows.astype(np.int64))
        return np.hstack([own, (table[:, self.kept] - self.mean) / self.span])

    @cached_property
    def _own(self) -> Features:
        assert self.genome is not None
        return Features(self.genome)

    @property
    def trended(self) -> int:
        """Number of features, the last ones, that have a linear trend."""
        return len(self.kept)

    def shortened(self, hyperparameters: Hyperparameters, rows: FloatArray) -> Hyperparameters:
        """Hyperparameters with length scales that so many rows, shape (n, G), can tell of.

        A parameter that only some designs have may decide how good these are, and the few trials that have it
        cannot tell: their values are alike by chance. A long length would give up all designs like them.
        """
        if self.genome is None or isinstance(self.genome, SearchSpace):
            return hyperparameters
        used, lengths = self.genome.active(rows), hyperparameters.lengths.copy()
        for gene in np.flatnonzero(~used.all(axis=0)):
            together = (used == used[:, [gene]]).all(axis=0).sum()  # parameters of the same designs
            columns = self._own.columns_of([int(gene)])
            longest = _SHORTEST * 2.0 ** min(float(used[:, gene].sum() / (1 + together) / _TELLING), 10.0)
            lengths[columns] = np.minimum(lengths[columns], longest)
        return replace(hyperparameters, lengths=lengths)

    @property
    def scales(self) -> IntArray | None:
        """Number of each feature's length scale, shape (d,); None gives each its own."""
        if self.genome is None:
            return None
        own = self._own.scales
        return np.concatenate([own, own.max(initial=-1) + 1 + np.arange(len(self.kept))])

    def beliefs(self, columns: int, *, logarithm: bool) -> list[Priors]:
        """Priors of a process of that many columns, of which the data choose one."""
        if self.genome is None:
            return beliefs(None, columns, logarithm=logarithm)
        choices = self.genome.cardinalities
        return beliefs(
            self.genome,
            columns,
            logarithm=logarithm,
            conditional=self._own.columns_of(self.conditional),
            fine=self._own.columns_of(
                np.flatnonzero(self.genome.ordered & ((choices == 0) | (choices > _FEW_CHOICES)))
            ),
        )


@dataclass(frozen=True)
class Scale:
    """Targets to unit scale and back."""

    logarithm: bool
    mean: float
    deviation: float

    @staticmethod
    def of(targets: FloatArray, logarithm: bool) -> Scale:
        """The scale of a training set, shape (n,)."""
        values = np.log(targets) if logarithm else targets
        deviation = float(values.std())
        return Scale(logarithm, float(values.mean()), deviation if deviation > 0 else 1.0)

    def standard(self, targets: FloatArray) -> FloatArray:
        """Targets of mean 0 and deviation 1."""
        values = np.log(targets) if self.logarithm else targets
        return np.asarray((values - self.mean) / self.deviation)

    def variance(self, targets: FloatArray, std: FloatArray | None) -> FloatArray | None:
        """Variances of scaled targets whose standard deviations are given; None where all are 0."""
        if std is None or not std.any():
            return None
        with np.errstate(over="ignore"):
            scaled = std / (targets if self.logarithm else 1.0) / self.deviation
        return np.square(np.minimum(scaled, _VAGUE))

    def original(self, mean: FloatArray, std: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Centre and spread of the targets; of a log-normal one the median, and exp(m) sinh(s)."""
        mean, std = self.mean + self.deviation * mean, self.deviation * std
        if not self.logarithm:
            return mean, std
        median = np.exp(np.minimum(mean, 600.0))
        return median, median * np.sinh(np.minimum(std, 50.0))

    def log_density(self, targets: FloatArray) -> float:
        """Logarithm of the derivative of :meth:`standard`, summed over the targets."""
        jacobian = -np.log(targets).sum() if self.logarithm else 0.0
        return float(jacobian - len(targets) * np.log(self.deviation))


@dataclass(frozen=True)
class Predictor:
    """A regression with the scales around it.

    Attributes:
        name: kind of the regression.
        encode: genotypes to inputs.
        scale: targets to outputs.
        regression: the regression.
        doubt: by what its standard deviations are multiplied.
    """

    name: str
    encode: Encoder
    scale: Scale
    regression: Regression
    doubt: float = 1.0

    def mean(self, rows: FloatArray) -> FloatArray:
        """Predicted targets of genotypes, shape (m, G); shape (m,). The doubt is what costs."""
        inputs = self.encode(rows)
        with one_thread():
            mean = (
                self.regression.mean(inputs)
                if isinstance(self.regression, Process)
                else self.regression.predict(inputs)[0]
            )
        return self.scale.original(mean, np.zeros_like(mean))[0]

    def predict(self, rows: FloatArray, *, include_noise: bool = False) -> tuple[FloatArray, FloatArray]:
        """Predicted targets and their standard deviation, shape (m,) each."""
        with one_thread():
            mean, std = self.regression.predict(self.encode(rows))
        if include_noise:
            std = np.sqrt(np.square(std) + self.regression.noise)
        return self.scale.original(mean, self.doubt * std)

    def scores(self, rows: FloatArray, targets: FloatArray | float) -> FloatArray:
        """By how many predicted standard deviations, noise included, targets lie above the middle, (m,)."""
        with one_thread():
            mean, std = self.regression.predict(self.encode(rows))
        std = self.doubt * np.sqrt(np.square(std) + self.regression.noise)
        standard = self.scale.standard(np.asarray(targets))
        return np.asarray((standard - mean) / np.maximum(std, 1e-12))

    def joint(self, rows: FloatArray) -> JointPrediction:
        """A prediction of several networks that can be told of some of them."""
        return JointPrediction(self, rows)

    @property
    def left_out(self) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation, noise included, of each observation as the others predict it."""
        return self.scale.original(*self.regression.left_out)

    def updated(
        self, rows: FloatArray, targets: FloatArray, std: FloatArray | None = None, seed: int = 0
    ) -> Predictor:
        """Learnt from other data, with what was chosen for these; a process keeps its hyperparameters."""
        inputs, scale = self.encode(rows), Scale.of(targets, self.scale.logarithm)
        standard, extra, old = scale.standard(targets), scale.variance(targets, std), self.regression
        with one_thread():
            new: Regression = (
                Process(
                    inputs,
                    standard,
                    self.encode.shortened(old.hyperparameters, rows),
                    trended=self.encode.trended,
                    extra=extra,
                )
                if isinstance(old, Process)
                else fitted(self.name, inputs, standard, seed)
            )
        return replace(self, scale=scale, regression=new)


def candidates(
    encode: Encoder,
    rows: FloatArray,
    targets: FloatArray,
    model: Model,
    logarithm: Logarithm,
    seed: int = 0,
    std: FloatArray | None = None,
) -> Mapping[Model, Predictor]:
    """A predictor of each kind that ``model`` allows, by name."""
    inputs = encode(rows)
    with one_thread():
        scale, priors = _most_likely(encode, inputs, targets, logarithm)
        standard, extra = scale.standard(targets), scale.variance(targets, std)
        names: tuple[Model, ...] = MODELS if model == "auto" else (model,)
        trended, scales = encode.trended, encode.scales
        fits = [fitted(name, inputs, standard, seed, trended, priors, extra, scales) for name in names]
        return {name: Predictor(name, encode, scale, fit) for name, fit in zip(names, fits, strict=True)}


def agreement(predictor: Predictor, targets: FloatArray) -> float:
    """Kendall's tau between targets and their predictions when they are left out; -1 if undefined."""
    return rank_agreement(predictor.regression, predictor.scale.standard(targets))


def learnt(
    encode: Encoder,
    rows: FloatArray,
    targets: FloatArray,
    model: Model,
    logarithm: Logarithm = "auto",
    std: FloatArray | None = None,
) -> Predictor:
    """The predictor that orders best what is left out; ``std`` of the targets, shape (n,), 0 without."""
    found = list(candidates(encode, rows, targets, model, logarithm, std=std).values())
    return found[0] if len(found) == 1 else max(found, key=lambda predictor: agreement(predictor, targets))


class JointPrediction:
    """Predictions of several networks, which become surer as some of them are evaluated.

    Made by :meth:`Predictor.joint`.
    """

    def __init__(self, predictor: Predictor, rows: FloatArray) -> None:
        self._scale, self._regression, self._doubt = predictor.scale, predictor.regression, predictor.doubt
        self._inputs = predictor.encode(rows)
        with one_thread():
            self._mean, std = self._regression.predict(self._inputs)
        self._variance = np.square(std)
        self._covariance: FloatArray | None = None  # costly, and not needed for one network

    def moments(self) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation, shape (m,) each, as :meth:`Predictor.predict` gives them."""
        return self._scale.original(self._mean, self._std)

    def at(self, scores: FloatArray) -> FloatArray:
        """Values that lie so many standard deviations from the middle, shape (m, q), of scores (q,)."""
        standard = self._mean[:, None] + self._std[:, None] * scores
        return self._scale.original(standard, np.zeros_like(standard))[0]

    def expect(self, row: int) -> None:
        """Take the expected value of one network for its evaluation: means stay, doubts shrink."""
        covariance = self._now() if self._covariance is None else self._covariance
        column, noise = covariance[:, row], self._regression.noise
        self._covariance = covariance - np.outer(column, column) / (column[row] + noise + 1e-12)
        self._variance = np.diag(self._covariance)

    @property
    def _std(self) -> FloatArray:
        return self._doubt * np.sqrt(np.maximum(self._variance, 1e-12))

    def _now(self) -> FloatArray:
        """The covariance while nothing is expected, shape (m, m)."""
        if not isinstance(self._regression, Process):
            return np.diag(self._variance)
        with one_thread():
            return self._regression.joint(self._inputs)[1]


def one_thread() -> AbstractContextManager[object]:
    """Linear algebra on one core: these matrices gain nothing from more, and waiting threads cost a lot."""
    limits: AbstractContextManager[object] = _CONTROLLER.limit(limits=1, user_api="blas")
    return limits


def _most_likely(
    encode: Encoder, inputs: FloatArray, targets: FloatArray, logarithm: Logarithm
) -> tuple[Scale, Priors]:
    """The scale and the priors in whose middle a few of the targets are most probable."""
    both = logarithm == "auto" and bool((targets > 0).all()) and np.ptp(targets) > 0
    choices = [
        (choice, priors)
        for choice in ((False, True) if both else (logarithm is True,))
        for priors in encode.beliefs(inputs.shape[1], logarithm=choice)
    ]
    if len(choices) == 1:
        return Scale.of(targets, choices[0][0]), choices[0][1]
    rows = spread(len(targets), FEW)

    def evidence(choice: bool, priors: Priors) -> float:
        scale, middle = Scale.of(targets[rows], choice), medians(priors, encode.trended)
        process = Process(inputs[rows], scale.standard(targets[rows]), middle, trended=encode.trended)
        odds = np.log(_LOGARITHM_ODDS) if choice else 0.0
        return float(process.log_likelihood + scale.log_density(targets[rows]) + odds)

    choice, priors = max(choices, key=lambda one: evidence(*one))
    return Scale.of(targets, choice), priors
