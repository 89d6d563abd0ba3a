"""Which found networks enter the main comparison: chosen on ``search`` only, and named in a file."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from aspk.errors import StudyError
from aspk.metrics import Metrics
from aspk.objectives.scalarization import FAEB
from aspk.util.files import write_atomically
from benchmarks.comparison.plan import FOUND, Plan

Row = Mapping[str, Any]


def choose(rows: Sequence[Row], hand_made: Row, *, classes: int) -> dict[str, Row]:
    """The found networks by what they are chosen as, from one training of each network.

    ``at-energy``: the most accurate that takes no more energy than the hand-made one under either account.
    ``at-accuracy``: of those at least as accurate, the one with the least energy, as a share of the hand-made
    network's under the account in which that is larger. ``f-aeb``: the best F_AEB.

    Args:
        rows: trainings of found networks: ``search``, ``energy_mj``, ``strict_mj``.
        hand_made: the hand-made network's training with the same recipe and seed.
        classes: number of classes.

    Returns:
        No network for what none of them is good enough for.
    """
    score = FAEB(reference_energy_mj=hand_made["energy_mj"], classes=classes)

    def share(row: Row) -> float:
        return max(float(row[key] / hand_made[key]) for key in ("energy_mj", "strict_mj"))

    cheap = [row for row in rows if share(row) <= 1]
    accurate = [row for row in rows if row["search"] >= hand_made["search"]]
    found: dict[str, Row] = {}
    if cheap:
        found["at-energy"] = max(cheap, key=lambda row: (row["search"], -share(row)))
    if accurate:
        found["at-accuracy"] = min(accurate, key=lambda row: (share(row), -row["search"]))
    if rows:
        found["f-aeb"] = max(
            rows, key=lambda row: score(Metrics(accuracy=row["search"], energy_mj=row["energy_mj"]))
        )
    return found


def name_networks(plan: Plan, found: Mapping[str, Row]) -> None:
    """Write the file that names the found networks, unless it is there."""
    if not plan.named_file.exists():
        content = {
            "chosen on": "search, one training of each network; test had not been read",
            "networks": {
                role: {key: row[key] for key in ("family", "config", "search", "energy_mj", "strict_mj")}
                for role, row in found.items()
            },
            "none found as": [role for role in FOUND if role not in found],
        }
        write_atomically(plan.named_file, json.dumps(content, indent=1) + "\n")


def named(plan: Plan) -> dict[str, Row]:
    """The found networks by role, as the file names them.

    Raises:
        StudyError: the file is not committed as it is, so that nobody can see that it came before ``test``.
    """
    content: dict[str, Row] = json.loads(plan.named_file.read_text(encoding="utf-8"))["networks"]
    if not plan.quick and not _committed(str(plan.named_file)):
        raise StudyError(
            f"{plan.named_file} names the found networks: commit it as it is, then give the same command "
            "again, which reads 'test' for the first time"
        )
    return content


def _committed(path: str) -> bool:
    def git(*arguments: str) -> bool:
        return subprocess.run(["git", *arguments, path], capture_output=True, check=False).returncode == 0

    return git("ls-files", "--error-unmatch", "--") and git("diff", "--quiet", "HEAD", "--")
