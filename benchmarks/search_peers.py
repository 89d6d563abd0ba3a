"""Peers that are not among aspk's requirements, as methods of ``search_methods``.

Their packages go into an environment of their own (``requirements-peers.txt``); each is imported when its
method runs, so that this file needs none of them. Genes with one choice are left out. Every peer is told the
objectives to minimise, and neither their true range nor a reference point.

AutoSampler follows the rule of Optuna's own (https://hub.optuna.org/samplers/auto_sampler/, as of Optuna 4.5;
package/samplers/auto_sampler of optunahub-registry). For two or three objectives: random values for the first
trial, GPSampler while fewer than 250 trials are complete, TPESampler (multivariate, with a constant liar)
until there are 1,000, and NSGAIISampler from then on; with a categorical parameter, or parameters that not
all trials have, TPESampler in place of GPSampler. The samplers are Optuna's; this only chooses between them.
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from search_methods import ABLATION, Ledger, Method, optunas

from aspk.space import Gene

Encoding = Literal["integer", "ordered", "unordered"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
REQUIREMENTS = Path(__file__).with_name("requirements-peers.txt")
PACKAGES = {"Ax": ("ax", "botorch"), "SMAC3": ("smac", "ConfigSpace"), "syne-tune": ("syne_tune",)}


class MissingPeerError(ImportError):
    """A peer's package is not installed."""


def required(names: Iterable[str]) -> None:
    """See that the packages of methods are installed.

    Raises:
        MissingPeerError: one is not.
    """
    missing = {
        package: name
        for name in names
        for peer, packages in PACKAGES.items()
        if name.startswith(peer)
        for package in packages
        if importlib.util.find_spec(package) is None
    }
    if missing:
        wanted = ", ".join(f"{package} (for {name!r})" for package, name in missing.items())
        raise MissingPeerError(
            f"not installed: {wanted}; the peers need an environment of their own: python -m venv peers && "
            f"peers/bin/pip install -r {REQUIREMENTS} -e {REQUIREMENTS.parent.parent}, then run this with "
            "peers/bin/python"
        )


def _free(ledger: Ledger) -> dict[str, tuple[int, Gene]]:
    """The genes that have a choice by the name of their parameter, with their places."""
    genes = enumerate(ledger.problem.space.genes)
    return {f"g{place}": (place, gene) for place, gene in genes if len(gene.choices) > 1}


def _answer(ledger: Ledger, indices: Mapping[str, Any]) -> list[float]:
    """Values of the network of these parameters."""
    x = np.zeros(len(ledger.problem.space.genes), dtype=np.int64)
    for name, (place, _) in _free(ledger).items():
        x[place] = int(indices[name])
    return [float(value) for value in ledger(x[None])[0]]


def ax(encoding: Encoding) -> Method:
    """Ax's Bayesian optimisation with its own choices: with several objectives BoTorch's qLogNEHVI."""

    def method(ledger: Ledger, seed: int) -> None:
        required(["Ax"])
        from ax.api.client import Client
        from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

        logging.getLogger("ax").setLevel(logging.ERROR)
        parameters: list[Any] = []
        for name, (_, gene) in _free(ledger).items():
            count = len(gene.choices)
            if encoding == "integer":
                parameters.append(
                    RangeParameterConfig(name=name, bounds=(0, count - 1), parameter_type="int")
                )
            else:
                ordered = encoding == "ordered"
                parameters.append(
                    ChoiceParameterConfig(
                        name=name, values=list(range(count)), parameter_type="int", is_ordered=ordered
                    )
                )
        names = [f"f{i}" for i in range(ledger.problem.count)]
        client = Client(random_seed=seed)
        client.configure_experiment(parameters=parameters)
        client.configure_optimization(objective=", ".join(f"-{name}" for name in names))
        client.configure_generation_strategy(initialization_random_seed=seed)
        while True:
            for number, chosen in client.get_next_trials(max_trials=1).items():
                values = _answer(ledger, chosen)
                client.complete_trial(number, raw_data=dict(zip(names, values, strict=True)))

    return method


