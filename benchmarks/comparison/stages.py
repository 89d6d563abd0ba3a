"""The stages of a comparison. Each resumes where it was killed; the log says what is done."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from optuna.trial import TrialState

from aspk.data import load_data
from aspk.engines.device import resolve_device
from aspk.errors import StudyError
from aspk.space.genes import SubnetConfig
from aspk.spec.settings import Recipe
from aspk.spec.study import StudySpec, refined
from aspk.standalone.job import Job, trainings
from aspk.standalone.refining import TrainingEvaluator, refine
from aspk.study import load_problem, run_study
from aspk.study.storage import open_study
from aspk.training import train_supernet
from aspk.util.files import safe_name
from aspk.util.records import fingerprint
from benchmarks.comparison.choice import choose, name_networks, named
from benchmarks.comparison.log import Log
from benchmarks.comparison.plan import Family, Plan


class Training(NamedTuple):
    """A training to be done: where it belongs, and the job."""

    family: str
    network: str
    job: Job


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A comparison that is being run.

    Attributes:
        plan: the comparison.
        log: its trainings so far.
        classes: number of classes.
        shape: channels, height and width of an image.
        device: where networks are trained.
        workers: networks trained side by side.
        progress: whether to show progress bars.
    """

    plan: Plan
    log: Log
    classes: int
    shape: tuple[int, int, int]
    device: str
    workers: int
    progress: bool

    @staticmethod
    def of(plan: Plan, *, device: str = "cpu", workers: int = 1, progress: bool = True) -> Bench:
        """Load the data, which the log must belong to."""
        data = load_data(plan.families[0].spec.data)
        about = {"images": plan.images, "data": data.fingerprint(), "recipe": _shared(plan).to_json()}
        return Bench(
            plan=plan,
            log=Log(plan, about),
            classes=data.classes,
            shape=data.shape,
            device=device,
            workers=workers,
            progress=progress,
        )

    def family(self, name: str) -> Family:
        """The family of this name.

        Raises:
            StudyError: there is none.
        """
        families = {family.name: family for family in self.plan.families}
        if name not in families:
            raise StudyError(f"{self.plan.name} has no family {name!r}: expected {', '.join(families)}")
        return families[name]

    def spec(self, family: Family, recipe: Recipe) -> StudySpec:
        """A family's study, in the comparison's folder."""
        plan, name = self.plan, f"{self.plan.name}-{family.name}"
        folder = plan.folder / safe_name(family.name)
        return replace(family.spec, name=name, folder=folder, weights=None, storage=None, retrain=recipe)

    def job(
        self,
        stage: str,
        family: Family,
        config: SubnetConfig,
        recipe: Recipe,
        seed: int,
        *,
        test: bool = False,
    ) -> Job:
        """A training from scratch."""
        digest, rate = fingerprint(config.to_json())[:12], f"{recipe.updates}-{recipe.learning_rate:g}"
        return Job(
            name=safe_name(f"{family.name}-{digest}-{rate}-seed-{seed}"),
            folder=self.plan.folder / safe_name(stage),
            space=family.space,
            config=config,
            data=family.spec.data,
            recipe=recipe,
            seed=seed,
            evaluation=family.spec.evaluation,
            energy=family.spec.energy,
            device=self.device,
            test=test,
        )

    def train(self, stage: str, wanted: Sequence[Training]) -> bool:
        """Do the trainings that the log lacks; False if the user interrupted.

        Raises:
            StudyError: the budget is spent.
        """
        missing = self.missing(stage, wanted)
        if missing:
            self.check_budget(f"{len(missing)} trainings of {stage!r}")
        found = trainings(
            [one.job for one in missing], workers=self.workers, threads=1, progress=self.progress
        )
        done = 0
        for place, result in found:
            if result is None:
                return False
            self.log.add(stage, *missing[place], result)
            done += 1
            if done < len(missing):
                self.check_budget(f"{len(missing) - done} trainings of {stage!r}")
        return done == len(missing)

    def missing(self, stage: str, wanted: Sequence[Training]) -> list[Training]:
        """The trainings that the log lacks."""
        return [one for one in wanted if not self.log.has(stage, *one)]

    def check_budget(self, ahead: str) -> None:
        """Refuse to begin anything once the processor time is spent.

        Raises:
            StudyError: it is.
        """
        self.log.read()
        spent = self.log.core_hours()
        if spent >= self.plan.core_hours:
            raise StudyError(
                f"{spent:.2f} of {self.plan.core_hours:g} core-hours are spent, and {ahead} are ahead: what "
                "is done is in the log; a larger core_hours in the plan goes on"
            )


