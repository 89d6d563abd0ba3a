"""Earlier studies that a search learns from, as histories in the genes of the new search."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from aspk.errors import AspkError, SamplerError
from aspk.samplers._archive import Archive
from aspk.samplers._broken import set_aside
from aspk.samplers._codec import Codec, SpaceCodec
from aspk.samplers._history import History
from aspk.samplers._notices import Notices
from aspk.space import SearchSpace
from aspk.space.file import space_from_dict
from aspk.trials import study_record
from aspk.trials.attributes import SPACE
from aspk.util.pareto import within_reach

FEWEST = 8  # trials of an earlier study that anything can be learnt from


@dataclass(frozen=True)
class PriorStudy:
    """A snapshot of an earlier study.

    Attributes:
        name: the study's.
        directions: of its objectives.
        objectives: their names, None if it has none.
        space: its search space, None if it recorded none.
        trials: the complete ones.
    """

    name: str
    directions: tuple[StudyDirection, ...]
    objectives: tuple[str, ...] | None
    space: SearchSpace | None
    trials: tuple[FrozenTrial, ...]

    @staticmethod
    def of(study: Study) -> PriorStudy:
        """The study as it is now; what it finds later does not count.

        Raises:
            SamplerError: this is not a study.
        """
        if not isinstance(study, Study):
            raise SamplerError(f"prior_studies=[{study!r}]: expected Optuna studies")
        names, space = study.metric_names, study_record(study).get(SPACE)
        return PriorStudy(
            study.study_name,
            tuple(study.directions),
            None if names is None else tuple(names),
            space_from_dict(space) if isinstance(space, dict) else None,
            tuple(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))),
        )

    def __repr__(self) -> str:
        return f"<study {self.name!r}>"

    def check(self, study: Study) -> None:
        """Refuse to learn from other objectives than those of a study.

        Raises:
            SamplerError: their names or directions differ.
        """
        own = _shown(tuple(study.directions), study.metric_names)
        theirs = _shown(self.directions, self.objectives)
        named = self.objectives is not None and study.metric_names is not None
        if tuple(study.directions) != self.directions or (
            named and self.objectives != tuple(study.metric_names or ())
        ):
            raise SamplerError(
                f"prior study {self.name!r} is to {theirs}: expected the objectives of study "
                f"{study.study_name!r}, in their order, {own}"
            )


def prior_histories(
    priors: Sequence[PriorStudy], codec: Codec, attributes: Sequence[str], notices: Notices
) -> tuple[History, ...]:
    """The trials of earlier studies as genotypes of this search; studies with too few of them are left out.

    Args:
        priors: the earlier studies.
        codec: of the new search.
        attributes: names of the user attributes that the search reads.
        notices: where it is said what is left out.
    """
    return tuple(
        history for prior in priors if (history := _history(prior, codec, attributes, notices)) is not None
    )


def _history(prior: PriorStudy, codec: Codec, attributes: Sequence[str], notices: Notices) -> History | None:
    history = Archive(codec, 0, None, attributes).history(prior, list(_translated(prior, codec)))
    history = set_aside(replace(history, values=within_reach(history.values)), codec.genome)
    few = len(history) < FEWEST
    if len(history) < len(prior.trials):
        others = f"{len(prior.trials) - len(history)} of {len(prior.trials)} trials are not of this space"
        notices.warn(
            f"prior study {prior.name!r}",
            f"{others}{f'; too few are left to learn from, at least {FEWEST} are needed' if few else ''}",
        )
    elif few:
        notices.warn(f"prior study {prior.name!r} is not used", f"{len(history)} trials, {FEWEST} are needed")
    return None if few else history


def _translated(prior: PriorStudy, codec: Codec) -> Iterator[FrozenTrial]:
    """The trials with the parameters that their networks have in this search's space."""
    if prior.space is None or not isinstance(codec, SpaceCodec) or prior.space == codec.genome:
        yield from prior.trials
        return
    for trial in prior.trials:
        try:
            x = codec.genome.encode(prior.space.decode(prior.space.from_parameters(trial.params)))
        except AspkError:  # not a network of this space
            continue
        same = copy.copy(trial)
        same.params = codec.parameters(x)
        same.distributions = {name: codec.distributions[name] for name in same.params}
        same.system_attrs = codec.note(x)
        yield same


def _shown(directions: Sequence[StudyDirection], names: Sequence[str] | None) -> str:
    named = names or [f"objective {k}" for k in range(len(directions))]
    return ", ".join(f"{one.name.lower()} {name}" for one, name in zip(directions, named, strict=True))
