"""The commands for found networks: ``aspk export``, ``evaluate`` and ``predict``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aspk.cli.arguments import (
    device_argument,
    evaluate_arguments,
    margin_of,
    refined_argument,
    selection_arguments,
    spec_of,
    study_arguments,
    whole_number,
)
from aspk.cli.commands import Commands, Group
from aspk.errors import StudyError
from aspk.util.files import safe_name
from aspk.util.text import printable

if TYPE_CHECKING:
    from aspk.standalone.prediction import Prediction


def add_network_commands(commands: Commands) -> None:
    """Add ``export``, ``evaluate`` and ``predict``."""
    export = commands.add(
        "export",
        Group.NETWORKS,
        help="write a found network as a stand-alone model",
        example="aspk export digits --select most-accurate --output model",
    )
    study_arguments(export, sampler=True, device=True)
    refined_argument(export)
    which = export.add_mutually_exclusive_group()
    which.add_argument(
        "--trial", type=whole_number(0), help="this trial's network, instead of a selected one"
    )
    selection_arguments(export, which)
    export.add_argument("--output", type=Path, help="the folder to write to (default: FOLDER/export-NAME)")
    export.add_argument(
        "--format",
        action="append",
        choices=["spikingjelly", "onnx", "torch"],
        default=[],
        help="also write this form beside it: a module of spikingjelly's layers, an ONNX file, or a program "
        "of torch.export; may be repeated",
    )
    export.set_defaults(run=_export, usage=export.error)

    evaluate = commands.add(
        "evaluate",
        Group.NETWORKS,
        help="accuracy and energy of an exported network or a trial",
        example="aspk evaluate runs/digits/export-digits --split test",
    )
    evaluate_arguments(evaluate)
    device_argument(evaluate)
    evaluate.set_defaults(run=_evaluate, usage=evaluate.error)

    predict = commands.add(
        "predict",
        Group.NETWORKS,
        help="classify image files with an exported network",
        example="aspk predict runs/digits/export-digits pictures --top 1",
    )
    predict.add_argument(
        "model", type=Path, help="the folder that 'aspk export' or 'aspk retrain' wrote, or its network.onnx"
    )
    predict.add_argument(
        "images",
        type=Path,
        nargs="+",
        metavar="image",
        help="image files (event frames: .npz; recordings of N-MNIST: .bin), or folders",
    )
    predict.add_argument(
        "--top", type=whole_number(1), default=3, help="classes shown for each image (default: 3)"
    )
    predict.add_argument("--json", action="store_true", help="print JSON")
    device_argument(predict)
    predict.set_defaults(run=_predict)


def _export(options: argparse.Namespace) -> int:
    margin = margin_of(options, named=options.trial is not None)
    spec = spec_of(options)

    from aspk.report import no_front_text, select, selection_text, summarise
    from aspk.standalone.export import export_trial
    from aspk.standalone.formats import renewed
    from aspk.study.storage import open_study

    summary, number = summarise(open_study(spec)), options.trial
    if number is None:
        selection = select(summary, options.select, margin=margin)
        if selection.chosen is None:
            raise StudyError(f"nothing to export from study {spec.name!r}: {no_front_text(summary)}")
        number = selection.chosen.row.number
        print(selection_text(selection))
    folder = options.output or spec.folder / safe_name(f"export-{spec.name}")
    with renewed(folder) as removed:
        if options.refined:
            from aspk.standalone.refining import export_refined

            export_refined(spec_of(options, searched=True), folder, number=number, aim=options.aim)
        else:
            export_trial(spec, folder, number=number, device=options.device)
    print(f"exported trial {number} of {spec.name}: {folder}")
    if removed:
        print(f"removed the network that was there before: {', '.join(map(str, removed))}")
    return _write_formats(folder, options.format)


def _write_formats(folder: Path, formats: list[str]) -> int:
    if formats:
        from aspk.standalone.export import load_exported
        from aspk.standalone.formats import write_format

        model = load_exported(folder)
        for name in dict.fromkeys(formats):
            print(f"  {name}: {write_format(name, model, folder)}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    if (options.model is None) == (options.study is None) or (options.study is None) != (
        options.trial is None
    ):
        options.usage("give an exported model, or --study and --trial")
    if options.study is None and options.sampler is not None:
        options.usage("--sampler belongs to --study")
    if options.study is not None and (options.split is not None or options.data_folder is not None):
        options.usage(
            "--split and --data-folder are for an exported model: a study's file says where to measure"
        )
    if options.study is not None:
        return _evaluate_trial(options)

    from aspk.energy import STRICT, energy_mj
    from aspk.engines.device import resolve_device
    from aspk.evaluation.supernet import measure
    from aspk.standalone.export import data_of, load_exported

    device = resolve_device(options.device)
    exported = load_exported(options.model, device)
    data = data_of(exported, folder=options.data_folder).to(device)
    split = options.split or "test"
    metrics = measure(exported.network, data.split(split))
    strict = energy_mj(metrics.layers, STRICT)
    print(
        f"{options.model} ({exported.weights}): {data.name} {split} accuracy {metrics.accuracy:.4f}, "
        f"{metrics.parameters:,} parameters, {metrics.firing_rate:.3f} mean firing rate\n"
        f"estimated energy per image: {metrics.energy_mj:.3g} mJ (Spikformer paper's account), "
        f"{strict:.3g} mJ (strict: dense residual)"
    )
    return 0


def _predict(options: argparse.Namespace) -> int:
    from aspk.engines.device import resolve_device
    from aspk.errors import CheckpointError, DataError
    from aspk.standalone.export import load_exported
    from aspk.standalone.formats.onnx_file import load_onnx
    from aspk.standalone.prediction import predict_files

    is_onnx = options.model.suffix == ".onnx"
    if is_onnx and options.device == "cuda":
        raise CheckpointError(
            f"{options.model}: an ONNX file runs on the CPU here; leave out --device cuda, or give the "
            "export's folder"
        )
    device, records, failures = resolve_device(options.device), [], 0
    model = load_onnx(options.model) if is_onnx else load_exported(options.model, device)
    for found in predict_files(model, options.images):
        if isinstance(found, DataError):
            failures += 1
            print(f"aspk: error: {printable(found)}", file=sys.stderr)
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
    return printable(f"{found.path}: {best}")


def _evaluate_trial(options: argparse.Namespace) -> int:
    """``aspk evaluate --study STUDY --trial N``: print the values for ``tell``."""
    spec = spec_of(options)

    from aspk.study import evaluate_trial, load_problem
    from aspk.study.storage import running_trial

    trial = running_trial(spec, options.trial)  # before the supernet is loaded
    print(*evaluate_trial(trial, load_problem(spec, device=options.device)))
    return 0
