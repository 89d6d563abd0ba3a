"""The checks that any evaluator should pass."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from aspk.errors import EvaluationError
from aspk.evaluation import Evaluator
from aspk.metrics import Metrics
from aspk.space import SearchSpace
from aspk.space.genes import SubnetConfig


def check_evaluator(
    evaluator: Evaluator, space: SearchSpace, *, count: int = 4, seed: int = 0, tolerance: float = 1e-6
) -> None:
    """Check that an evaluator follows the protocol; call this in the tests of your own evaluator.

    It evaluates ``count`` random networks together, again in reverse order, and one by one.

    Args:
        evaluator: the evaluator.
        space: networks to try.
        count: how many, at least 2.
        seed: of the choice.
        tolerance: relative difference of two results of one network that still counts as equal.

    Raises:
        EvaluationError: naming the broken rule.
    """
    rows = space.sample_choices(count, np.random.default_rng(seed))
    configs = [space.decode(x) for x in rows]
    if list(evaluator.evaluate([])):
        raise EvaluationError("evaluate([]) must return no results")
    together = _checked(evaluator, configs)
    backwards = _checked(evaluator, configs[::-1])[::-1]
    alone = [_checked(evaluator, [config])[0] for config in configs]
    for how, results in (("in reverse order", backwards), ("one by one", alone)):
        for config, first, second in zip(configs, together, results, strict=True):
            _compare(config, first, second, how, tolerance)


def _checked(evaluator: Evaluator, configs: Sequence[SubnetConfig]) -> list[Metrics]:
    results = list(evaluator.evaluate(configs))
    if len(results) != len(configs):
        raise EvaluationError(f"evaluate returned {len(results)} results for {len(configs)} networks")
    for config, result in zip(configs, results, strict=True):
        if isinstance(result, EvaluationError):
            raise EvaluationError(f"no metrics for {config}: {result}")
        if not isinstance(result, Metrics):
            raise EvaluationError(f"evaluate returned {type(result).__name__} for {config}, expected Metrics")
        if not 0 <= result.accuracy <= 1 or result.energy_mj < 0:
            raise EvaluationError(
                f"accuracy {result.accuracy} and energy {result.energy_mj} mJ for {config}: "
                "expected an accuracy from 0 to 1 and an energy of at least 0"
            )
    return [result for result in results if isinstance(result, Metrics)]


def _compare(config: SubnetConfig, first: Metrics, second: Metrics, how: str, tolerance: float) -> None:
    a, b = first.scalars(), second.scalars()
    if a.keys() != b.keys():
        raise EvaluationError(f"{config} evaluated {how} has other metrics: {sorted(a.keys() ^ b.keys())}")
    for name, value in a.items():
        if not math.isclose(value, b[name], rel_tol=tolerance, abs_tol=1e-12):
            raise EvaluationError(f"{config} evaluated {how}: {name} is {b[name]}, before it was {value}")
