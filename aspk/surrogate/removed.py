"""What the last release had, and this one warns of."""

from __future__ import annotations

import warnings


def check_model(model: str | None) -> None:
    """Warn of the option ``model``.

    Raises:
        ValueError: it is a model that was removed.
    """
    if model not in (None, "process"):
        raise ValueError(f"model={model!r}: expected None; the Gaussian process is the only model left")
    if model is not None:
        warnings.warn(
            "model= has no effect, and goes with the next release: the Gaussian process is the only model",
            FutureWarning,
            stacklevel=3,
        )


def renamed(old: str, new: str) -> None:
    """Warn of a name of :class:`~aspk.surrogate.AccuracySurrogate`."""
    warnings.warn(
        f"AccuracySurrogate.{old} is now {new}; the old name goes with the next release",
        FutureWarning,
        stacklevel=3,
    )
