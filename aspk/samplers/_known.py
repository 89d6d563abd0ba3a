"""Known objectives, known constraints and composites, compared with the trials before anything is learnt.

All three are the user's functions. A trial that carries a value other than the function gives contradicts it;
the function is then left out with a warning, and its values are learnt like all others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from aspk.costs.bounds import KnownConstraints
from aspk.costs.values import KnownValues, NetworkFunction
from aspk.objectives.composite import Composite
from aspk.samplers._history import History, finite
from aspk.samplers._notices import Notices
from aspk.space.operators import Genome, Genotypes
from aspk.util.pareto import FloatArray, within_reach

_TOLERANCE = 1e-6  # relative; for constraints, which are shares of their bounds, also absolute
_ROUNDING = 1e-12  # absolute, for objectives


def contradiction(
    name: str, computed: FloatArray, observed: FloatArray, *, absolute: float = _ROUNDING
) -> str | None:
    """The message about a known function that a trial contradicts; None if none does.

    Args:
        name: of the function.
        computed: its values, shape (n,); one that is not finite contradicts nothing.
        observed: those of the trials, shape (n,); NaN where there are none.
        absolute: tolerance beside the relative one.
    """
    if computed.shape != observed.shape:
        return f"{name} gives an array of shape {computed.shape}: expected {observed.shape}"
    compared = np.isfinite(computed) & np.isfinite(observed)
    wrong = compared & ~np.isclose(computed, observed, rtol=_TOLERANCE, atol=absolute)
    if not wrong.any():
        return None
    row = int(wrong.argmax())
    return f"{name} gives {computed[row]:g} for a network whose trial says {observed[row]:g}"


def agreed_constraints(known: KnownConstraints, history: History, notices: Notices) -> KnownConstraints:
    """The known constraints that no trial contradicts."""
    agreed = dict(known.functions)
    for name in known.functions:
        observed = _observed(history, name)
        carried = ~np.isnan(observed)
        computed = finite(known.value(name, history.X[carried]))  # like the history's values
        if message := contradiction("known_constraints", computed, observed[carried], absolute=_TOLERANCE):
            notices.warn(f"constraint {name!r} is not known", message)
            del agreed[name]
    return replace(known, functions=agreed)


def with_known(history: History, known: KnownConstraints) -> History:
    """A history where known constraints are applied to all trials, and need not be learnt."""
    if not known.functions:
        return history
    violation = history.violation
    for name in known.functions:
        missing = np.isnan(_observed(history, name))
        violation = violation + np.where(missing, np.maximum(known.value(name, history.X), 0.0), 0.0)
    others = {name: values for name, values in history.constraints.items() if name not in known.functions}
    return replace(history, violation=violation, constraints=others)


def agreed_objectives(
    known: Mapping[int, NetworkFunction],
    genome: Genome,
    history: History,
    values: KnownValues,
    notices: Notices,
) -> dict[int, Callable[[Genotypes], FloatArray]]:
    """The known objectives that no trial contradicts: minimised functions of genotypes, by number."""

    def minimised(k: int) -> Callable[[Genotypes], FloatArray]:
        return lambda X: history.signs[k] * values.of(genome, k, known[k], X)

    def agrees(k: int) -> bool:
        computed = values.of(genome, k, known[k], history.X)
        return _is_objective(k, f"known[{k}]", computed, history, notices)

    return {k: minimised(k) for k in known if agrees(k)}


def agreed_composites(
    composites: Mapping[int, Composite], history: History, notices: Notices
) -> dict[int, Composite]:
    """The composites, by objective number, whose parts all trials carry and that no trial contradicts."""
    agreed = {}
    for k, composite in composites.items():
        parts = {name: history.attributes[name] for name in composite.parts}
        if missing := [name for name, values in parts.items() if not np.isfinite(values).all()]:
            notices.warn(f"objective {k} is learnt as a whole", f"trials without {', '.join(missing)}")
        elif _is_objective(k, f"composites[{k}]", composite.values(*parts.values()), history, notices):
            agreed[k] = composite
    return agreed


def _is_objective(k: int, name: str, computed: FloatArray, history: History, notices: Notices) -> bool:
    """Whether a function gives an objective's values; those of pruned trials, estimates, are left out."""
    observed = np.where(history.complete, history.signs[k] * history.values[:, k], np.nan)
    message = contradiction(name, within_reach(computed), observed)
    if message:
        expected = "expected the objective's own value, whether it is minimised or maximised"
        notices.warn(f"objective {k} is learnt", f"{message}: {expected}")
    return message is None


def _observed(history: History, name: str) -> FloatArray:
    """Values of a constraint as the trials carry it, shape (n,); NaN where they do not."""
    return history.constraints.get(name, np.full(len(history), np.nan))
