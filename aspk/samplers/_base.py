"""The base of aspk's samplers: the study is the only state.

Optuna first calls :meth:`GenotypeSampler.infer_relative_search_space` for the parameters to be chosen
together, then :meth:`GenotypeSampler.sample_relative` for their values. That reads the study into
a :class:`~aspk.samplers._history.History`, calls the search's own :meth:`GenotypeSampler.propose`, and names
the genotype's active genes. A parameter that it did not choose goes to
:meth:`GenotypeSampler.sample_independent`.
"""

from __future__ import annotations

import abc
import inspect
import logging
import threading
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from aspk.costs.bounds import KnownConstraints
from aspk.costs.values import KnownValues, NetworkFunction
from aspk.errors import AspkError, SamplerError
from aspk.samplers._archive import Archive, Fitness
from aspk.samplers._codec import Codec, ParameterCodec, SpaceCodec
from aspk.samplers._coordinate import ParameterValue
from aspk.samplers._history import History
from aspk.samplers._inferred import Inference
from aspk.samplers._known import agreed_constraints, with_known
from aspk.samplers._notices import Notices
from aspk.samplers._prior import PriorStudy, prior_histories
from aspk.space import SearchSpace
from aspk.space.file import load_space
from aspk.space.operators import Genome, Genotypes, keys, sample
from aspk.trials import create_running, note_system_attributes
from aspk.trials.attributes import GENOTYPE

_LOGGER = logging.getLogger(__name__)
# One suggestion at a time in a process: threads share a sampler, and each must see the others' genotypes.
PROPOSING = threading.Lock()
# Numbers of the search's proposals and of random ones, among which a new design with fixed values is sought.
_PROPOSED, _OTHERS = 8, 1000


