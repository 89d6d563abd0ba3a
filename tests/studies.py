"""Synthetic studies in memory: what a search leaves behind, without a search."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial
from spaces import FIXED

from aspk.costs import cost
from aspk.energy import energy_mj
from aspk.metrics import LayerCount, Metrics
from aspk.objectives import OBJECTIVES
from aspk.space.genes import SubnetConfig
from aspk.trials import attributes

DEAD, SATURATED = "stem.1", "blocks.0.fc1"


def counted(network: SubnetConfig, rng: np.random.Generator) -> tuple[LayerCount, ...]:
    """A network's layers with random firing rates; one dead and one saturated site."""
    layers = []
    for shape in cost.layer_shapes(network, FIXED.settings, (1, 8, 8), 10):
        rate = {DEAD: 0.0, SATURATED: 0.95}.get(shape.name, rng.uniform(0.05, 0.3))
        layers.append(
            LayerCount(
                **asdict(shape),
                input_sums=tuple((rng.uniform(0.05, 0.4, shape.repeats) * shape.input_size).tolist()),
                exact_operations=0.2 * shape.operations * shape.repeats,
                output_spikes=float(rate * shape.output_size * shape.repeats),
            )
        )
    return tuple(layers)


def measured(network: SubnetConfig, rng: np.random.Generator) -> Metrics:
    layers = counted(network, rng)
    size = network.embed_dim * network.depth * network.time_steps / (64 * 2 * 4)
    return Metrics(
        accuracy=float(np.clip(0.97 - 0.25 * np.exp(-6 * size) - 0.1 * rng.random(), 0.0, 1.0)),
        energy_mj=energy_mj(layers),
        parameters=cost.parameters(layers),
        operations=cost.operations(layers),
        spikes=sum(layer.output_spikes for layer in layers),
        firing_rate=0.2,
        layers=layers,
    )


def made_study(
    count: int = 40,
    *,
    objectives: tuple[str, ...] = ("accuracy", "energy"),
    name: str = "digits-tiny",
    sampler: str = "evolutionary",
    seed: int = 0,
    budget_mj: float | None = None,
    anchors: bool = True,
) -> optuna.Study:
    """A study as aspk writes it, with random networks of the fixed space."""
    rng = np.random.default_rng(seed)
    directions = [OBJECTIVES[name].direction for name in objectives]
    study = optuna.create_study(study_name=name, directions=directions)
    study.set_metric_names(list(objectives))
    reference = measured(FIXED.reference, rng)
    box = {"accuracy": [1.0, 0.1]} | {
        name: [0.0, OBJECTIVES[name](reference)] for name in objectives if name != "accuracy"
    }
    study.set_user_attr(
        attributes.SPEC,
        {
            "name": name,
            "space": "fixed",
            "objectives": list(objectives),
            "sampler": {"name": sampler, "population": 20},
            "evaluations": count,
            "seed": seed,
        },
    )
    study.set_user_attr(attributes.SPACE, FIXED.to_json())
    study.set_user_attr(
        attributes.CONTEXT,
        {
            "classes": 10,
            "reference": reference.scalars(),
            "faeb": {"form": "product", "weight": None, "floor": 1e-3},
            "versions": {"aspk": "0.1.0", "optuna": optuna.__version__},
            **({"anchors": box} if anchors else {}),
        },
    )
    for x in FIXED.sample_choices(count, rng):
        metrics = measured(FIXED.decode(x), rng)
        excess = None if budget_mj is None else {"energy": metrics.energy_mj / budget_mj - 1}
        parameters = FIXED.parameters(x)
        study.add_trial(
            create_trial(
                values=[OBJECTIVES[name](metrics) for name in objectives],
                params=parameters,
                distributions={
                    gene.parameter: optuna.distributions.CategoricalDistribution(gene.choices)
                    for gene in FIXED.genes
                    if gene.parameter in parameters
                },
                user_attrs=attributes.metrics_to_attributes(metrics),
                constraints=excess,
            )
        )
    return study


def add_unfinished(study: optuna.Study) -> None:
    """One trial in each other state."""
    for state in (TrialState.FAIL, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING):
        study.add_trial(create_trial(state=state, user_attrs={attributes.FAILURE: "out of memory"}))


def strangers_study(values: list[tuple[float, ...]], *directions: str) -> optuna.Study:
    """A study without a word of aspk in it."""
    study = optuna.create_study(directions=directions)
    for row in values:
        study.add_trial(create_trial(values=row))
    return study
