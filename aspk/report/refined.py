"""The result of 'aspk refine': trained networks, next to the hand-designed one trained the same way."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from aspk.report.summary import Row, StudySummary
from aspk.report.tables import align, number
from aspk.space.file import space_from_dict
from aspk.space.genes import SubnetConfig


def refined_text(summary: StudySummary, *, export_of: Callable[[SubnetConfig], Path]) -> str:
    """The trained front, and the reference network, as a table.

    Args:
        summary: the refined study.
        export_of: the folder of a network's export.
    """
    space = space_from_dict(summary.space, where=f"study {summary.name!r}")
    configs = {row.number: space.decode(space.from_parameters(row.parameters)) for row in summary.trials}
    reference = next((row for row in summary.trials if configs[row.number] == space.reference), None)
    front = [row.number for row in summary.front]
    shown = [*summary.front, *([reference] if reference and reference.number not in front else [])]
    header = ["network", "search", "test", "mJ", "F_AEB", "export"]
    rows = [
        [
            f"{row.number}{' (reference)' if configs[row.number] == space.reference else ''}",
            *_accuracies(row, summary.images),
            number(row.metrics.energy_mj if row.metrics else None),
            number(row.f_aeb),
            str(export_of(configs[row.number])),
        ]
        for row in shown
    ]
    return (
        f"{align(header, rows)}\n"
        f"{len(summary.trials)} networks trained, {len(front)} on the front of search. ± is the standard "
        "error due to the number of images; accuracies also vary between trainings. test was not "
        "used in the search. Energies are estimates from operation counts"
    )


def _accuracies(row: Row, images: int | None) -> tuple[str, str]:
    """Accuracy on ``search`` with its standard error, and on ``test``."""
    if row.metrics is None:
        return number(None), number(None)
    p = row.metrics.accuracy
    error = f" ± {math.sqrt(p * (1 - p) / images):.4f}" if images else ""
    return f"{p:.4f}{error}", number(row.metrics.extras.get("test_accuracy"))
