"""Optuna's own command line on aspk's studies: its samplers, its search spaces, its trials."""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, TextIO

import optuna
from optuna.distributions import distribution_to_json

from aspk.errors import StudyError
from aspk.samplers import GenotypeSampler, gene_distribution, sampler_class
from aspk.space import SearchSpace
from aspk.space.file import load_space
from aspk.spec.samplers import SAMPLERS as REGISTERED
from aspk.study.address import check_address, file_of, is_journal
from aspk.study.retry import reason
from aspk.util.files import write_atomically
from aspk.util.passwords import without_password

# Those whose names Optuna has not given to a sampler of its own.
SAMPLERS: Mapping[str, type[GenotypeSampler]] = {
    kind.__name__: kind
    for kind in map(sampler_class, REGISTERED)
    if not hasattr(optuna.samplers, kind.__name__)
}


def run_optuna(arguments: Sequence[str]) -> int:
    """``optuna ARGUMENTS``, with aspk's samplers known to ``optuna ask --sampler``.

    In ``--sampler-kwargs``, ``space`` is a search-space file or the name of a shipped one.

    Returns:
        Optuna's exit code.

    Raises:
        StudyError: Optuna's command failed, or its ``--storage`` is no address of one; the message leaves
            out the password of the storage.
    """
    from optuna.cli import main

    secrets = (*arguments, os.environ.get("OPTUNA_STORAGE", ""))
    address = _address(arguments)
    if address is not None and not address.startswith("redis") and not os.path.isfile(address):
        check_address(address)
        if is_journal(address):
            # Optuna takes "journal:" for a part of the file's name, and cannot tell a journal that is not
            # there yet from a typo. Of an option that is given twice, the last one holds.
            file = str(file_of(address))
            arguments = [*arguments, "--storage", file, "--storage-class", "JournalFileBackend"]
    try:
        with _samplers_known(), _command_line(["optuna", *arguments]), _silent_about(secrets):
            return main() or 0
    except Exception as error:
        failure = _without_passwords(f"{type(error).__name__}: {reason(error)}", secrets)
    raise StudyError(f"'optuna {' '.join(arguments[:1])}' failed: {failure}")


def _address(arguments: Sequence[str]) -> str | None:
    """The storage that Optuna's command is given, if it is one that Optuna has to guess from its address."""
    if any(argument.startswith("--storage-class") for argument in arguments):
        return None
    for argument, following in zip(arguments, (*arguments[1:], None), strict=True):
        if argument == "--storage":
            return following
        if argument.startswith("--storage="):
            return argument.partition("=")[2]
    return os.environ.get("OPTUNA_STORAGE")


def _without_passwords(text: str, arguments: Sequence[str]) -> str:
    for argument in arguments:
        text = without_password(text, argument)
    return text


@contextmanager
def _silent_about(arguments: Sequence[str]) -> Iterator[None]:
    """Mask passwords where Optuna's command repeats the command line: in its log and on stderr."""

    def mask(record: logging.LogRecord) -> bool:
        record.msg, record.args = _without_passwords(record.getMessage(), arguments), ()
        return True

    logger = logging.getLogger("optuna")
    logger.addFilter(mask)
    try:
        with redirect_stderr(_MaskedStream(sys.stderr, arguments)):
            yield
    finally:
        logger.removeFilter(mask)


class _MaskedStream(io.TextIOBase):
    """Another stream, written to without passwords."""

    def __init__(self, stream: TextIO, arguments: Sequence[str]) -> None:
        self._stream, self._arguments = stream, arguments

    def write(self, text: str) -> int:
        return self._stream.write(_without_passwords(text, self._arguments))

    def flush(self) -> None:
        self._stream.flush()


@contextmanager
def _samplers_known() -> Iterator[None]:
    """Put our samplers among Optuna's own, where its command looks them up by name, while it runs."""
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
    """A search space as ``optuna ask --search-space`` reads it: all genes of all blocks.

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
