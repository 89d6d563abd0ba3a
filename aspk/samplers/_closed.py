"""Known constraints and a study: which of them its trials bear out, and what they say of its trials."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from aspk.costs.bounds import Bounds
from aspk.samplers._history import History, finite
from aspk.samplers._notices import Notices
from aspk.util.pareto import FloatArray

_TOLERANCE = 1e-6  # absolute: constraints are shares of their bounds


def trusted(bounds: Bounds, history: History, notices: Notices) -> Bounds:
    """The bounds that no trial contradicts; the log says which are left out, and why."""
    forms = {name: form for name, form in bounds.forms.items() if _agrees(bounds, name, history, notices)}
    return replace(bounds, forms=forms)


def applied(bounds: Bounds, history: History) -> History:
    """A history in which these constraints hold for all trials, and are no longer to be learnt."""
    if not bounds.forms:
        return history
    violation = history.violation
    for name in bounds.forms:
        untold = np.isnan(_told(history, name))
        violation = violation + np.where(untold, np.maximum(bounds.value(name, history.X), 0.0), 0.0)
    learnt = {name: told for name, told in history.constraints.items() if name not in bounds.forms}
    return replace(history, violation=violation, constraints=learnt)


def _agrees(bounds: Bounds, name: str, history: History, notices: Notices) -> bool:
    told = _told(history, name)
    carried = ~np.isnan(told)
    own, told = bounds.value(name, history.X[carried]), told[carried]
    own = finite(own)  # as the history's are
    wrong = np.abs(own - told) > _TOLERANCE * (1 + np.abs(own))
    if wrong.any():
        row = int(wrong.argmax())
        notices.warn(
            f"constraint {name!r} is not known",
            f"known_constraints gives {own[row]:g} for a network whose trial says {told[row]:g}",
        )
    return not wrong.any()


def _told(history: History, name: str) -> FloatArray:
    """Values of a constraint as the trials carry it, shape (n,); NaN where they do not."""
    return history.constraints.get(name, np.full(len(history), np.nan))
