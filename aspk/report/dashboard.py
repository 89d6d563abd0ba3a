"""A study in optuna-dashboard: a note that explains it, figures of its feasible front, files of its networks.

The dashboard's own plots ignore our constraints and so the feasible front, so we add our own figures.
"""

from __future__ import annotations

import io
import json
import logging
import mimetypes
import re
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.artifacts import ArtifactMeta, FileSystemArtifactStore
from optuna.storages import BaseStorage

from aspk.errors import AspkError, StudyError
from aspk.metrics import Metrics
from aspk.report import MARGIN, Row, Selection, StudySummary, select, selection_text, summarise
from aspk.report.figures import BAD, FRONT, PALE, REFERENCE, energy_figure, png
from aspk.report.local_server import address_of, local_server
from aspk.report.measures import has_energies
from aspk.space.file import space_from_dict
from aspk.spec.study import StudySpec
from aspk.standalone.export import EXPORT_FILES, export_trials
from aspk.study.storage import open_storage, open_study
from aspk.trials.attributes import mapping_in

_LOGGER = logging.getLogger(__name__)
_Point = TypeVar("_Point")
Export = Callable[[Mapping[int, Path]], object]
_BINARY = "application/octet-stream"
_MOST_POINTS = 1000  # of each kind in a figure, which is stored in chunks of two kilobytes
_FRONT, _CURVE = "aspk-front", "aspk-hypervolume"  # identifiers of the figures on the page


def show(
    spec: StudySpec,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    models: bool = True,
    export: Export | None = None,
    device: str = "auto",
    selection: str = "cheapest",
    margin: float = MARGIN,
) -> int:
    """Add note, figures and files to a study and serve it until Ctrl-C.

    Args:
        spec: the study.
        host: address to listen on.
        port: port to listen on; 0 takes a free one. The address is printed.
        models: whether to export the networks of the front.
        export: exports networks by the numbers of their trials, into a folder each; None exports them with
            the supernet's weights.
        device: where they are calibrated for the export.
        selection: rule of :func:`~aspk.report.selection.select` whose network is marked as the chosen one.
        margin: accuracy that ``cheapest`` may give up; 0.01 is one point.

    Returns:
        The exit code.

    Raises:
        ServerError: the server cannot listen on this address and port.
        StudyError: optuna-dashboard is not installed, or there is no such study.
    """
    try:
        import optuna_dashboard  # noqa: PLC0415 - an optional dependency
    except ImportError:
        raise StudyError("optuna-dashboard is not installed: pip install 'aspk[dashboard]'") from None
    study, storage = open_study(spec), open_storage(spec.storage_url)
    store = artifact_store(spec)
    application = optuna_dashboard.wsgi(storage, artifact_store=store)
    with local_server(application, host=host, port=port) as server:
        dress(
            study,
            storage,
            spec,
            models=models,
            export=export,
            device=device,
            selection=selection,
            margin=margin,
        )
        study_id = storage.get_study_id_from_name(spec.name)
        address = f"{address_of(server, host)}/dashboard/studies/{study_id}"
        print(f"{address} shows {spec.name}; press Ctrl-C to stop", flush=True)
        server.serve_forever()
    return 0


def artifact_store(spec: StudySpec) -> FileSystemArtifactStore:
    """Where the study's files for the dashboard are."""
    folder = spec.folder / "artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    return FileSystemArtifactStore(folder)


def dress(
    study: optuna.Study,
    storage: BaseStorage,
    spec: StudySpec,
    *,
    models: bool = True,
    export: Export | None = None,
    device: str = "auto",
    selection: str = "cheapest",
    margin: float = MARGIN,
) -> None:
    """Write note, figures and files of the front's networks; existing files are kept.

    Args:
        study: the study.
        storage: its storage.
        spec: its study file.
        models: whether to export the networks; without their supernet or data, they are left out.
        export: see :func:`show`.
        device: where they are calibrated for the export.
        selection: rule of :func:`~aspk.report.selection.select` whose network is marked as the chosen one.
        margin: accuracy that ``cheapest`` may give up; 0.01 is one point.

    Raises:
        StudyError: there is no such rule.
    """
    from optuna_dashboard import save_note, save_plotly_graph_object  # noqa: PLC0415 - as above

    summary = summarise(study)
    picked = select(summary, selection, margin=margin)
    save_note(study, note(summary, picked))
    for name, figure in ((_FRONT, front_plot(summary, picked)), (_CURVE, hypervolume_plot(summary))):
        save_plotly_graph_object(study, figure, graph_object_id=name)
    shelf = _Shelf(storage, storage.get_study_id_from_name(study.study_name), artifact_store(spec))
    for row in summary.front:
        shelf.put(row.number, "config.json", partial(_description, summary, row))
        if row.metrics is not None and row.metrics.layers:
            title = f"{summary.name}, trial {row.number}"
            shelf.put(row.number, "energy.png", partial(_energy_picture, title, row.metrics))
    if models:
        _put_models(shelf, summary, export or partial(export_trials, spec, device=device))


