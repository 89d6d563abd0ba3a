"""Errors: one class for each convention that can be broken.

Every message says what was given, what was expected and what to do about it.
"""


class AspkError(Exception):
    """Base of every error that aspk raises on purpose."""

    @property
    def page(self) -> str:
        """Where the documentation says more, such as ``docs/errors.md#dataerror``."""
        kind = next(one for one in type(self).__mro__ if one.__module__ == __name__)  # not a user's subclass
        return f"docs/errors.md#{kind.__name__.lower()}"


class SpaceError(AspkError):
    """A search-space file or definition is not valid."""


class GenotypeError(AspkError):
    """An index vector, parameter set or network does not belong to the search space."""


class MetricsError(AspkError):
    """Metrics are not numbers, or their JSON form is damaged."""


class EnergyModelError(AspkError):
    """An energy model has an unknown switch or an impossible constant."""


class ProfilingError(AspkError):
    """A module or its input cannot be profiled."""


class ObjectiveError(AspkError):
    """An objective, constraint or scalarisation is unknown or did not return a number."""


class EvaluationError(AspkError):
    """A candidate could not be evaluated: its trial fails and gets no value."""


class EvaluationStopped(EvaluationError):  # noqa: N818  # it is a decision, not an error
    """An evaluation was ended early because its result would not matter: its trial is pruned."""


class DataError(AspkError):
    """A data set is missing, damaged or too small for the requested splits."""


class DeviceError(AspkError):
    """The requested device is not available."""


class EngineError(AspkError):
    """An engine is unknown, cannot run here, or has an impossible setting."""


class CheckpointError(AspkError):
    """A checkpoint or exported model is damaged, or belongs to something else."""


class TrainingError(AspkError):
    """Training cannot continue, for instance because the loss is not finite."""


class WorkerError(AspkError):
    """A worker process was killed from outside."""


class LockError(AspkError):
    """Another process is doing the same work."""


class SamplerError(AspkError):
    """A sampler has an impossible setting, or lacks something that the call needs."""


class ServerError(AspkError):
    """A web server cannot listen on the requested address."""


class StudyError(AspkError):
    """A study file is not valid, or the storage holds another study under its name."""


class RankingError(AspkError):
    """A ranking study has too few networks, or its records are damaged."""


class TableError(AspkError):
    """A table of evaluated networks is missing, incomplete or damaged."""
