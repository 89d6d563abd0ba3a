"""Arguments that commands share, and the longer lists of them."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aspk.spec.study import StudySpec


def study_arguments(parser: argparse.ArgumentParser, *, sampler: bool, device: bool = False) -> None:
    """The study that a command is about, and options that choose its variant."""
    parser.add_argument("study", help="a study file, or the name of a shipped one such as digits")
    if sampler:
        parser.add_argument(
            "--sampler", help="use this sampler, not the file's; the study is then called NAME-SAMPLER"
        )
    if device:
        device_argument(parser)


def refined_argument(parser: argparse.ArgumentParser) -> None:
    """The options that select the study of the trained networks."""
    parser.add_argument(
        "--refined", action="store_true", help="use the networks trained by 'aspk refine', not the supernet's"
    )
    aim_argument(parser, help="with --refined: the --aim of that 'aspk refine'")


def aim_argument(parser: argparse.ArgumentParser, *, help: str) -> None:
    """The option that says what 'aspk refine' optimises."""
    parser.add_argument("--aim", choices=("objectives", "f_aeb"), default="objectives", help=help)


def study_words(options: argparse.Namespace) -> str:
    """The arguments that name the study to another command, as given to this one."""
    sampler = getattr(options, "sampler", None)
    refined = ["--refined"] if getattr(options, "refined", False) else []
    refined += ["--aim", options.aim] if refined and options.aim != "objectives" else []
    return shlex.join([options.study, *(["--sampler", sampler] if sampler else []), *refined])


_SELECTIONS = ("cheapest", "knee", "most-accurate", "best-f-aeb")  # those of aspk.report, which loads slowly
_MARGIN = 0.01  # likewise


def selection_arguments(
    parser: argparse.ArgumentParser, which: argparse._ActionsContainer | None = None
) -> None:
    """The options that choose a network of the front.

    Args:
        parser: the command's parser.
        which: the group of options that exclude ``--select``; None if there is none.
    """
    (which or parser).add_argument(
        "--select",
        choices=_SELECTIONS,
        default=_SELECTIONS[0],
        metavar="RULE",
        help="the network to take from the front: cheapest (default: the cheapest within --margin of the "
        "most accurate), knee (nearest to the best value of every objective), most-accurate or best-f-aeb; "
        "the output names all four",
    )
    parser.add_argument(
        "--margin",
        type=_points,
        metavar="POINTS",
        help=f"percentage points of accuracy that 'cheapest' may give up (default: {100 * _MARGIN:g}), or "
        "the standard error of the difference if that is larger",
    )


def margin_of(options: argparse.Namespace, *, named: bool = False) -> float:
    """The accuracy that ``cheapest`` may give up.

    Args:
        options: of a command with ``selection_arguments``, and with the parser's ``error`` as ``usage``.
        named: whether other options name the networks, so that nothing is selected.

    Raises:
        SystemExit: ``--margin`` is given where nothing is selected.
    """
    if named and options.margin is not None:
        options.usage("--margin chooses a network of the front: not with --trial or --front")
    return _MARGIN if options.margin is None else float(options.margin)


def time_of_day(text: str) -> datetime:
    """The next time the local clock shows ``text``, such as 23:30: today or tomorrow."""
    try:
        clock = datetime.strptime(text, "%H:%M").time()
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a time of day such as 23:30") from None
    now = datetime.now().astimezone()
    then = datetime.combine(now.date(), clock).astimezone()
    return then if then > now else datetime.combine(now.date() + timedelta(days=1), clock).astimezone()


def _points(text: str) -> float:
    try:
        points = float(text)
    except ValueError:
        points = -1.0
    if not 0 <= points <= 100:
        raise argparse.ArgumentTypeError(f"{text!r}: expected points of accuracy from 0 to 100, such as 0.5")
    return points / 100


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """The ``type`` of an argument that is a whole number.

    Args:
        least: the smallest number accepted.
        most: the largest; None means no bound.
    """
    expected = f"a whole number from {least}" + ("" if most is None else f" to {most}")

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:  # also raised for more digits than Python reads
            number = least - 1
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{text[:40]!r}: expected {expected}")
        return number

    return read


def image_arguments(parser: argparse.ArgumentParser, *, of: str) -> None:
    """The shape of images and the number of classes, for networks without a data set.

    Args:
        parser: the command's parser.
        of: which images, for the help.
    """
    parser.add_argument("--shape", type=_shape, default=(3, 32, 32), help=f"shape of {of} (default: 3,32,32)")
    parser.add_argument("--classes", type=whole_number(1, 100_000), default=10, help="classes (default: 10)")


def _shape(text: str) -> tuple[int, ...]:
    sizes = tuple(int(part) for part in text.split(",") if part.isdecimal())
    if len(sizes) != 3 or text.count(",") != 2 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected channels, height and width such as 3,32,32")
    return sizes


def share_between(text: str) -> float:
    """The ``type`` of an argument that is a share above 0 and below 1."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a share between 0 and 1, such as 0.001")
    return share


def device_argument(parser: argparse.ArgumentParser) -> None:
    """Where networks run."""
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="where the network runs"
    )


def spec_of(options: argparse.Namespace, *, searched: bool = False) -> StudySpec:
    """The study that the options name.

    Args:
        options: from the command line.
        searched: take the study of the supernet's networks, even if the options select the trained ones.

    Raises:
        StudyError: there is none, its file is not valid, or its storage is no address of one: better said
            before a training than after it.
    """
    import optuna

    from aspk.errors import StudyError
    from aspk.spec.study import load_study_file, refined, with_sampler

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # our progress bar replaces its INFO lines
    spec = with_sampler(load_study_file(options.study), getattr(options, "sampler", None))
    if spec.storage is not None:
        from aspk.study.address import check_address

        check_address(spec.storage)
    if getattr(options, "refined", None) is False and options.aim != "objectives":
        raise StudyError(f"--aim {options.aim} chooses between studies of 'aspk refine': give --refined, too")
    return refined(spec, aim=options.aim) if getattr(options, "refined", False) and not searched else spec


def with_recipe(spec: StudySpec, recipe: str | None) -> StudySpec:
    """The study, with another recipe for training networks alone if one is named."""
    from dataclasses import replace

    from aspk.spec.recipe import load_recipe

    return spec if recipe is None else replace(spec, retrain=load_recipe(recipe))


def evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``aspk evaluate``."""
    add = parser.add_argument
    add("model", type=Path, nargs="?", help="the folder that 'aspk export' wrote")
    add("--split", help="train, search or test (default: test)")
    add("--data-folder", help="the folder of the data set's files, if they have moved")
    add("--study", help="a study, to evaluate one of its running trials; prints the values for 'optuna tell'")
    add("--trial", type=whole_number(0), help="the trial's number, from 'aspk optuna ask'")
    add("--sampler", help="take the study NAME-SAMPLER, as in 'aspk search'")
