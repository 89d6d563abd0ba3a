"""Problems with a categorical choice that brings its own parameters: the best branch looks bad at first."""

from __future__ import annotations

import math


def models(trial):
    """Three models with parameters of their own; most values of C are worse than both others (best 0.07)."""
    kind = trial.suggest_categorical("model", ["gb", "rf", "lr"])
    if kind == "lr":
        return 0.07 + 0.05 * (math.log10(trial.suggest_float("C", 1e-4, 100, log=True)) - 0.5) ** 2
    if kind == "gb":
        rate, leaves = trial.suggest_float("lr", 1e-3, 0.5, log=True), trial.suggest_int("leaves", 2, 31)
        return 0.10 + 0.05 * (math.log10(rate) + 1) ** 2 + 0.001 * abs(leaves - 12)
    depth, features = trial.suggest_int("depth", 1, 10), trial.suggest_float("mf", 0.1, 1)
    return 0.11 + 0.01 * abs(depth - 7) + 0.05 * (features - 0.5) ** 2


def optimisers(trial):
    """Four optimisers under a common width; the best is good in a small part of its own square (best 0.1)."""
    kind = trial.suggest_categorical("optimiser", ["sgd", "adam", "lion", "lamb"])
    width = trial.suggest_int("width", 1, 8)
    common = 0.01 * abs(width - 6)
    if kind == "lion":
        rate, decay = trial.suggest_float("lion_rate", 0, 1), trial.suggest_float("lion_decay", 0, 1)
        return common + 0.1 + min(0.5, 2.0 * ((rate - 0.8) ** 2 + (decay - 0.25) ** 2))
    if kind == "sgd":
        momentum = trial.suggest_float("momentum", 0, 1)
        return common + 0.2 + 0.2 * (momentum - 0.9) ** 2
    if kind == "adam":
        return common + 0.22 + 0.1 * (trial.suggest_float("beta", 0, 1) - 0.5) ** 2
    return common + 0.25


def encoders(trial):
    """A branch within a branch: latency codes are best with the right one of three decays (best 0)."""
    if trial.suggest_categorical("code", ["rate", "latency"]) == "rate":
        return 0.3 + 0.1 * (trial.suggest_float("gain", 0, 1) - 0.4) ** 2
    if trial.suggest_categorical("decay", ["step", "linear", "exponential"]) == "exponential":
        return min(0.8, 4.0 * abs(trial.suggest_float("tau", 0, 1) - 0.7))
    return 0.5


PROBLEMS = {  # with a value that only the best branch reaches
    "models": (models, 0.0995),
    "optimisers": (optimisers, 0.19),
    "encoders": (encoders, 0.29),
}
