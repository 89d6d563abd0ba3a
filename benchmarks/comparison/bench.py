"""A comparison that is being run: its jobs, its trainings, its budget."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from aspk.data import load_data
from aspk.errors import StudyError
from aspk.space.genes import SubnetConfig
from aspk.spec.settings import Recipe
from aspk.spec.study import StudySpec
from aspk.standalone.job import Job, trainings
from aspk.util.files import safe_name
from aspk.util.records import fingerprint
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
        about = {"images": plan.images, "data": data.fingerprint(), "recipe": shared_recipe(plan).to_json()}
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


def shared_recipe(plan: Plan) -> Recipe:
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


def name_of(bench: Bench, family: Family, config: SubnetConfig) -> str:
    """The name of a hand-made network of the family, or a network's genes as text."""
    known = {config: name for name, (own, config) in bench.plan.hand_made.items() if own.name == family.name}
    return known.get(config) or json.dumps(config.to_json(), sort_keys=True)
