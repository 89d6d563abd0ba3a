"""Training that can be interrupted or killed at any moment, and resumes with the same bits."""

from __future__ import annotations

from contextlib import closing, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

from aspk.training.checkpoint import save_state
from aspk.training.progress import TensorBoard, moment
from aspk.training.run import Run
from aspk.util.interrupt import graceful_interruption
from aspk.util.locks import exclusive
from aspk.util.progress import ProgressBar


def train(
    run: Run[Any],
    state_file: Path,
    *,
    description: str,
    progress: bool,
    announce: bool = False,
    until: datetime | None = None,
    tensorboard: bool = False,
    pause_at: int | None = None,
) -> bool:
    """Train from the state in ``state_file``, if there is one; False if it stopped before the end.

    Ctrl-C stops it after the current update and saves, and so does ``until``.

    Args:
        run: what is trained.
        state_file: where its state is kept.
        description: labels the progress bar.
        progress: whether to show one.
        announce: say above it what ``amp = "auto"`` became, and why; one line is enough for many networks.
        until: when to stop, with a time zone; None trains to the end.
        tensorboard: write scalars for TensorBoard into the folder ``tensorboard`` beside the state.
        pause_at: an update after which to save and return True, unless the state is already past it.

    Of several processes the first one reads and writes files and shows progress.

    Raises:
        CheckpointError: the state is another run's, or too damaged to use.
        LockError: another process trains with the same state.
        TrainingError: the loss is not finite, and the last checkpoint is kept; or TensorBoard is missing.
    """
    first = run.processes.first
    progress, tensorboard = progress and first, tensorboard and first
    with exclusive(state_file) if first else nullcontext():
        if first:
            run.resume(state_file)
        if run.processes.count > 1:
            run.take(run.processes.from_first(run.state()), state_file)
        if run.recipe.amp == "auto" and progress and announce:
            ProgressBar.write(run.choice())
        if until is not None and progress:
            ProgressBar.write(f"stops at {moment(until, datetime.now(until.tzinfo))}, unless it ends earlier")
        scalars = TensorBoard(state_file.parent / "tensorboard", run.update) if tensorboard else None
        with closing(scalars) if scalars else nullcontext():
            finished = _train(
                run, state_file, scalars, until, pause_at, description=description, progress=progress
            )
        run.processes.wait()  # when one has ended, torchrun ends the others, and one may still be writing
        return finished


def _train(
    run: Run[Any],
    state_file: Path,
    scalars: TensorBoard | None,
    until: datetime | None,
    pause_at: int | None,
    *,
    description: str,
    progress: bool,
) -> bool:
    recipe = run.recipe
    end = recipe.updates if pause_at is None or run.update > pause_at else pause_at
    options: dict[str, Any] = {"initial": run.update, "desc": description, "unit": "update"}
    with (
        graceful_interruption(
            finishing="the update", lost="updates since the last checkpoint are done again"
        ) as interruption,
        ProgressBar(total=recipe.updates, disable=not progress, **options) as bar,
    ):
        while run.update < end:
            loss = run.step()
            bar.update()
            bar.set_postfix(run.figures(loss), refresh=False)
            if scalars:
                scalars.add(run.update, {"loss": loss, "gradient_norm": run.gradient_norm})
            done = run.update == recipe.updates
            late = until is not None and datetime.now(until.tzinfo) >= until
            stop = run.processes.any(interruption.requested or late)
            due = run.update == end or stop or run.update % recipe.checkpoint_every == 0
            if due and run.processes.first:
                measured = run.monitor()
                if scalars:
                    scalars.add(run.update, measured)
                bar.set_postfix(run.figures(loss))
                save_state(state_file, run.state())
            if stop and not done:
                return False
    return True