class GenotypeSampler(optuna.samplers.BaseSampler, abc.ABC):
    """A sampler that searches over genotypes.

    Every suggestion is a function of the study, the seed and the trial's number: a new sampler object on the
    same study continues where the old one stopped.
    """

    def __init_subclass__(cls, **options: object) -> None:
        """Let ``help()`` and editors show the options of ``__init__``, not those of ``__new__``."""
        super().__init_subclass__(**options)
        own = inspect.signature(cls.__init__)
        cls.__signature__ = own.replace(parameters=list(own.parameters.values())[1:])

    __signature__: ClassVar[inspect.Signature]

    def __new__(cls, *_: object, **options: object) -> Self:
        """Reject an option that other samplers accept, and keep the options for :meth:`__repr__`."""
        if "constraints_func" in options:
            raise SamplerError(
                "constraints_func=: a trial carries its own constraints; call "
                "trial.set_constraint(name, value) in the objective, where up to 0 is feasible"
            )
        sampler = super().__new__(cls)
        sampler._given = options
        return sampler

    def __repr__(self) -> str:
        """The options that were given, and the seed."""
        given = {name: _shown(value) for name, value in self._given.items() if name != "seed"}
        options = ", ".join(f"{name}={value}" for name, value in {**given, "seed": self._seed}.items())
        return f"{type(self).__name__}({options})"

    _given: Mapping[str, object]

    def __init__(
        self,
        *,
        space: SearchSpace | str | Path | None = None,
        seed: int | None = None,
        known_constraints: Mapping[str, NetworkFunction] | None = None,
        fitness: Fitness | None = None,
        attributes: Sequence[str] = (),
        defaults: Mapping[str, ParameterValue] | None = None,
        prior_studies: Sequence[Study] = (),
    ) -> None:
        """Make a sampler.

        Args:
            space: the search space, its file, or the name of a shipped one; None infers the parameters from
                the study's trials.
            seed: at least 0; None draws one.
            known_constraints: name of a constraint, as trials carry it, to its value as a function of the
                network, such as :class:`~aspk.costs.known.CostConstraint`; values up to 0 are feasible. No
                network that breaks one is proposed while others can be found; needs ``space``. A function is
                called once for each network considered, up to a few thousand of them before a trial.
            fitness: ranks complete trials: larger is better, and NaN comes last. None ranks by the
                objectives.
            attributes: names of the trials' user attributes that the search reads.
            defaults: maps the name of a parameter that was added to the study later to the value it had
                before, so that older trials can be learnt from; only without ``space``.
            prior_studies: earlier studies of the same objectives, as they are now.

        Raises:
            SamplerError: an option is of the wrong kind or out of range, or known constraints come without
                ``space``.
            SearchSpaceError: there is no such space.
        """
        needs_space(space, known_constraints=known_constraints)
        if seed is not None and (not isinstance(seed, int | np.integer) or seed < 0):
            raise SamplerError(f"seed={seed!r}: expected a whole number of at least 0, or None")
        space = as_space(space)
        check_functions("known_constraints", known_constraints)
        if space is not None and defaults:
            raise SamplerError(
                f"defaults={defaults!r}: a search space knows its genes; expected one of the two"
            )
        if fitness is not None and not callable(fitness):
            raise SamplerError(f"fitness={fitness!r}: expected a function of a trial")
        self._seed = seed if seed is not None else int(np.random.SeedSequence().generate_state(1)[0])
        self._space = None if space is None else SpaceCodec(space)
        self._known_constraints = dict(known_constraints or {})
        self._known_values = KnownValues()
        self._notices = Notices()
        self._fitness = fitness
        self._attributes = tuple(attributes)
        self._archive: Archive | None = None
        self._defaults = dict(defaults or {})
        self._inference = Inference(self._defaults)
        self._priors = tuple(map(PriorStudy.of, prior_studies))
        self._prior_histories: tuple[Codec, tuple[History, ...]] | None = None

    @abc.abstractmethod
    def propose(self, genome: Genome, history: History, count: int, rng: np.random.Generator) -> Genotypes:
        """The search itself, a pure function: ``count`` new genotypes, shape (count, G)."""

    # ------------------------------------------------------------------ Optuna's interface

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """All genes of the search space; without one, the parameters of the complete trials.

        These are the parameters that all of them have, and those that are suggested only for certain values
        of another one.
        """
        if self._space is not None:
            return dict(self._space.distributions)
        with PROPOSING:
            codec = self._inference.codec(study.get_trials(deepcopy=False))
            self._inference.warn(self._notices)
            return dict(codec.distributions)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values for the parameters of ``search_space``; for a :class:`SearchSpace`, only the active ones."""
        if not search_space:
            return {}
        with PROPOSING:
            trials = study.get_trials(deepcopy=False)
            codec: Codec = self._space or self._inference.codec(trials).around(search_space)
            others = _without(trials, trial.number)
            if fixed := _fixed_around(codec, search_space, others):
                x = self._pinned(study, codec, others, trial.number, fixed)
            else:
                x = self._propose(study, codec, others, 1, trial.number)[0]
            x = codec.pin(x, trial.system_attrs.get("fixed_params", {}))
            note_system_attributes(study, trial, codec.note(x))
        return {name: value for name, value in codec.parameters(x).items() if name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> ParameterValue:
        """The recorded genotype's value if there is one, else a uniformly drawn one."""
        stream = (self._seed, trial.number, zlib.crc32(param_name.encode()))
        if self._space is not None and self._space.distributions.get(param_name) == param_distribution:
            x = self._space.stored(trial.system_attrs)
            if x is not None:
                column = list(self._space.distributions).index(param_name)
                return self._space.genome.genes[column].choices[x[column]]
        codec = ParameterCodec({param_name: param_distribution})
        return codec.parameters(sample(codec, 1, np.random.default_rng(stream))[0])[param_name]

    # ------------------------------------------------------------------ batches

    def ask_batch(
        self,
        study: Study,
        count: int,
        *,
        user_attributes: Mapping[str, Any] | None = None,
        stream: Sequence[int] = (),
    ) -> list[Trial]:
        """``count`` trials with all parameters set, each created in one write; enqueued trials come first.

        Args:
            study: the study; its sampler should be this one.
            count: how many.
            user_attributes: written with each trial.
            stream: numbers >= 0 that choose another random stream. Processes that ask for batches of one
                study at the same time need different ones, since a batch is proposed before its trial
                numbers are known.

        Returns:
            Running trials, each to be finished by ``study.tell``. ``space.suggest(trial)`` gives a trial's
            network without writing to the storage.

        Raises:
            SamplerError: the sampler has no search space.
        """
        if self._space is None:
            raise SamplerError(f"ask_batch needs {type(self).__name__}(space=...): parameters were not given")
        trials = self._ask_enqueued(study, count)
        for trial in trials:
            for name, value in (user_attributes or {}).items():
                trial.set_user_attr(name, value)
        if len(trials) == count:
            return trials
        with PROPOSING:
            known = study.get_trials(deepcopy=False)
            proposals = self._propose(study, self._space, known, count - len(trials), len(known), stream)
            for x in proposals:
                parameters = self._space.parameters(x)
                distributions = {name: self._space.distributions[name] for name in parameters}
                trial = create_running(
                    study,
                    parameters,
                    distributions,
                    user_attributes=user_attributes or {},
                    system_attributes=self._space.note(x),
                )
                trials.append(trial)
        return trials

    def ask_again(self, study: Study, trial: FrozenTrial, user_attributes: Mapping[str, Any]) -> Trial:
        """A new running trial with the parameters and the genotype of a finished one, in a single write."""
        genotype = {k: v for k, v in trial.system_attrs.items() if k.startswith(GENOTYPE)}
        return create_running(
            study,
            trial.params,
            trial.distributions,
            user_attributes=user_attributes,
            system_attributes=genotype,
        )

    def _ask_enqueued(self, study: Study, count: int) -> list[Trial]:
        assert self._space is not None
        trials: list[Trial] = []
        while len(trials) < count and study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            trial = study.ask()
            try:
                self._space.genome.suggest(trial)
            except (AspkError, ValueError) as error:  # an enqueued value that is no choice of the space
                _LOGGER.warning("enqueued trial %d fails: %s", trial.number, error)
                study.tell(trial, state=TrialState.FAIL)
                continue
            trials.append(trial)
        return trials

    def _propose(
        self,
        study: Study,
        codec: Codec,
        trials: Sequence[FrozenTrial],
        count: int,
        number: int,
        stream: Sequence[int] = (),
    ) -> Genotypes:
        """The search's proposals for trial ``number`` and those behind it, given the other ``trials``."""
        history = self._history(study, codec, trials)
        rng = np.random.default_rng([self._seed, number, *stream])
        return self.propose(codec.genome, history, count, rng)

    def _history(self, study: Study, codec: Codec, trials: Sequence[FrozenTrial]) -> History:
        """What is known of a study from these trials."""
        if self._archive is None or self._archive.codec != codec:
            self._archive = Archive(codec, self._seed, self._fitness, self._attributes)
        history = self._archive.history(study, trials)
        if self._space is not None:
            self._archive.warn(self._notices, self._space.genome.name)
        return replace(history, priors=self._earlier(study, codec)) if self._priors else history

    def _earlier(self, study: Study, codec: Codec) -> tuple[History, ...]:
        """The histories of the prior studies, which are read once for each search space."""
        if self._prior_histories is None or self._prior_histories[0] != codec:
            for prior in self._priors:
                prior.check(study)
            found = prior_histories(self._priors, codec, self._attributes, self._notices)
            self._prior_histories = codec, found
        return self._prior_histories[1]

    def _pinned(
        self,
        study: Study,
        codec: Codec,
        trials: Sequence[FrozenTrial],
        number: int,
        fixed: Mapping[str, ParameterValue],
    ) -> Genotypes:
        """A proposal with fixed values; its design is new if any candidate's is."""
        X = self._propose(study, codec, trials, _PROPOSED, number)
        others = sample(codec.genome, _OTHERS, np.random.default_rng([self._seed, number, _OTHERS]))
        X = np.concatenate([X, others])
        columns = [column for column, name in enumerate(codec.distributions) if name in fixed]
        X[:, columns] = codec.pin(X[0], fixed)[columns]
        assert self._archive
        known = self._archive.history(study, trials).designs
        new = (x for x, key in zip(X, keys(codec.genome, X), strict=True) if key not in known)
        return np.asarray(next(new, X[0]))

    def bounded(self, genome: Genome, history: History) -> tuple[KnownConstraints, History]:
        """The known constraints that no trial contradicts, and the history with them applied."""
        known = KnownConstraints(genome, self._known_constraints, self._known_values)
        known = agreed_constraints(known, history, self._notices)
        return known, with_known(history, known)

    def __getstate__(self) -> dict[str, Any]:
        # These are only caches, and as large as the study.
        memories = {
            "_archive": None,
            "_inference": Inference(self._defaults),
            "_known_values": KnownValues(),
            "_prior_histories": None,
        }
        return {**self.__dict__, **memories}


