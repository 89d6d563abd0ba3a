"""The write-up of a comparison: tables and sentences computed from its record, and nothing else."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aspk.energy import NOTHING, energy_unit
from aspk.errors import StudyError
from aspk.report.figures import png
from aspk.util.files import write_atomically
from benchmarks.baseline.figure import comparison_figure

_Record = Mapping[str, Any]
MARKS = ("<!-- comparison: begin -->", "<!-- comparison: end -->")
_NAMED = {
    "reference": "reference (hand-made)",
    "largest": "largest",
    "smallest": "smallest",
}
_PICKED = {
    "cheapest": "cheapest close to its most accurate",
    "knee": "knee",
    "most-accurate": "most accurate",
    "best-f-aeb": "best F_AEB",
    "near-reference": "cheapest close to the reference",
    "best": "best",
}


def write_files(content: _Record, folder: Path) -> Path:
    """Write ``comparison.json``, ``comparison.png`` and ``comparison.md``; the path of the last."""
    write_atomically(folder / "comparison.json", json.dumps(content, indent=1) + "\n")
    write_atomically(folder / "comparison.png", png(comparison_figure(content)))
    write_atomically(folder / "comparison.md", write_up(content))
    return folder / "comparison.md"


def publish(written: Path, folder: Path) -> None:
    """Put a write-up between the two marks of ``folder/README.md``, its record and figure beside it.

    Args:
        written: what :func:`write_files` wrote.
        folder: holds a ``README.md`` with the marks.

    Raises:
        StudyError: the file has no such marks.
    """
    page = folder / "README.md"
    text = page.read_text(encoding="utf-8")
    begin, end = text.find(MARKS[0]), text.find(MARKS[1])
    if not 0 <= begin < end:
        raise StudyError(f"{page}: expected the lines {MARKS[0]} and {MARKS[1]} around the write-up")
    for name in ("comparison.json", "comparison.png"):
        write_atomically(folder / name, (written.parent / name).read_bytes())
    body = written.read_text(encoding="utf-8")
    write_atomically(page, f"{text[: begin + len(MARKS[0])]}\n\n{body}\n{text[end:]}")


def write_up(content: _Record) -> str:
    """The record as Markdown."""
    parts = [_training(content, training) for training in content["trainings"]]
    parts += [_searches(content), _networks(content), _circumstances(content)]
    return "\n\n".join(parts) + "\n"


def labels(content: _Record) -> dict[str, str]:
    """The title of each network, by its name: everything that it was chosen as."""
    titles = {search["name"]: search["title"] for search in content["searches"]}

    def label(role: str) -> str:
        if role in _NAMED:
            return _NAMED[role]
        search = max((name for name in titles if role.startswith(f"{name}-")), key=len)
        return f"{titles[search]}: {_PICKED[role.removeprefix(f'{search}-')]}"

    return {item["name"]: " = ".join(map(label, item["roles"])) for item in content["networks"]}


# ---------------------------------------------------------------------- one recipe


def _training(content: _Record, training: _Record) -> str:
    recipe, count = training["recipe"], training["seeds"]
    origin = "fresh weights" if training["start"] == "scratch" else "the weights inherited from the supernet"
    lines = [
        f"### {training['title']}",
        "",
        f"Every network from {origin}, {recipe['updates']} updates of {recipe['batch_size']} images, peak "
        f"learning rate {recipe['learning_rate']:g}, {count} seeds. Accuracy in % and energy on all test "
        "images, mean ± standard deviation over seeds; differences and ratios to the reference with "
        "intervals that hold together with 95 % confidence (Dunnett).",
        "",
        _results(content, training),
        "",
        *(f"- {sentence}" for sentence in _findings(content, training)),
    ]
    return "\n".join(lines)


def _results(content: _Record, training: _Record) -> str:
    unit, per_mj = _unit(content)
    against = training["against"].get("reference", {})
    header = [
        "",
        "network",
        "inherited, search",
        "inherited, test",
        "trained, test",
        "difference, points",
        f"{unit}, paper's account",
        "ratio",
        f"{unit}, strict",
        "ratio, strict",
        f"predicted {unit}",
    ]
    names, rows = labels(content), []
    for number, item in enumerate(content["networks"], start=1):
        values = training["networks"].get(item["name"])
        if values is None:
            continue
        own = against.get(item["name"], {"accuracy": None, "energy": None, "strict": None})
        rows.append(
            [
                str(number),
                names[item["name"]],
                f"{100 * item['search']:.2f}",
                f"{100 * item['test']:.2f}",
                f"**{_spread(values['test'], 100, '.2f')}**",
                _interval(own["accuracy"], 100, "+.2f"),
                _spread(values["energy_mj"], per_mj, ".3g"),
                _interval(own["energy"], 1, ".3f"),
                _spread(values["strict_mj"], per_mj, ".3g"),
                _interval(own["strict"], 1, ".3f"),
                f"{per_mj * item['search_mj']:.3g}",
            ]
        )
    return _table(header, rows)


def _findings(content: _Record, training: _Record) -> list[str]:
    """The statements that the intervals support."""
    margin, names = content["margin"], labels(content)
    found = {
        names[name]: item
        for name, item in training["against"].get("reference", {}).items()
        if item["accuracy"] and item["energy"]
    }

    def those(holds: Callable[[Sequence[float], Sequence[float]], bool]) -> str:
        chosen = [name for name, item in found.items() if holds(item["accuracy"], item["energy"])]
        return "; ".join(chosen) or "none"

    points = "1 point" if margin == 0.01 else f"{100 * margin:g} points"
    sentences = [
        f"More accurate than the reference at less energy: {those(lambda a, e: a[1] > 0 and e[2] < 1)}.",
        f"More accurate at energy that is not less: {those(lambda a, e: a[1] > 0 and e[2] >= 1)}.",
        f"At less energy and less than {points} below the reference, interval included: "
        f"{those(lambda a, e: a[1] > -margin and e[2] < 1)}.",
        f"Less accurate than the reference: {those(lambda a, e: a[2] < 0)}.",
        f"Not told apart from the reference in accuracy: {those(lambda a, e: a[1] <= 0 <= a[2])}.",
    ]
    for control, items in training["against"].items():
        if control != "reference":
            sentences += _ablations(content, control, items)
    return [*sentences, _change(content, training)]


def _change(content: _Record, training: _Record) -> str:
    """What training did to the accuracy on test."""
    names = labels(content)
    changes = [
        (
            100 * (statistics.mean(training["networks"][item["name"]]["test"]) - item["test"]),
            names[item["name"]],
        )
        for item in content["networks"]
        if item["name"] in training["networks"]
    ]
    (least, loser), (most, winner) = min(changes), max(changes)
    return (
        f"Against what it inherits, a network's mean accuracy on test changed by "
        f"{least:+.2f} points ({loser}) "
        f"to {most:+.2f} points ({winner})."
    )


def _ablations(content: _Record, control: str, items: Mapping[str, Any]) -> Iterable[str]:
    names = labels(content)
    by_role = {role: item["name"] for item in content["networks"] for role in item["roles"]}
    for name, item in items.items():
        if item["accuracy"] and item["energy"]:
            (_, less, more), (_, cheaper, dearer) = item["accuracy"], item["energy"]
            accuracy = (
                "less accurate" if more < 0 else "more accurate" if less > 0 else "not told apart in accuracy"
            )
            energy = "cheaper" if dearer < 1 else "dearer" if cheaper > 1 else "not told apart in energy"
            yield (
                f"Against {names[by_role[control]]}, {names[name]} is {accuracy} "
                f"({_interval(item['accuracy'], 100, '+.2f')} points) and {energy} "
                f"(ratio {_interval(item['energy'], 1, '.3f')})."
            )


# ---------------------------------------------------------------------- the rest


def _searches(content: _Record) -> str:
    rows = []
    for search in content["searches"]:
        faeb = search["faeb"]
        objectives = f"F_AEB, {faeb['form']}" if faeb else ", ".join(search["objectives"])
        volume = search["hypervolume"]
        rows.append(
            [
                search["title"],
                objectives,
                search["sampler"],
                str(search["evaluations"]),
                ", ".join(search["fixed"]) or NOTHING,
                str(len(search["front"])),
                f"{volume:.4f}" if volume is not None and len(search["objectives"]) > 1 else NOTHING,
            ]
        )
    header = [
        "search",
        "objectives",
        "sampler",
        "networks",
        "genes as in the reference",
        "front",
        "hypervolume",
    ]
    lines = [
        "### The searches",
        "",
        "With inherited weights, on the first "
        f"{content['evaluation']['images'] or 'all'} images of `search`; one run of each, seed "
        f"{content['seed']}, so this table compares outcomes and not algorithms. Hypervolume: share of the "
        "box between perfect accuracy at no energy, and chance at the reference's energy.",
        "",
        _table(header, rows),
    ]
    if content["missing"]:
        lines += ["", f"No network was found as: {', '.join(content['missing'])}."]
    return "\n".join(lines)


def _networks(content: _Record) -> str:
    names, rows = labels(content), []
    for number, item in enumerate(content["networks"], start=1):
        config = item["config"]
        blocks = [
            ", ".join(f"{block[gene]:g}" for block in config["blocks"])
            for gene in ("mlp_ratio", "num_heads", "v_threshold", "tau")
        ]
        size = [str(config["embed_dim"]), str(len(config["blocks"])), str(config["time_steps"])]
        cost = [f"{item['parameters']:,}", f"{item['operations']:,}"]
        rows.append([str(number), names[item["name"]], *size, *blocks, *cost])
    header = [
        "",
        "network",
        "width",
        "depth",
        "T",
        "MLP ratio",
        "heads",
        "threshold",
        "tau",
        "parameters",
        "operations",
    ]
    return "\n".join(["### The networks", "", _table(header, rows)])


def _circumstances(content: _Record) -> str:
    trained = {f"training {item['title']}": item["seconds"] for item in content["trainings"]}
    times = {**content["times"], **trained}
    shown = ", ".join(f"{piece} {clock / 60:.1f} ({own / 60:.1f})" for piece, (clock, own) in times.items())
    clock, own = (sum(column) / 60 for column in zip(*times.values(), strict=True))
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    lines = [
        "### Circumstances",
        "",
        f"- Data set and splits: `{json.dumps(content['data'])}`; account: {content['energy']}; estimates "
        "from operation counts, not measurements.",
        f"- Supernet: {content['verdict']}",
        "- Networks with inherited weights were evaluated with "
        f"`{content['evaluation'].get('statistics', 'own')}` statistics of batch normalisation.",
        f"- Hardware: {content['hardware']}.",
        f"- Versions: {versions}.",
        f"- Minutes on the clock (of processor time), without killed pieces: {shown}; "
        f"{clock:.1f} ({own:.1f}) in all.",
    ]
    return "\n".join(lines)


# ---------------------------------------------------------------------- cells


def _unit(content: _Record) -> tuple[str, float]:
    return energy_unit(max(item["search_mj"] for item in content["networks"]))


def _spread(values: Sequence[float], scale: float, form: str) -> str:
    scaled = [scale * value for value in values]
    deviation = statistics.stdev(scaled) if len(scaled) > 1 else 0.0
    digits = form if form != ".3g" else ".2g"
    return f"{statistics.mean(scaled):{form}} ± {deviation:{digits}}"


def _interval(interval: Sequence[float] | None, scale: float, form: str) -> str:
    if interval is None:
        return NOTHING
    estimate, low, high = (scale * value for value in interval)
    return f"{estimate:{form}} ({low:{form}} to {high:{form}})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))
