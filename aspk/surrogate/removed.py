"""Names and options of the last release that now raise or warn."""

from __future__ import annotations

import warnings


def check_model(model: str | None) -> None:
    """Warn about the option ``model``.

    Raises:
        ValueError: the model was removed.
    """
    if model not in (None, "process"):
        raise ValueError(f"model={model!r}: expected None; the Gaussian process is the only model left")
    if model is not None:
        warnings.warn(
            "model= has no effect and will be removed in the next release: all models are Gaussian processes",
            FutureWarning,
            stacklevel=3,
        )


def renamed(old: str, new: str) -> None:
    """Warn about an old name of :class:`~aspk.surrogate.AccuracySurrogate`."""
    warnings.warn(
        f"AccuracySurrogate.{old} is now {new}; the old name will be removed in the next release",
        FutureWarning,
        stacklevel=3,
    )
