"""What a user sees of a training run: expected ends, and scalars for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from aspk.errors import TrainingError


def expected_end(done: int, left: int, seconds: float, now: datetime) -> str:
    """When a run that did ``done`` updates in ``seconds`` will have done the ``left`` remaining ones.

    Args:
        done: updates since it began or resumed.
        left: updates to do.
        seconds: that ``done`` took.
        now: the time.

    Returns:
        A time of day, with the weekday if that is not today, or a date if it is a week off; '' if nothing is
        known yet.
    """
    try:
        return moment(now + timedelta(seconds=left * seconds / done), now)
    except (ZeroDivisionError, OverflowError):
        return ""


def moment(then: datetime, now: datetime) -> str:
    """A time of day, with the weekday if that is not today, or a date if it is a week off."""
    days = (then.date() - now.date()).days
    form = "%H:%M" if days == 0 else "%a %H:%M" if 0 < days < 7 else "%Y-%m-%d"
    return then.strftime(form)


class TensorBoard:
    """Scalars of a run in TensorBoard's files.

    Args:
        folder: holds the files; those of earlier parts of the run stay.
        update: of the checkpoint that the run resumes from: what a killed run wrote after it is not shown.

    Raises:
        TrainingError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, update: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # an extra
        except ImportError:
            raise TrainingError("TensorBoard is not installed: pip install 'aspk[tensorboard]'") from None
        self._writer = SummaryWriter(str(folder), purge_step=update + 1)

    def add(self, update: int, values: Mapping[str, float]) -> None:
        """Add scalars after an update, by name."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, update)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