def as_space(space: SearchSpace | str | Path | None) -> SearchSpace | None:
    """The space that a sampler was given as an object, a file or a name.

    Raises:
        SamplerError: it is none of these.
        SearchSpaceError: there is no such space.
    """
    if space is None or isinstance(space, SearchSpace):
        return space
    if not isinstance(space, str | Path):
        raise SamplerError(f"space={space!r}: expected a SearchSpace, a file, or the name of a shipped one")
    return load_space(space)


def check_functions(name: str, functions: object) -> None:
    """Raise :class:`SamplerError` unless ``functions`` is None or maps each key to a function."""
    whole = isinstance(functions, Mapping) and all(map(callable, functions.values()))
    if functions is not None and not whole:
        raise SamplerError(f"{name}={functions!r}: expected a mapping to functions of a network")


def check_counts(**counts: tuple[object, int]) -> None:
    """Raise :class:`SamplerError` for a number that is not whole, or below its minimum."""
    for name, (count, least) in counts.items():
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < least:
            raise SamplerError(f"{name}={count!r}: expected a whole number of at least {least}")


def _shown(option: object) -> str:
    """An option as a person reads it: spaces and functions by name."""
    if isinstance(option, SearchSpace):
        return repr(option.name)
    if isinstance(option, Mapping):
        return "{" + ", ".join(f"{key!r}: {_shown(value)}" for key, value in option.items()) + "}"
    return str(getattr(option, "__name__", None) or repr(option))


def needs_space(space: object, **functions: object) -> None:
    """Raise :class:`SamplerError` for functions of a network that come without a space."""
    for name, given in functions.items():
        if given and space is None:
            raise SamplerError(f"{name}= are functions of a network: expected space= beside them")


def _fixed_around(
    codec: Codec, search_space: Mapping[str, BaseDistribution], trials: Sequence[FrozenTrial]
) -> dict[str, ParameterValue]:
    """Parameters that a sampler around this one sets, such as PartialFixedSampler.

    Their values are those of the latest trial; before the first there are none.
    """
    missing = codec.distributions.keys() - search_space.keys()
    for trial in reversed(trials) if missing else ():
        if fixed := {name: trial.params[name] for name in missing if name in trial.params}:
            return fixed
    return {}


def _without(trials: list[FrozenTrial], number: int) -> list[FrozenTrial]:
    """All trials but one, whose index in an unfiltered study is its number."""
    if number < len(trials) and trials[number].number == number:
        return trials[:number] + trials[number + 1 :]
    return [trial for trial in trials if trial.number != number]