def _shared(plan: Plan) -> Recipe:
    """The recipe of all families, before its rate is tuned.

    Raises:
        StudyError: the studies have different ones, or different images.
    """
    if len({repr(family.spec.data) for family in plan.families}) > 1:
        raise StudyError(
            "[data] differs between the studies of the families: expected the same images for all"
        )
    recipes = [family.spec.retrain for family in plan.families]
    if any(recipe != recipes[0] for recipe in recipes):
        raise StudyError("[retrain] differs between the studies of the families: expected one recipe for all")
    return recipes[0]


def run_stages(bench: Bench) -> bool:
    """Run all stages in order; False if the user interrupted.

    Raises:
        StudyError: the budget is spent, or the named networks have to be committed first.
    """
    if not tune(bench):
        return False
    recipe = tuned(bench)
    if not enough(bench, recipe):
        return False
    if not all(search(bench, family, recipe) for family in bench.plan.families):
        return False
    name_networks(bench.plan, found_networks(bench))
    return final(bench, recipe)


def run_searches(bench: Bench, name: str) -> bool:
    """Run the searches of one family only, beside a process for another; False if the user interrupted.

    Raises:
        StudyError: there is no such family, the budget is spent, or the recipe is not settled yet.
    """
    family = bench.family(name)
    if bench.missing("tuning", tunings(bench)) or bench.missing("enough", doublings(bench, tuned(bench))):
        raise StudyError(
            f"the searches of {name} need a recipe: expected all trainings of hand-made networks in "
            f"{bench.plan.records}; run the command without --family until they are there"
        )
    return search(bench, family, tuned(bench))


def search(bench: Bench, family: Family, recipe: Recipe) -> bool:
    """Search a family on both levels, and at random for the same cost; False if the user interrupted."""
    return all(stage(bench, family, recipe) for stage in (level_one, level_two, at_random))


# ---------------------------------------------------------------------- the recipe, on hand-made networks


def tune(bench: Bench) -> bool:
    """Train the hand-made networks at each learning rate."""
    return bench.train("tuning", tunings(bench))


def tunings(bench: Bench) -> list[Training]:
    """The hand-made networks at each learning rate."""
    plan, recipe = bench.plan, _shared(bench.plan)
    return [
        Training(own.name, name, bench.job("tuning", own, config, replace(recipe, learning_rate=rate), seed))
        for rate in plan.learning_rates
        for name, (own, config) in plan.hand_made.items()
        for seed in plan.tuning_seeds
    ]


def tuned(bench: Bench) -> Recipe:
    """The recipe with the rate of the best mean accuracy on ``search`` over the hand-made networks."""
    accuracies: dict[float, list[float]] = {}
    for row in bench.log.rows("tuning"):
        accuracies.setdefault(row["learning_rate"], []).append(row["search"])
    best = max(accuracies, key=lambda rate: float(np.mean(accuracies[rate])))
    return replace(_shared(bench.plan), learning_rate=best)


def enough(bench: Bench, recipe: Recipe) -> bool:
    """Train the hand-made networks with the recipe's updates and with twice as many."""
    return bench.train("enough", doublings(bench, recipe))


def doublings(bench: Bench, recipe: Recipe) -> list[Training]:
    """The hand-made networks with the recipe's updates and with twice as many."""
    plan = bench.plan
    return [
        Training(own.name, name, bench.job("enough", own, config, longer, seed))
        for longer in (recipe, replace(recipe, updates=2 * recipe.updates))
        for name, (own, config) in plan.hand_made.items()
        for seed in plan.enough_seeds
    ]


# ---------------------------------------------------------------------- the searches


def level_one(bench: Bench, family: Family, recipe: Recipe) -> bool:
    """Train the family's supernet and search it."""
    spec, finished = (
        bench.spec(family, recipe),
        [row["network"] for row in bench.log.rows("level one", family.name)],
    )
    if "end" in finished:
        return True
    bench.check_budget(f"the supernet of {family.name}")
    device = resolve_device(bench.device)
    with bench_clock(bench, family, "train"):
        result = train_supernet(
            family.space,
            load_data(spec.data),
            spec.train,
            folder=spec.folder,
            seed=spec.seed,
            device=device,
            progress=bench.progress,
        )
    if result.weights is None:
        return False
    with bench_clock(bench, family, "search"):
        searched = run_study(spec, load_problem(spec, bench.device), progress=bench.progress)
    if searched.finished:
        bench.log.add_cost(family.name, "end", 0.0, 0.0)
    return searched.finished


