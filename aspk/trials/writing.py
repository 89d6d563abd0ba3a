"""Trials of a study written in few transactions.

``study.add_trial`` does not say which trial it made, and ``study.tell`` reads the trial twice. The functions
here call the same methods of Optuna's :class:`~optuna.storages.BaseStorage`, and no others. This is the only
file that uses Optuna's private attributes: a study's storage, and the internal ids of studies and trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from aspk.trials.attributes import LAYERS


def create_running(
    study: Study,
    parameters: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
    *,
    user_attributes: Mapping[str, Any],
    system_attributes: Mapping[str, Any],
) -> Trial:
    """A new running trial with all its parameters and attributes, in one transaction."""
    template = create_trial(
        state=TrialState.RUNNING,
        params=dict(parameters),
        distributions=dict(distributions),
        user_attrs=dict(user_attributes),
        system_attrs=dict(system_attributes),
    )
    return Trial(study, study._storage.create_new_trial(study._study_id, template_trial=template))


def complete(trial: Trial, values: Sequence[float]) -> None:
    """Complete a running trial, in one transaction.

    ``study.tell`` reads all of the trial before and after that, 12 statements on a database, and asks the
    sampler whether it has something to do after a trial, which aspk's samplers do not.

    Args:
        trial: the trial.
        values: one finite number for each objective.

    Raises:
        optuna.exceptions.UpdateFinishedTrialError: the trial is finished.
    """
    trial.storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, values)


def study_record(study: Study) -> Mapping[str, Any]:
    """A study's record: its system attributes, overridden by user attributes, which older versions used."""
    return {**study._storage.get_study_system_attrs(study._study_id), **study.user_attrs}


def note_study_record(study: Study, record: Mapping[str, Any]) -> None:
    """Write system attributes to a study, in their order; optuna-dashboard shows only user attributes."""
    for name, value in record.items():
        study._storage.set_study_system_attr(study._study_id, name, value)


def note_counts(trial: Trial, counts: Mapping[str, Any]) -> None:
    """Write layer counts to a running trial as a system attribute: the dashboard prints user attributes."""
    trial.storage.set_trial_system_attr(trial._trial_id, LAYERS, counts)


def note_system_attributes(study: Study, trial: FrozenTrial, attributes: Mapping[str, Any]) -> None:
    """Write system attributes to a running trial, each in a transaction of its own."""
    for name, value in attributes.items():
        study._storage.set_trial_system_attr(trial._trial_id, name, value)
