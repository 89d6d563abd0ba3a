"""What ``aspk energy`` runs, slow to import: which account to compute, and where to write it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aspk.cli.terminal import show
from aspk.energy import EnergyModel, energy_csv, energy_text, load_energy_model
from aspk.errors import EnergyModelError
from aspk.report.energy.comparison import comparison_figure, comparison_html
from aspk.report.energy.output import (
    account_html,
    account_json,
    rebilling_csv,
    rebilling_html,
    rebilling_json,
    rebilling_text,
)
from aspk.report.energy.rebilling import rebill
from aspk.report.energy.sources import (
    NetworkAccount,
    exported_account,
    random_account,
    read_config,
    trial_account,
    weights_account,
)
from aspk.report.figures import png, svg
from aspk.space.file import load_space, named_network
from aspk.spec.study import load_study_file, with_sampler
from aspk.study.storage import open_study
from aspk.util.files import write_atomically

_SHOWN = ("spikformer_paper", "strict_dense_residual", "spikingformer_script")
_KINDS = {  # where a network comes from, in words
    "study": "a study",
    "export": "an exported model",
    "space": "--random-weights",
    "weights": "--weights",
}
_FOR = {  # options that the others would ignore
    "trial": ("study",),
    "sampler": ("study",),
    "reference": ("space", "weights"),
    "config": ("space", "weights"),
    "seed": ("space",),
    "images": ("space",),
    "shape": ("space",),
    "classes": ("space",),
    "data": ("weights",),
    "data_folder": ("weights", "export"),
    "split": ("weights", "export"),
}
_EXPORT_FILES = ("network.json", "network.safetensors")


def run_energy(options: argparse.Namespace) -> int:
    """Run ``aspk energy``; see the command line's help for the options."""
    _check_options(options)
    models = [load_energy_model(source) for source in options.model or (() if options.all else _SHOWN)]
    if len({model.name for model in models}) < len(models):
        raise EnergyModelError(f"models {[model.name for model in models]}: expected different names")
    if options.figure is not None and not options.all:
        raise EnergyModelError("--figure draws a comparison of accounts: give --all as well")
    if options.all and _is_study(options) and options.trial is None:
        raise EnergyModelError("--all compares the accounts of one network: give --trial, or leave out --all")
    if options.all:
        _comparison(options, _account(options), models)
    elif _is_study(options) and options.trial is None:
        _study(options, models)
    else:
        _network(options, _account(options), models)
    return 0


def _check_options(options: argparse.Namespace) -> None:
    """Refuse options that would be ignored."""
    network = "study" if _is_study(options) else "export"
    kind = network if options.network is not None else "space" if options.space is not None else "weights"
    for name, kinds in _FOR.items():
        if kind not in kinds and getattr(options, name) != options.default(name):
            words = " and ".join(_KINDS[one] for one in kinds)
            option = f"--{name.replace('_', '-')}"
            raise EnergyModelError(f"{option} is for {words}, not for {_KINDS[kind]}: leave it out")
    if kind == "export" and options.data_folder is not None and options.split is None:
        raise EnergyModelError("--data-folder is for counting again: give --split as well, or leave it out")


def _is_study(options: argparse.Namespace) -> bool:
    return options.network is not None and not _is_export(Path(options.network))


def _is_export(path: Path) -> bool:
    return path.name in _EXPORT_FILES or any((path / name).is_file() for name in _EXPORT_FILES)


def _account(options: argparse.Namespace) -> NetworkAccount:
    config = read_config(options.config) if options.config else None
    place = {"data_folder": options.data_folder, "device": options.device}
    if options.weights is not None:
        return weights_account(
            options.weights, config, data=options.data, split=options.split or "search", **place
        )
    if options.space is not None:
        space = load_space(options.space)
        return random_account(
            space,
            config or named_network(space, options.named),
            shape=options.shape,
            classes=options.classes,
            seed=options.seed,
            images=options.images,
        )
    if _is_study(options):
        spec = with_sampler(load_study_file(options.network), options.sampler)
        return trial_account(open_study(spec), options.trial)
    return exported_account(Path(options.network), split=options.split, **place)


def _network(options: argparse.Namespace, account: NetworkAccount, models: Sequence[EnergyModel]) -> None:
    text = f"{account.title}\n{energy_text(account.layers, models)}"
    _write(
        options,
        text=text,
        record=account_json(account, models),
        table=energy_csv(account.layers, models),
        page=account_html(account, models) if options.html else "",
    )


def _comparison(options: argparse.Namespace, account: NetworkAccount, models: Sequence[EnergyModel]) -> None:
    comparison = account.compare(models)
    _write(
        options,
        text=comparison.text(),
        record={**account.details, **comparison.json()},
        table=comparison.csv(),
        page=comparison_html(comparison) if options.html else "",
    )
    if options.csv is not None:
        rates = options.csv.with_name(f"{options.csv.stem}-rates{options.csv.suffix}")
        write_atomically(rates, comparison.rates_csv())
    if options.figure is not None:
        drawn = comparison_figure(comparison)
        plain = options.figure.suffix.lower() == ".svg"
        write_atomically(options.figure, svg(drawn, "Accounts and firing rates") if plain else png(drawn))


def _study(options: argparse.Namespace, models: Sequence[EnergyModel]) -> None:
    study = open_study(with_sampler(load_study_file(options.network), options.sampler))
    rebillings = [rebill(study, model) for model in models]
    _write(
        options,
        text="\n\n".join(map(rebilling_text, rebillings)),
        record=rebilling_json(rebillings),
        table=rebilling_csv(rebillings),
        page=rebilling_html(rebillings) if options.html else "",
    )


def _write(options: argparse.Namespace, *, text: str, record: dict[str, Any], table: str, page: str) -> None:
    data = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    for path, content in ((options.csv, table), (options.html, page)):
        if path is not None:
            write_atomically(path, content)
    if options.json == "-":
        print(data, end="")
        return
    if options.json is not None:
        write_atomically(Path(options.json), data)
    show(text)