# ---------------------------------------------------------------------- files


@dataclass(frozen=True)
class _Shelf:
    """Files of trials, where optuna-dashboard looks for them.

    A finished trial accepts no attributes, so Optuna's own ``upload_artifact`` comes too late for a front
    that is known only at the end. The dashboard also reads a record of the file from the study's attributes,
    the form in which it stored files itself before Optuna had artifacts.
    """

    storage: BaseStorage
    study_id: int
    store: FileSystemArtifactStore

    def put(self, number: int, name: str, content: Callable[[], bytes]) -> None:
        """Attach a file to a trial, unless it already has one of that name."""
        if name in self.names(number):
            return
        artifact = ArtifactMeta(str(uuid.uuid4()), name, mimetypes.guess_type(name)[0] or _BINARY, None)
        self.store.write(artifact.artifact_id, io.BytesIO(content()))
        key = f"{self._prefix(number)}{artifact.artifact_id}"
        self.storage.set_study_system_attr(self.study_id, key, json.dumps(asdict(artifact)))

    def names(self, number: int) -> set[str]:
        """Names of a trial's files."""
        prefix, held = self._prefix(number), self.storage.get_study_system_attrs(self.study_id)
        return {name for key, value in held.items() if key.startswith(prefix) for name in _file_name(value)}

    def _prefix(self, number: int) -> str:
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number)
        return f"dashboard:artifacts:{trial_id}:"


def _file_name(note: object) -> list[str]:
    """The name in a file's record; none where it was removed by hand, or the record is not ours."""
    try:
        item = json.loads(str(note))
    except (ValueError, RecursionError):
        return []
    name = item.get("filename") if isinstance(item, dict) else None
    return [name] if isinstance(name, str) else []


def _description(summary: StudySummary, row: Row) -> bytes:
    record: dict[str, Any] = {"study": summary.name, "trial": row.number, "parameters": dict(row.parameters)}
    record["objectives"] = dict(zip(summary.objectives, row.values, strict=True))
    try:
        space = space_from_dict(summary.space)
        record["config"] = space.decode(space.from_parameters(row.parameters)).to_json()
    except AspkError:
        pass  # a foreign study or trial
    if row.metrics is not None:
        record["metrics"] = row.metrics.scalars()
    return (json.dumps(record, indent=2) + "\n").encode()


def _energy_picture(title: str, metrics: Metrics) -> bytes:
    return png(energy_figure([(title, metrics.layers)]))


def _put_models(shelf: _Shelf, summary: StudySummary, export: Export) -> None:
    missing = [row.number for row in summary.front if not shelf.names(row.number) >= set(EXPORT_FILES)]
    if not missing:
        return
    with tempfile.TemporaryDirectory() as place:
        folders = {number: Path(place) / str(number) for number in missing}
        try:
            export(folders)
        except AspkError as error:
            _LOGGER.warning("no models of the front: %s", error)
            return
        for number, folder in folders.items():
            for name in EXPORT_FILES:
                shelf.put(number, name, (folder / name).read_bytes)


# ---------------------------------------------------------------------- note and figures


def note(summary: StudySummary, selection: Selection | None = None) -> str:
    """The study's question and its progress, as Markdown; without a selection, the default one is shown."""
    told = selection_text(selection or select(summary))
    context = summary.context
    account = _plain(mapping_in(context, "energy").get("name", "?"))
    directions = zip(summary.objectives, summary.directions, strict=True)
    constraints = mapping_in(context, "constraints").items()
    versions = mapping_in(context, "versions").items()
    lines = [
        f"## {_plain(summary.name)}",
        f"Spiking transformers of the space `{_plain(summary.space.get('name', '?'))}`, "
        f"searched by `{_plain(summary.sampler)}`.",
        "",
        f"- objectives: {', '.join(f'{_plain(name)} ({direction})' for name, direction in directions)}",
        *(f"- constraint: {_plain(name)} at most {_plain(bound)}" for name, bound in constraints),
        f"- evaluations: {summary.evaluations}; trials by state: {_states(summary)}",
        f"- feasible front: {len(summary.front)} networks, hypervolume {summary.hypervolume:.4f} of the box "
        "between the anchors",
        *([f"- {told}"] if told else []),
        *(
            [f"- statistics of batch normalisation: {_plain(summary.statistics)}"]
            if summary.statistics
            else []
        ),
        "",
        *_picks(selection or select(summary)),
        *_trained_alone(summary),
        "The pages of the front's trials hold their files: energy, configuration, model. The constraints of "
        "a trial are among its user attributes as relative excess: 0 or below is feasible. This page's own "
        "Pareto plot ignores them; the figures *feasible front* and *hypervolume* do not.",
        "",
        f"Energies are estimates from operation counts under the account `{account}`, not measurements.",
        "",
        f"Versions: {', '.join(f'{_plain(name)} {_plain(version)}' for name, version in versions)}",
    ]
    return "\n".join(lines)


