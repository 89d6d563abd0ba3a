"""The model of a study's trials, made as a search makes it."""

from __future__ import annotations

from sampler_cases import TINY

from aspk.costs.values import KnownValues
from aspk.samplers._known import agreed_composites, agreed_objectives
from aspk.samplers._model import fit_study
from aspk.samplers._notices import Notices


def study_model(found, *, genome=TINY, known=None, composites=None, first=6, fits=None):
    """The model of a history, whose known functions are checked first."""
    notices = Notices()
    return fit_study(
        genome,
        found,
        known=agreed_objectives(known or {}, genome, found, KnownValues(), notices),
        composites=agreed_composites(composites or {}, found, notices),
        free=None,
        first=first,
        fits={} if fits is None else fits,
    )