def smac(encoding: Encoding) -> Method:
    """SMAC3's BlackBox facade, which fits a Gaussian process for each suggestion, with ParEGO."""

    def method(ledger: Ledger, seed: int) -> None:
        required(["SMAC3"])
        import ConfigSpace
        from smac import BlackBoxFacade, Scenario
        from smac.multi_objective.parego import ParEGO
        from smac.runhistory.dataclasses import TrialValue

        logging.getLogger("smac").setLevel(logging.ERROR)
        space = ConfigSpace.ConfigurationSpace(seed=seed)
        for name, (_, gene) in _free(ledger).items():
            count = len(gene.choices)
            if encoding == "integer":
                space.add(ConfigSpace.UniformIntegerHyperparameter(name, 0, count - 1))
            elif encoding == "ordered":
                space.add(ConfigSpace.OrdinalHyperparameter(name, list(range(count))))
            else:
                space.add(ConfigSpace.CategoricalHyperparameter(name, list(range(count))))
        with tempfile.TemporaryDirectory() as folder:
            scenario = Scenario(
                space,
                objectives=[f"f{i}" for i in range(ledger.problem.count)],
                deterministic=True,
                n_trials=ledger.budget,  # a quarter of them are the first design
                output_directory=Path(folder),
                seed=seed,
            )
            optimiser = BlackBoxFacade(
                scenario,
                lambda config, seed=0: 0.0,  # is never called: values are told
                multi_objective_algorithm=ParEGO(scenario),
                config_selector=BlackBoxFacade.get_config_selector(scenario, retrain_after=1),
                logging_level=False,
                overwrite=True,
            )
            while True:
                info = optimiser.ask()
                optimiser.tell(info, TrialValue(cost=_answer(ledger, info.config)), save=False)

    return method


def morea(encoding: Encoding, population_size: int = 50) -> Method:
    """syne-tune's multi-objective regularised evolution.

    It draws its first population from numpy's global generator; here the same is drawn with the seed.
    """

    def method(ledger: Ledger, seed: int) -> None:
        required(["syne-tune"])
        from syne_tune import config_space
        from syne_tune.optimizer.schedulers.multiobjective import MultiObjectiveRegularizedEvolution

        space = {}
        for name, (_, gene) in _free(ledger).items():
            choices = list(range(len(gene.choices)))
            if encoding == "integer":
                space[name] = config_space.randint(0, choices[-1])
            elif encoding == "ordered":
                space[name] = config_space.ordinal(choices, kind="nn")
            else:
                space[name] = config_space.choice(choices)
        rng = np.random.RandomState(seed)
        first = [
            {name: domain.sample(random_state=rng) for name, domain in space.items()}
            for _ in range(population_size)
        ]
        searcher = MultiObjectiveRegularizedEvolution(
            space,
            points_to_evaluate=first,
            population_size=population_size,
            sample_size=max(2, population_size // 10),
            random_seed=seed,
        )
        for number in itertools.count():
            config = searcher.suggest()
            searcher.on_trial_complete(number, config, _answer(ledger, config))

    return method


class AutoSampler(BaseSampler):
    """The rule of Optuna's AutoSampler for two or three objectives without constraints."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._sampler: BaseSampler = optuna.samplers.RandomSampler(seed=self._drawn())

    def _drawn(self) -> int:
        return int(self._rng.integers(2**31 - 1))

    def _chosen(self, study: Study) -> type[BaseSampler]:
        complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            return optuna.samplers.RandomSampler
        names = {frozenset(trial.params) for trial in complete}
        kinds = complete[0].distributions.values()
        if len(complete) >= 1000:  # the rule's own
            return optuna.samplers.NSGAIISampler
        few = len(complete) < 250  # the rule's own
        if few and len(names) == 1 and not any(isinstance(kind, CategoricalDistribution) for kind in kinds):
            return optuna.samplers.GPSampler
        return optuna.samplers.TPESampler

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Choose the sampler of this trial."""
        chosen = self._chosen(study)
        if type(self._sampler) is not chosen:
            tpe = {"multivariate": True, "constant_liar": True}
            own = tpe if chosen is optuna.samplers.TPESampler else {}
            self._sampler = chosen(seed=self._drawn(), **own)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The chosen sampler's."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The chosen sampler's."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401  # Optuna's own
        """The chosen sampler's."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """The chosen sampler's."""
        self._sampler.after_trial(study, trial, state, values)


WITHOUT_PRIORS = {"aspk surrogate, no transfer priors": ABLATION["without transfer priors"]}
PEERS: dict[str, Method] = {
    "Ax qLogNEHVI": ax("ordered"),
    "SMAC3 ParEGO": smac("integer"),
    "syne-tune MO-REA": morea("integer"),
    "Optuna AutoSampler": optunas(AutoSampler, "index"),
}
PEER_ENCODINGS: dict[str, Method] = {
    **{f"Ax qLogNEHVI, {kind}": ax(kind) for kind in ENCODINGS},
    **{f"SMAC3 ParEGO, {kind}": smac(kind) for kind in ENCODINGS},
    "Optuna AutoSampler, index": optunas(AutoSampler, "index"),
    "Optuna AutoSampler, categorical": optunas(AutoSampler, "categorical"),
    **{f"syne-tune MO-REA, {kind}, population 20": morea(kind, 20) for kind in ENCODINGS},
    "syne-tune MO-REA, integer, population 50": morea("integer", 50),
}