@contextmanager
def bench_clock(bench: Bench, family: Family, piece: str) -> Iterator[None]:
    """Add what a piece of level one takes to the log."""
    started = (time.perf_counter(), time.process_time())
    yield
    spent = (time.perf_counter() - started[0], time.process_time() - started[1])
    bench.log.add_cost(family.name, piece, *spent)


def level_two(bench: Bench, family: Family, recipe: Recipe) -> bool:
    """``aspk refine``: train the most informative networks of the family, a few at a time."""
    spec = bench.spec(family, recipe)
    evaluator = TrainingEvaluator(spec, test=False, device=bench.device)
    while (done := len(bench.log.rows("refine", family.name))) < family.trainings:
        bench.check_budget(f"{family.trainings - done} trainings of 'refine' of {family.name}")
        result = refine(
            spec,
            trainings=min(family.trainings, max(2, done + bench.workers)),
            workers=bench.workers,
            test=False,
            stop=False,  # so that the log has the cost of every training
            device=bench.device,
            progress=bench.progress,
        )
        if result is None or not result.finished:
            return False
        trials = open_study(refined(spec)).get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        for trial in trials:
            config = family.space.decode(family.space.from_parameters(trial.params))
            job = evaluator.job(config)
            if (trained := job.result()) is not None:
                bench.log.add("refine", family.name, name_of(bench, family, config), job, trained)
        if len(bench.log.rows("refine", family.name)) <= done:
            raise StudyError(
                f"{refined(spec).name}: no training was added; its records are not in {spec.folder}"
            )
    return True


def at_random(bench: Bench, family: Family, recipe: Recipe) -> bool:
    """Train random networks of the family until they have cost what its search has cost, both levels."""
    space, spec = family.space, bench.spec(family, recipe)
    limit = bench.log.core_hours("level one", "refine", family=family.name)
    rng = np.random.default_rng([spec.seed, 1])
    seen: list[SubnetConfig] = []
    while True:
        chunk: list[Training] = []
        while len(chunk) < bench.workers and len(seen) < space.size:
            config = space.decode(space.sample_choices(1, rng)[0])
            if config not in seen:
                seen.append(config)
                job = bench.job("random", family, config, recipe, spec.seed)
                chunk.append(Training(family.name, name_of(bench, family, config), job))
        known = all(bench.log.has("random", *one) for one in chunk)
        if not chunk or (not known and bench.log.core_hours("random", family=family.name) >= limit):
            return True
        if not bench.train("random", chunk):
            return False


def name_of(bench: Bench, family: Family, config: SubnetConfig) -> str:
    """The name of a hand-made network of the family, or a network's genes as text."""
    known = {config: name for name, (own, config) in bench.plan.hand_made.items() if own.name == family.name}
    return known.get(config) or json.dumps(config.to_json(), sort_keys=True)


# ---------------------------------------------------------------------- the main comparison


def found_networks(bench: Bench) -> dict[str, Mapping[str, Any]]:
    """The found networks by what they are chosen as, among all families' trainings."""
    hand_made = set(bench.plan.hand_made)
    first = next(iter(bench.plan.hand_made))
    rows = bench.log.rows("refine")
    (reference,) = (row for row in rows if row["network"] == first)
    candidates = [row for row in rows if row["network"] not in hand_made]
    return choose(candidates, reference, classes=bench.classes)


def final_networks(bench: Bench) -> dict[str, tuple[Family, SubnetConfig, list[str]]]:
    """Hand-made and named networks by name; one that was chosen twice has both roles, and is there once.

    Raises:
        StudyError: the names have not been committed.
    """
    families = {family.name: family for family in bench.plan.families}
    chosen: dict[str, tuple[Family, SubnetConfig, list[str]]] = {
        name: (own, config, [name]) for name, (own, config) in bench.plan.hand_made.items()
    }
    for role, row in named(bench.plan).items():
        family, config = families[row["family"]], SubnetConfig.from_json(row["config"])
        same = [item for item in chosen.values() if item[0] is family and item[1] == config]
        if same:
            same[0][2].append(role)
        else:
            chosen[f"found {role}"] = (family, config, [role])
    return chosen


def final(bench: Bench, recipe: Recipe) -> bool:
    """Train the networks of the main comparison with fresh seeds; this reads ``test``."""
    networks = final_networks(bench)
    return bench.train(
        "final",
        [
            Training(family.name, name, bench.job("final", family, config, recipe, seed, test=True))
            for seed in bench.plan.final_seeds
            for name, (family, config, _) in networks.items()
        ],
    )
