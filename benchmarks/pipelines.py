"""A study of scikit-learn pipelines with a choice of models, tabulated once: 3-fold error, size and features.

python benchmarks/pipelines.py --write          # evaluates every pipeline, two minutes
python benchmarks/pipelines.py                  # how well samplers search them
python benchmarks/pipelines.py --objectives 3
python benchmarks/pipelines.py --constraint     # at most 4 % of the malignant cases missed
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import Trial
from ordinary import SAMPLERS

from aspk.util.files import write_atomically
from aspk.util.pareto import hypervolume, nondominated

RECORD = Path(__file__).parent / "records" / "pipelines.json"
AT = (10, 20, 40)
MISSED = 0.04  # of the malignant cases, at most
OBJECTIVES = ("error", "size", "features")
# Each model's own parameters, as (name, lowest, highest, step) of whole numbers.
MODELS: Mapping[str, tuple[tuple[str, int, int, int], ...]] = {
    "logistic": (("log_C", -4, 4, 1),),
    "neighbours": (("k", 1, 31, 3), ("by_distance", 0, 1, 1)),
    "vectors": (("log_C", -2, 3, 1), ("log_gamma", -5, 0, 1)),
    "tree": (("depth", 1, 8, 1), ("log_leaf", 0, 4, 1)),
}
FEATURES = (4, 10, 30)
Row = dict[str, Any]


def all_pipelines() -> Iterator[Row]:
    """The parameters of every pipeline."""
    for scale, features, (model, own) in itertools.product((False, True), FEATURES, MODELS.items()):
        for values in itertools.product(*(range(low, high + 1, step) for _, low, high, step in own)):
            names = (name for name, *_ in own)
            yield {
                "scale": scale,
                "features": features,
                "model": model,
                **dict(zip(names, values, strict=True)),
            }


def name_of(pipeline: Row) -> str:
    """The key of a pipeline's row."""
    return json.dumps(pipeline, sort_keys=True)


def suggested(trial: Trial) -> Row:
    """The pipeline of a trial, whose models have parameters of their own."""
    model = trial.suggest_categorical("model", list(MODELS))
    own = {
        name: trial.suggest_int(f"{model}_{name}", low, high, step=step)
        for name, low, high, step in MODELS[model]
    }
    scale = trial.suggest_categorical("scale", [False, True])
    features = trial.suggest_categorical("features", list(FEATURES))
    return {"scale": scale, "features": features, "model": model, **own}


def evaluated(pipeline: Row) -> dict[str, float]:
    """Error and missed malignant cases in 3-fold cross-validation, and the numbers that the model keeps."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.feature_selection import SelectKBest
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = load_breast_cancer(return_X_y=True)
    steps = [StandardScaler()] if pipeline["scale"] else []
    machine = make_pipeline(*steps, SelectKBest(k=pipeline["features"]), _model(pipeline))
    wrong = missed = 0
    for train, test in StratifiedKFold(3, shuffle=True, random_state=0).split(X, y):
        machine.fit(X[train], y[train])
        error = machine.predict(X[test]) != y[test]
        wrong, missed = wrong + int(error.sum()), missed + int(error[y[test] == 0].sum())
    return {"error": wrong / len(y), "missed": missed / int((y == 0).sum()), "size": _size(machine[-1])}


def _model(pipeline: Row) -> Any:  # noqa: ANN401  # scikit-learn has no types
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC
    from sklearn.tree import DecisionTreeClassifier

    match pipeline["model"]:
        case "logistic":
            return LogisticRegression(C=10.0 ** pipeline["log_C"], max_iter=300)
        case "neighbours":
            weights = "distance" if pipeline["by_distance"] else "uniform"
            return KNeighborsClassifier(pipeline["k"], weights=weights)
        case "vectors":
            return SVC(C=10.0 ** pipeline["log_C"], gamma=10.0 ** pipeline["log_gamma"])
    return DecisionTreeClassifier(
        max_depth=pipeline["depth"], min_samples_leaf=2 ** pipeline["log_leaf"], random_state=0
    )


def _size(model: Any) -> int:  # noqa: ANN401  # scikit-learn has no types
    """How many numbers a fitted model keeps."""
    match type(model).__name__:
        case "LogisticRegression":
            return int(model.coef_.size + model.intercept_.size)
        case "KNeighborsClassifier":
            return int(model.n_samples_fit_ * (model.n_features_in_ + 1))
        case "SVC":
            return int(model.support_vectors_.size + model.dual_coef_.size + model.intercept_.size)
    return int(3 * model.tree_.node_count)


def write() -> None:
    """Evaluate every pipeline and write the table."""
    warnings.simplefilter("ignore")  # of a regression that has not converged: its error shows that
    rows = {name_of(pipeline): evaluated(pipeline) for pipeline in all_pipelines()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    write_atomically(RECORD, f"{{\n{lines}\n}}\n".encode())


@cache
def table() -> dict[str, dict[str, float]]:
    """Every pipeline's figures, with its number of features among them."""
    rows = json.loads(RECORD.read_text(encoding="utf-8"))
    return {name: {**row, "features": json.loads(name)["features"]} for name, row in rows.items()}


