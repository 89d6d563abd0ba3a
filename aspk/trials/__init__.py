"""The interface to Optuna's storage: attributes of trials and studies, trials written in few transactions."""

from aspk.trials.writing import (
    complete,
    create_running,
    note_counts,
    note_study_record,
    note_system_attributes,
    study_record,
)

__all__ = [
    "complete",
    "create_running",
    "note_counts",
    "note_study_record",
    "note_system_attributes",
    "study_record",
]
