"""What spikingjelly's own energy accounts (``activation_based.op_counter``) report for the same pass."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from aspk.energy import AccountTotal
from aspk.profiling.neurons import reset
from aspk.profiling.snapshot import untouched

# The accounts, the functions that estimate them, and what their reports call the total.
ACCOUNTS = {
    "spikingjelly simple": ("estimate_simple_energy", "energy_total_pj"),
    "spikingjelly lemaire": ("estimate_lemaire_energy", "total_pj"),
    "spikingjelly neuromc": ("estimate_neuromc_runtime_energy", "energy_total_pj"),
    "spikingjelly spikesim": ("estimate_spikesim_energy", "energy_total_pj"),
}
_MJ_PER_PJ = 1e-9


def op_counter_totals(
    module: nn.Module,
    batch: Any,  # noqa: ANN401  # whatever the module takes
    images: int,
    neurons: tuple[type[nn.Module], ...] = (),
) -> tuple[AccountTotal, ...]:
    """One image's energy under each of spikingjelly's accounts; a reason where an account rejects the module.

    They count one pass over the whole batch, including memory access, on the module's device.
    """
    from spikingjelly.activation_based import op_counter  # noqa: PLC0415  # takes a second

    return tuple(
        _total(name, getattr(op_counter, function), key, module, batch, images, neurons)
        for name, (function, key) in ACCOUNTS.items()
    )


def unknown_totals(reason: str) -> tuple[AccountTotal, ...]:
    """The accounts without a number, where there is no module to run."""
    return tuple(AccountTotal(name=name, mj=None, note=reason) for name in ACCOUNTS)


def _total(
    name: str,
    estimate: Callable[[nn.Module, Any], Any],
    key: str,
    module: nn.Module,
    batch: Any,  # noqa: ANN401  # as above
    images: int,
    neurons: tuple[type[nn.Module], ...],
) -> AccountTotal:
    with untouched(module), torch.inference_mode(mode=False), torch.no_grad(), _quiet():
        module.eval()
        reset(module, neurons)
        try:
            report = estimate(module, batch)
        except Exception as error:  # each account raises its own errors
            reason = (str(error).splitlines() or [""])[0]
            return AccountTotal(name=name, mj=None, note=f"{type(error).__name__}: {reason}")
    warned = "; ".join(str(text) for text in getattr(report, "warnings", [])[:1])
    return AccountTotal(name=name, mj=float(getattr(report, key)) * _MJ_PER_PJ / images, note=warned)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence spikingjelly's log lines, which repeat the report."""
    logger = logging.getLogger("spikingjelly")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