def values(row: Mapping[str, float], objectives: int) -> list[float]:
    """What a trial is told; the logarithm of the size, which ranges over four orders of magnitude."""
    found = [row["error"], float(np.log10(row["size"])), float(row["features"])]
    return found[:objectives]


class Scored:
    """Shares of the hypervolume that is possible.

    Args:
        objectives: two or three of them.
        constrained: whether pipelines that miss too much do not count.
    """

    def __init__(self, objectives: int, *, constrained: bool) -> None:
        self._limit = MISSED if constrained else np.inf
        F = np.array([values(row, objectives) for row in table().values() if row["missed"] <= self._limit])
        front = F[nondominated(F)]
        self._reference = front.max(axis=0) + 0.1 * np.ptp(front, axis=0)
        self._whole = hypervolume(front, self._reference)

    def __call__(self, rows: list[Row], objectives: int) -> float:
        """The share of evaluated rows."""
        kept = [values(row, objectives) for row in rows if row["missed"] <= self._limit]
        return hypervolume(kept, self._reference) / self._whole if kept else 0.0


def searched(sampler: str, seed: int, trials: int, objectives: int, *, constrained: bool) -> list[Row]:
    """The rows that a search evaluates, in order."""
    rows: list[Row] = []
    # Optuna's samplers take constraints as an option.
    own = {"constraints_func": lambda trial: trial.user_attrs["over"]} if constrained else {}
    tpe = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, **own)
    chosen = tpe if sampler == "Optuna TPE" else SAMPLERS[sampler](seed)

    def objective(trial: Trial) -> tuple[float, ...]:
        row = table()[name_of(suggested(trial))]
        rows.append(row)
        if constrained:
            trial.set_user_attr("over", [row["missed"] - MISSED])
            trial.set_constraint("missed", row["missed"] - MISSED)
        return tuple(values(row, objectives))

    study = optuna.create_study(sampler=chosen, directions=["minimize"] * objectives)
    study.optimize(objective, n_trials=trials)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="evaluate every pipeline and write the table")
    parser.add_argument("--objectives", type=int, choices=(2, 3), default=2)
    parser.add_argument("--constraint", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=5000)
    parser.add_argument("--sampler", nargs="+", default=[""], help="whose name has one of these")
    options = parser.parse_args()
    if options.write:
        write()
        return 0
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    warnings.simplefilter("ignore", FutureWarning)
    scored = Scored(options.objectives, constrained=options.constraint)
    for sampler in SAMPLERS:
        if not any(part in sampler for part in options.sampler):
            continue
        shares, start = [], time.process_time()
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            rows = searched(sampler, seed, max(AT), options.objectives, constrained=options.constraint)
            shares.append([scored(rows[:count], options.objectives) for count in AT])
        ms = 1e3 * (time.process_time() - start) / (options.seeds * max(AT))
        low, middle, high = np.quantile(shares, [0.25, 0.5, 0.75], axis=0)
        cells = [
            f"after {n}: {m:.3f} [{a:.3f} {b:.3f}]" for n, a, m, b in zip(AT, low, middle, high, strict=True)
        ]
        print(f"{sampler:17}{'; '.join(cells)}; {ms:.0f} ms", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
