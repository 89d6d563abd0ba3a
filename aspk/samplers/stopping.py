"""A search that ends by itself, once further evaluations are expected to improve hardly anything."""

from __future__ import annotations

import logging

from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from aspk.errors import SamplerError
from aspk.samplers._base import check_counts
from aspk.samplers.surrogate_assisted import SurrogateSampler

_LOGGER = logging.getLogger(__name__)
# Chosen with benchmarks/stopping.py, see docs/measured_search.md.
SHARE, PATIENCE = 0.001, 20


class ImprovementStopper:
    """Ends a study when the expected improvement of the next evaluation stays below a share.

    It is a callback of ``study.optimize``, for a study whose sampler is a :class:`SurrogateSampler`: after
    each of the last ``patience`` complete trials, the next one was expected to add less than ``share`` to the
    hypervolume. This follows from the trials alone: a study that is continued ends as if it had not been
    interrupted.
    """

    def __init__(self, *, share: float = SHARE, patience: int = PATIENCE) -> None:
        """Make a callback.

        Args:
            share: of the front's hypervolume or, with one objective, of the range of the values observed;
                above 0, below 1.
            patience: complete trials for which it must hold, at least 1.

        Raises:
            SamplerError: a number is out of range.
        """
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
            raise SamplerError(f"share={share!r}: expected a number between 0 and 1, such as {SHARE}")
        check_counts(patience=(patience, 1))
        self._share, self._patience = float(share), patience
        self._gains: dict[int, float | None] = {}  # after a trial, by its number; only a cache
        self._of: Study | None = None

    def __call__(self, study: Study, trial: FrozenTrial) -> None:
        """Stop the study if it is time, and log why."""
        if reason := self.reason(study):
            _LOGGER.warning("the search ends: %s", reason)
            study.stop()

    def reason(self, study: Study) -> str | None:
        """Why the study may end, in words; None if it may not.

        Raises:
            SamplerError: the study's sampler does not predict.
        """
        sampler = study.sampler
        if not isinstance(sampler, SurrogateSampler):
            raise SamplerError(
                f"sampler {type(sampler).__name__} expects no improvements; expected a SurrogateSampler"
            )
        if study is not self._of:  # another one may have the same name
            self._of, self._gains = study, {}
        trials = study.get_trials(deepcopy=False)
        complete = [trial.number for trial in trials if trial.state == TrialState.COMPLETE]
        if len(complete) < self._patience:
            return None
        latest: float | None = None
        for number in reversed(complete[-self._patience :]):
            gain = self._gain(study, sampler, trials, number)
            if gain is None or gain >= self._share:
                return None
            latest = gain if latest is None else latest
        whole = "the hypervolume" if len(study.directions) > 1 else "the range of all values"
        return (
            f"for {self._patience} evaluations, the next one was expected to improve {whole} by less than "
            f"{self._share:.2%}, at last {latest:.2%}"
        )

    def _gain(
        self, study: Study, sampler: SurrogateSampler, trials: list[FrozenTrial], number: int
    ) -> float | None:
        """The expected gain after a trial, from the trials up to it."""
        if number in self._gains:
            return self._gains[number]
        known = [trial for trial in trials if trial.number <= number]
        gain = sampler.expected_gain(study, known)
        if all(trial.state.is_finished() for trial in known):
            self._gains[number] = gain
        return gain
