"""How each choice of each gene changes the networks of a trained supernet.

Random networks of the study's space get each choice of a gene in turn, in all blocks, and keep their other
genes. For each choice it prints the networks' mean inherited accuracy, its difference to that of the
reference's choice with the standard error of the paired differences, and the networks' mean costs.

    python benchmarks/genes.py STUDY [--networks 16] [--genes stem_convs,neuron] [--device auto] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from aspk.errors import EvaluationError
from aspk.evaluation import evaluate_all
from aspk.metrics import Metrics
from aspk.space import SearchSpace
from aspk.space.genes import GENES, Value
from aspk.spec.study import load_study_file
from aspk.study import evaluator_of


@dataclass(frozen=True)
class Row:
    """One choice of a gene, as means over the networks; costs are means, too.

    Attributes:
        gene: its name.
        choice: the choice.
        accuracy: inherited accuracy.
        difference: to the reference's choice.
        error: standard error of the difference.
        operations: dense operations.
        energy_mj: energy of an image.
    """

    gene: str
    choice: Value
    accuracy: float
    difference: float
    error: float
    operations: float
    energy_mj: float


def rows_of(space: SearchSpace, X: np.ndarray, gene: str, choice: int) -> np.ndarray:
    """Genotypes with this choice of a gene wherever the gene occurs."""
    columns = [column for column, one in enumerate(space.genes) if one.name == gene]
    changed = X.copy()
    changed[:, columns] = choice
    return changed


def table(space: SearchSpace, evaluator: object, X: np.ndarray, genes: list[str]) -> list[Row]:
    """The rows of some genes."""
    choices = {gene: {**space.network, **space.block}[gene] for gene in genes}
    networks = {
        (gene, choice): [space.decode(x) for x in rows_of(space, X, gene, index)]
        for gene, options in choices.items()
        for index, choice in enumerate(options)
    }
    found = dict.fromkeys(config for configs in networks.values() for config in configs)
    results = evaluate_all(evaluator, list(found))  # type: ignore[arg-type]  # an evaluator
    metrics: dict[object, Metrics] = {}
    for config, result in zip(found, results, strict=True):
        if isinstance(result, EvaluationError):
            raise result
        metrics[config] = result
    table = []
    for (gene, choice), configs in networks.items():
        reference = space.reference.blocks[0] if GENES[gene].per_block else space.reference
        usual = networks[gene, getattr(reference, gene)]
        accuracies = np.array([metrics[config].accuracy for config in configs])
        differences = accuracies - [metrics[config].accuracy for config in usual]
        table.append(
            Row(
                gene,
                choice,
                float(accuracies.mean()),
                float(differences.mean()),
                float(differences.std(ddof=1) / np.sqrt(len(differences))),
                float(np.mean([metrics[config].operations for config in configs])),
                float(np.mean([metrics[config].energy_mj for config in configs])),
            )
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study")
    parser.add_argument("--networks", type=int, default=16)
    parser.add_argument("--genes", help="names with commas between them; all that have a choice otherwise")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    evaluator, _ = evaluator_of(load_study_file(options.study), options.device)
    space = evaluator.supernet.space
    free = [name for name, choices in {**space.network, **space.block}.items() if len(choices) > 1]
    X = space.sample_choices(options.networks, np.random.default_rng(0))
    print(f"{len(X)} networks   accuracy   difference          operations      energy, mJ")
    rows = table(space, evaluator, X, options.genes.split(",") if options.genes else free)
    for row in rows:
        print(
            f"{row.gene:16} {row.choice!s:>6} {row.accuracy:.4f} {row.difference:+.4f} ± {row.error:.4f} "
            f"{row.operations:15,.0f} {row.energy_mj:12.4g}"
        )
    if options.json:
        lines = ",\n".join(json.dumps(asdict(row)) for row in rows)
        options.json.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
