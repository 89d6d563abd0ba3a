"""A predictor of accuracy and other numbers from genotypes, with calibrated standard deviations.

The estimator needs scikit-learn, which takes half a second to import; a search uses the models behind it and
does not need it. Hence these names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from aspk.surrogate.features import features

if TYPE_CHECKING:
    from aspk.surrogate.estimator import AccuracySurrogate
    from aspk.surrogate.posterior import Posterior
    from aspk.surrogate.validation import Skill, learning_curve, rank_correlation

_HOME = {
    "AccuracySurrogate": "estimator",
    "Posterior": "posterior",
    "Skill": "validation",
    "learning_curve": "validation",
    "rank_correlation": "validation",
}

__all__ = ["AccuracySurrogate", "Posterior", "Skill", "features", "learning_curve", "rank_correlation"]


def __getattr__(name: str) -> Any:  # noqa: ANN401  # whatever the name stands for
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