def _picks(selection: Selection) -> list[str]:
    """The named picks as a table, and an empty line; nothing without a front."""
    rows = []
    for pick in selection.picks.values():
        error = "" if pick.standard_error is None else f" ± {pick.standard_error:.4f}"
        inherited = pick.row.inherited
        accuracy = "–" if pick.accuracy is None else f"{pick.accuracy:.4f}{error}"
        accuracy += f" ({inherited[0]:.4f} with inherited weights)" if inherited else ""
        energy = "–" if pick.energy_mj is None else f"{pick.energy_mj:.3g} mJ"
        rows.append(f"| {pick.name} | {pick.row.number} | {accuracy} | {energy} |")
    return ["| take | trial | accuracy | energy |", "|---|---|---|---|", *rows, ""] if rows else []


def _trained_alone(summary: StudySummary) -> list[str]:
    """What the accuracies of a search that trained networks are, and an empty line."""
    if all(row.inherited is None for row in summary.trials):
        return []
    return [
        "Each network was trained alone, once. ± is the standard error due to the number of images; another "
        "seed gives another accuracy.",
        "",
    ]


def _states(summary: StudySummary) -> str:
    return ", ".join(f"{count} {state}" for state, count in summary.states.items()) or "none"


def _plain(text: object) -> str:
    """A name without characters that Markdown would interpret."""
    return re.sub(r"[^\w .,+/-]", "_", str(text))


@dataclass(frozen=True)
class Plot:
    """A Plotly figure as plain values, which is all that the dashboard needs.

    Attributes:
        data: its traces.
        layout: its layout.
    """

    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]

    def to_json(self) -> str:
        """The JSON form of a ``plotly.graph_objects.Figure``."""
        return json.dumps({"data": self.data, "layout": self.layout}, allow_nan=False)


def front_plot(summary: StudySummary, selection: Selection | None = None) -> Plot:
    """All trials by their first two objectives, or the only one over trial number; the front is marked.

    Args:
        summary: the study.
        selection: which network is marked; None is :func:`~aspk.report.selection.select`'s default.
    """
    chosen = (selection or select(summary)).chosen
    on_front = {row.number for row in summary.front}
    groups = {
        "dominated": [row for row in summary.trials if row.feasible and row.number not in on_front],
        "infeasible": [row for row in summary.trials if not row.feasible],
        "feasible front": list(summary.front),
        f"chosen: {chosen.name if chosen else 'none'}": [chosen.row] if chosen else [],
    }
    colours = dict(zip(groups, (PALE, BAD, FRONT, REFERENCE), strict=True))
    traces = []
    for name, rows in groups.items():
        shown = _spread(rows)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"{name} ({len(rows)})",
                "x": [row.values[1] if len(row.values) > 1 else row.number for row in shown],
                "y": [row.values[0] for row in shown],
                "text": [f"trial {row.number}" for row in shown],
                "marker": {"color": colours[name], "symbol": "x" if name == "infeasible" else "circle"},
            }
        )
    traces += _from_inherited(summary)
    known = has_energies(summary)
    axes = ["energy [mJ]" if known and name == "energy" else name for name in summary.objectives]
    return Plot(traces, _layout("feasible front", axes[1] if len(axes) > 1 else "trial", axes[0]))


def _from_inherited(summary: StudySummary) -> list[dict[str, Any]]:
    """Lines from where trained networks were with inherited weights to where they are."""
    moved = [row for row in summary.trials if row.inherited is not None]
    if not moved or summary.objectives != ("accuracy", "energy"):
        return []
    x: list[float | None] = []
    y: list[float | None] = []
    for row in _spread(moved):
        accuracy, energy = row.inherited or (None, None)
        x += [energy, row.values[1], None]  # None ends a line
        y += [accuracy, row.values[0], None]
    named = {"name": "from its place with inherited weights", "mode": "lines", "line": {"width": 1}}
    return [{"type": "scatter", "x": x, "y": y, **named}]


def hypervolume_plot(summary: StudySummary) -> Plot:
    """Hypervolume of the feasible front after each evaluation."""
    points = _spread(list(enumerate(summary.curve, start=1)))
    trace = {
        "type": "scatter",
        "mode": "lines",
        "x": [count for count, _ in points],
        "y": [value for _, value in points],
        "line": {"color": FRONT, "shape": "hv"},
    }
    return Plot([trace], _layout("hypervolume", "evaluations", "share of the box between the anchors"))


def _layout(title: str, x: str, y: str) -> dict[str, Any]:
    return {"title": {"text": title}, "xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}


def _spread(points: Sequence[_Point]) -> Sequence[_Point]:
    """At most :data:`_MOST_POINTS` of the points, evenly spread, including the last one."""
    step = -(-len(points) // _MOST_POINTS) or 1
    return points[::-1][::step][::-1]
