"""The border to Optuna's storage: attributes of trials and studies, trials written in few transactions."""

from aspk.trials.writing import complete, create_running, note_system_attributes

__all__ = ["complete", "create_running", "note_system_attributes"]
