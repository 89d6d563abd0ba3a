"""The model of a number that has to be learnt: a Gaussian process on the features of genotypes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]  # has none

from aspk.surrogate.encoder import Encoder
from aspk.surrogate.hyperparameters import FEW, most_probable, spread
from aspk.surrogate.posterior import GaussianPosterior
from aspk.surrogate.priors import Priors, medians
from aspk.surrogate.process import Process
from aspk.surrogate.scale import Scale
from aspk.util.pareto import FloatArray

Logarithm = bool | Literal["auto"]
# Prior odds that the logarithm of a positive target is easier to learn: most are costs. With six to nine
# networks, the evidence alone is sometimes wrong about energies, and negative ones are predicted.
_LOGARITHM_ODDS = 10.0
# Searching all libraries loaded by the interpreter takes milliseconds: done once, at import.
_CONTROLLER = ThreadpoolController()


@dataclass(frozen=True)
class ProcessModel:
    """A :class:`~aspk.surrogate.posterior.Model` of observed numbers; see there.

    Attributes:
        encode: genotypes to inputs.
        scale: targets to standardised values.
        process: the process of the standardised values.
        std_factor: the factor that standard deviations are multiplied by.
    """

    encode: Encoder
    scale: Scale
    process: Process
    std_factor: float = 1.0

    def predict(self, X: FloatArray) -> FloatArray:
        """See :class:`Model`: the posterior's mean without its standard deviation, which costs more."""
        inputs = self.encode(X)
        with one_thread():
            mean = self.process.mean(inputs)
        return self.scale.original(mean, np.zeros_like(mean))[0]

    def standard(self, X: FloatArray) -> FloatArray:
        """The posterior's mean on the scale of the standardised targets, shape (m,)."""
        inputs = self.encode(X)
        with one_thread():
            return self.process.mean(inputs)

    def posterior(self, X: FloatArray) -> GaussianPosterior:
        """See :class:`Model`."""
        inputs = self.encode(X)
        with one_thread():
            mean, std = self.process.marginals(inputs)

        def covariance() -> FloatArray:
            with one_thread():
                return self.process.covariance(inputs)

        noise = self.process.hyperparameters.noise
        return GaussianPosterior.of(mean, np.square(std), noise, self.std_factor, self.scale, covariance)

    def condition_on(self, X: FloatArray, y: FloatArray, std: FloatArray | None = None) -> ProcessModel:
        """The model of these observations, with the features and hyperparameters of this one.

        Args:
            X: genotypes, shape (n, G): all observations, including those known before.
            y: their targets, shape (n,).
            std: standard deviations of targets that are estimates themselves, shape (n,), 0 for others.
        """
        scale = Scale.of(y, logarithm=self.scale.logarithm)
        hyperparameters = self.encode.shortened(self.process.hyperparameters, X)
        with one_thread():
            process = Process(
                self.encode(X),
                scale.standard(y),
                hyperparameters,
                trended=self.encode.trended,
                extra=scale.variance(y, std),
            )
        return replace(self, scale=scale, process=process)

    def log_evidence(self, y: FloatArray) -> float:
        """The log-likelihood of the targets ``y`` that it was fitted to, which makes models comparable."""
        return self.process.log_likelihood + self.scale.log_density(y)

    @property
    def leave_one_out(self) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation, noise included, of each observation as the others predict it."""
        return self.scale.original(*self.process.leave_one_out)


def fit(
    encode: Encoder,
    X: FloatArray,
    y: FloatArray,
    std: FloatArray | None = None,
    *,
    logarithm: Logarithm = "auto",
) -> ProcessModel:
    """The model of observations with the most probable hyperparameters.

    Args:
        encode: genotypes to inputs.
        X: genotypes, shape (n, G).
        y: targets, shape (n,).
        std: standard deviations of targets that are estimates themselves, shape (n,), 0 for others.
        logarithm: whether to learn the logarithm of the targets; ``auto`` decides by the evidence.
    """
    inputs = encode(X)
    with one_thread():
        scale, priors = _most_likely(encode, inputs, y, logarithm)
        standard, extra = scale.standard(y), scale.variance(y, std)
        found = most_probable(inputs, standard, encode.trended, priors, extra, encode.scales)
        process = Process(inputs, standard, found, trended=encode.trended, extra=extra)
    return ProcessModel(encode, scale, process)


def one_thread() -> AbstractContextManager[object]:
    """Linear algebra on one core: these matrices gain nothing from more, and idle threads cost a lot."""
    limits: AbstractContextManager[object] = _CONTROLLER.limit(limits=1, user_api="blas")
    return limits


def _most_likely(
    encode: Encoder, inputs: FloatArray, targets: FloatArray, logarithm: Logarithm
) -> tuple[Scale, Priors]:
    """The scale and the priors that make a few of the targets most probable, at the priors' medians."""
    both = logarithm == "auto" and bool((targets > 0).all()) and np.ptp(targets) > 0
    choices = [
        (choice, priors)
        for choice in ((False, True) if both else (logarithm is True,))
        for priors in encode.priors(inputs.shape[1], logarithm=choice)
    ]
    if len(choices) == 1:
        return Scale.of(targets, logarithm=choices[0][0]), choices[0][1]
    rows = spread(len(targets), FEW)

    def evidence(choice: bool, priors: Priors) -> float:
        scale, middle = Scale.of(targets[rows], logarithm=choice), medians(priors, encode.trended)
        process = Process(inputs[rows], scale.standard(targets[rows]), middle, trended=encode.trended)
        odds = np.log(_LOGARITHM_ODDS) if choice else 0.0
        return float(process.log_likelihood + scale.log_density(targets[rows]) + odds)

    choice, priors = max(choices, key=lambda one: evidence(*one))
    return Scale.of(targets, logarithm=choice), priors
