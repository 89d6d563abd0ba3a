"""The interface between search and networks: what an evaluator is, and a cache around one.

A search calls ``evaluate`` with a whole population at once. An evaluator may be anything: the supernet,
a formula, a table, a cluster. It returns one result for each network, in order; for a network that it
could not evaluate, the result is an :class:`~aspk.errors.EvaluationError` instead of metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Protocol

from aspk.errors import EvaluationError
from aspk.metrics import Metrics
from aspk.space import SearchSpace
from aspk.space.genes import SubnetConfig

Result = Metrics | EvaluationError
Progress = Callable[[float], None]  # called with the share of the work done, from 0 to 1


class Evaluator(Protocol):
    """Anything with this method is an evaluator."""

    def evaluate(self, configs: Sequence[SubnetConfig]) -> Sequence[Result]:
        """Evaluate networks; one result each, in the same order.

        An evaluator may also take a keyword ``progress``, a :data:`Progress` or None, and call it.
        """
        ...


def evaluate_all(
    evaluator: Evaluator, configs: Sequence[SubnetConfig], progress: Progress | None = None
) -> list[Result]:
    """Evaluate ``configs`` together; if that raises, one by one, so that a bad network fails alone.

    An exception of a single network becomes an :class:`~aspk.errors.EvaluationError` in its place.

    Args:
        evaluator: the evaluator to call.
        configs: the networks.
        progress: called by evaluators that report progress.

    Raises:
        EvaluationError: the number of results differs from the number of networks.
    """
    if not configs:
        return []
    try:
        telling = {"progress": progress} if _takes_progress(evaluator) else {}
        results = list(evaluator.evaluate(configs, **telling))
    except Exception as error:
        if len(configs) == 1:
            failure = error if isinstance(error, EvaluationError) else EvaluationError(_cause(error))
            return [failure]
        return [evaluate_all(evaluator, [config])[0] for config in configs]
    if len(results) != len(configs):
        raise EvaluationError(
            f"{type(evaluator).__name__} returned {len(results)} results for {len(configs)} networks"
        )
    return results


def _takes_progress(evaluator: Evaluator) -> bool:
    try:
        return "progress" in signature(evaluator.evaluate).parameters
    except (TypeError, ValueError):  # a callable that is not a Python function
        return False


def _cause(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


class CachedEvaluator:
    """Evaluates each network once: equal networks, whatever their inactive genes, share a result.

    Failures are not kept, so that they are tried again.
    """

    def __init__(self, evaluator: Evaluator, space: SearchSpace) -> None:
        self._evaluator = evaluator
        self._space = space
        self._known: dict[tuple[int, ...], Metrics] = {}

    def evaluate(self, configs: Sequence[SubnetConfig], progress: Progress | None = None) -> list[Result]:
        """See :class:`Evaluator`."""
        keys = [tuple(self._space.encode(config).tolist()) for config in configs]
        fresh = {key: config for key, config in zip(keys, configs, strict=True) if key not in self._known}
        results = dict(zip(fresh, evaluate_all(self._evaluator, list(fresh.values()), progress), strict=True))
        self._known |= {key: result for key, result in results.items() if isinstance(result, Metrics)}
        return [self._known[key] if key in self._known else results[key] for key in keys]
