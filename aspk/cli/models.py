"""The command for exported models: ``aspk predict``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aspk.cli.arguments import device_argument

if TYPE_CHECKING:
    from aspk.standalone.prediction import Prediction


def add_model_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``predict``."""
    predict = commands.add_parser("predict", help="classify image files with an exported network")
    predict.add_argument("model", type=Path, help="the folder that 'aspk export' or 'aspk retrain' wrote")
    predict.add_argument(
        "images", type=Path, nargs="+", metavar="image", help="image files (event frames: .npz), or folders"
    )
    predict.add_argument("--top", type=int, default=3, help="classes shown for each image (default: 3)")
    predict.add_argument("--json", action="store_true", help="print JSON")
    device_argument(predict)
    predict.set_defaults(run=_predict, usage=predict.error)


def _predict(options: argparse.Namespace) -> int:
    if options.top < 1:
        options.usage(f"--top {options.top}: expected at least 1")

    from aspk.engines.device import resolve_device
    from aspk.errors import DataError
    from aspk.standalone.export import load_exported
    from aspk.standalone.prediction import predict_files

    model, records, failures = load_exported(options.model, resolve_device(options.device)), [], 0
    for found in predict_files(model, options.images):
        if isinstance(found, DataError):
            failures += 1
            print(f"aspk: error: {_printable(str(found))}", file=sys.stderr)
        elif options.json:
            records.append(_record(found, options.top))
        else:
            print(_line(found, options.top))
    if options.json:
        print(json.dumps(records, indent=1))
    return 1 if failures else 0


def _record(found: Prediction, top: int) -> dict[str, object]:
    best = [{"class": name, "probability": share} for name, share in found.probabilities[:top]]
    return {"file": str(found.path), "classes": best}


def _line(found: Prediction, top: int) -> str:
    best = ", ".join(f"{name} {share:.3f}" for name, share in found.probabilities[:top])
    return _printable(f"{found.path}: {best}")


def _printable(text: str) -> str:
    """Names that somebody else gave must not steer the terminal."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
