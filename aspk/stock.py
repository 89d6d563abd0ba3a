"""Optuna's own command line on aspk's studies: its samplers, its search spaces, its trials."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import distribution_to_json

from aspk.files import write_atomically
from aspk.samplers import (
    EvolutionarySampler,
    GenotypeSampler,
    NSGA2Sampler,
    SurrogateSampler,
    gene_distribution,
)
from aspk.space import SearchSpace
from aspk.space_file import load_space

SAMPLERS: Mapping[str, type[GenotypeSampler]] = {
    kind.__name__: kind for kind in (EvolutionarySampler, NSGA2Sampler, SurrogateSampler)
}


def run_optuna(arguments: Sequence[str]) -> int:
    """``optuna ARGUMENTS``, with aspk's samplers known to ``optuna ask --sampler``.

    In ``--sampler-kwargs``, ``space`` is a search-space file or the name of a shipped one.

    Returns:
        Optuna's exit code.
    """
    from optuna.cli import main  # noqa: PLC0415 - loads what no other command needs

    with _samplers_known(), _command_line(["optuna", *arguments]):
        return main()


@contextmanager
def _samplers_known() -> Iterator[None]:
    """Optuna looks a sampler up by name among its own: ours stand there while its command runs."""
    for name, kind in SAMPLERS.items():
        setattr(optuna.samplers, name, _from_json(kind))
    try:
        yield
    finally:
        for name in SAMPLERS:
            delattr(optuna.samplers, name)


@contextmanager
def _command_line(arguments: list[str]) -> Iterator[None]:
    """Optuna reads the process's own command line."""
    before, sys.argv = sys.argv, arguments
    try:
        yield
    finally:
        sys.argv = before


def _from_json(kind: type[GenotypeSampler]) -> Callable[..., GenotypeSampler]:
    def make(*, space: str | None = None, **options: Any) -> GenotypeSampler:  # noqa: ANN401 - JSON values
        return kind(space=None if space is None else load_space(space), **options)

    return make


def optuna_search_space(space: SearchSpace) -> dict[str, Any]:
    """A search space as ``optuna ask --search-space`` reads it: all genes, those of every block.

    A trial asked for with it shows inactive genes as well; they change nothing.
    """
    return {gene.parameter: json.loads(distribution_to_json(gene_distribution(gene))) for gene in space.genes}


def write_search_space(space: SearchSpace, file: str) -> None:
    """Write :func:`optuna_search_space` as one line of JSON; ``-`` prints it."""
    text = json.dumps(optuna_search_space(space)) + "\n"
    if file == "-":
        print(text, end="")
    else:
        write_atomically(Path(file), text)
