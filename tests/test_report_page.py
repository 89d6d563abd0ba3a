"""The report's page and files: whole, self-contained, and safe with any name in the study."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import optuna
import pytest
from matplotlib.image import imread
from optuna.trial import TrialState, create_trial

from aspk.errors import StudyError
from aspk.report import (
    SELECTIONS,
    StudySummary,
    compare_text,
    pareto_text,
    select,
    summarise,
    write_report,
)
from aspk.report.page import data as page_data
from aspk.trials import attributes
from studies import add_unfinished, made_study, strangers_study

FIGURES = ("front", "hypervolume", "energy", "importance", "genes")
VERSION = json.loads((files("aspk.report") / "assets" / "echarts" / "VERSION.json").read_text())
FORMATS = ("png", "svg", "pdf")
HOSTILE = "<script>alert(1)</script> & \"../../x\" 'y' $\\frac{ \x1b[31m日本\n--> {0}"


class Page(HTMLParser):
    """Checks that tags balance; collects tags, references and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.references: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            assert not name.startswith("on"), name
            if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
                self.references.append(value or "")
            self.references += re.findall(r"url\(([^)]*)\)", value or "")
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def checked(folder: Path, study: optuna.Study, **options: object) -> Page:
    """Write the report, check what every report must keep, and read the page."""
    path = write_report(study, folder, **options)  # type: ignore[arg-type]
    assert path == folder / "report.html"
    single = len(study.directions) == 1
    figures = ("best", "energy", "importance", "genes") if single else FIGURES
    files = {f"{name}.{kind}" for name in figures for kind in FORMATS} | {"report.html", "pareto.csv"}
    assert {file.name for file in folder.iterdir()} - {"network.svg"} == files
    for name in figures:
        pixels = imread(BytesIO((folder / f"{name}.png").read_bytes()), format="png")
        assert min(pixels.shape[:2]) > 80
        assert np.ptp(pixels) > 0.3, f"{name}.png is blank"
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")
    content = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 2e6
    page = Page(content)
    assert page.tags.isdisjoint({"iframe", "link", "img", "object", "embed", "form"})
    assert all(reference.strip("'\"").startswith("#") for reference in page.references)
    assert "not a measurement" in page.text
    only_these_scripts_run(content)
    return page


def only_these_scripts_run(content: str) -> None:
    """The policy names the scripts of the page by their hashes, and allows nothing else."""
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', content)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    scripts = re.findall(r"<script>(.*?)</script>", content, flags=re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert rules.pop("script-src") == " ".join(f"'sha256-{one}'" for one in hashes)
    nothing = "'none'"
    assert rules == {"default-src": nothing, "style-src": "'unsafe-inline'"} | dict.fromkeys(
        ("base-uri", "form-action"), nothing
    )
    assert content.count("<script") == len(scripts) + 1  # and the data, which is no script
    assert hashlib.sha256(scripts[0].encode()).hexdigest() == VERSION["sha256"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    study = made_study(40, budget_mj=0.003)
    add_unfinished(study)
    study.set_user_attr(attributes.VERDICT, "A clear winner.")
    return checked(tmp_path_factory.mktemp("report"), study, others=[made_study(30, sampler="nsga2", seed=1)])


def test_the_page_tells_what_was_found(page: Page) -> None:
    summary = summarise(made_study(40, budget_mj=0.003))
    assert summary.best_f_aeb is not None
    for text in (
        "digits-tiny",
        "A clear winner.",
        f"{summary.hypervolume:.4g}",
        f"Best: {summary.best_f_aeb[0]:.4g}, trial {summary.best_f_aeb[1]}",
        *(f"trial {pick.row.number}: " for pick in select(summary).picks.values()),
        "halving the energy is worth 5.0% of the accuracy above chance",
        "131,040",  # networks of the space
        "version.aspk",
        "sampler.population",
        "1 fail, 1 pruned, 1 running, 1 waiting",
        "Which network should I take?",
        "How sure is that?",
        "What did the search learn?",
        "What is this network?",
        "stem  V 1, τ 2",  # its drawing
    ):
        assert text in page.text
    assert "svg" in page.tags
    for name in SELECTIONS:  # each network once, with all that it is picked as
        assert len(re.findall(rf"trial \d+: [\w, -]*\b{name}\b", page.text)) == 1


@pytest.mark.parametrize("beyond", [-1, 0, 3, 1000])
def test_a_large_study_shows_its_front_and_the_latest_others(
    monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    summary = summarise(made_study(40))
    front = {row.number for row in summary.front}
    monkeypatch.setattr(page_data, "_MOST_TRIALS", len(front) + beyond)
    shown = [row.number for row in page_data._shown(summary, front)]
    others = [row.number for row in summary.trials if row.number not in front]
    assert shown == sorted(front | set(others[len(others) - max(0, min(beyond, len(others))) :]))


def test_dead_and_saturated_sites_are_flagged(page: Page) -> None:
    assert "1 dead, 1 saturated" in page.text
    assert re.search(r"stem\.1[\s\d,.%–]*dead", page.text)
    assert re.search(r"blocks\.0\.fc1[\s\d,.%–]*saturated", page.text)


def test_chosen_trials(tmp_path: Path) -> None:
    study = made_study(6)
    page = checked(tmp_path, study, trials=[4, 1, 4])
    first, second = (re.search(rf"trial {n}: [\w, -]+ 1 dead", page.text) for n in (4, 1))
    assert first.start() < second.start()
    with pytest.raises(StudyError, match=r"no complete trial 9; complete are 0, 1, 2"):
        write_report(study, tmp_path, trials=[9])


def test_a_report_is_replaced_whole(tmp_path: Path) -> None:
    for name in ("morning", "evening"):
        page = checked(tmp_path / "deep" / "folder", optuna.create_study(study_name=name))
    assert "evening" in page.text
    assert "morning" not in page.text


@pytest.mark.parametrize("finished", [False, True])
def test_hostile_names(tmp_path: Path, finished: bool) -> None:
    study = optuna.create_study(study_name=HOSTILE, directions=["maximize", "minimize"])
    study.set_metric_names([HOSTILE, "$x$"])
    study.set_user_attr(
        attributes.SPEC, {"sampler": {"name": HOSTILE}, HOSTILE: [HOSTILE], "nested": {HOSTILE: HOSTILE}}
    )
    study.set_user_attr(attributes.SPACE, {"name": HOSTILE, HOSTILE: 1})
    study.set_user_attr(attributes.VERDICT, HOSTILE)
    study.set_user_attr(attributes.CONTEXT, {"versions": {HOSTILE: HOSTILE}})
    if finished:
        distribution = optuna.distributions.CategoricalDistribution([HOSTILE, "b"])
        base = made_study(1).trials[0].user_attrs
        base[attributes.LAYERS]["name"][0] = HOSTILE
        base[attributes.LAYERS]["kind"][0] = HOSTILE
        for value in (1.0, 2.0):
            study.add_trial(
                create_trial(
                    values=[value, value],
                    params={HOSTILE: HOSTILE},
                    distributions={HOSTILE: distribution},
                    user_attrs=base | {HOSTILE: HOSTILE},
                )
            )
    page = checked(tmp_path / "out", study, others=[study])
    assert "<script>alert(1)</script> &" in page.text  # as text, not as a tag
    assert "\x1b" not in page.text + pareto_text(summarise(study)) + compare_text([summarise(study)])
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "study",
    [
        strangers_study([], "maximize", "minimize"),
        strangers_study([(1.0, 2.0), (2.0, 1.0)], "maximize", "minimize"),
        strangers_study([(3.0,), (1.0,), (2.0,)], "minimize"),
        strangers_study([(1.0, 2.0, 3.0, 4.0, 5.0)], *["minimize"] * 5),
        made_study(8, budget_mj=1e-9),
        made_study(8, objectives=("accuracy", "energy", "parameters")),
        made_study(1, objectives=("accuracy",), anchors=False),
    ],
    ids=["empty", "stranger", "single", "five", "infeasible", "three", "one"],
)
def test_every_kind_of_study(tmp_path: Path, study: optuna.Study) -> None:
    add_unfinished(study)
    summary: StudySummary = summarise(study)
    page = checked(tmp_path, study)
    assert (summary.knee is None) == (summary.front == ())
    assert 0 <= summary.hypervolume <= 1
    complete = len([trial for trial in study.trials if trial.state == TrialState.COMPLETE])
    assert len(summary.curve) == complete
    assert pareto_text(summary)
    assert compare_text([summary])
    if not summary.front:
        assert "there is no front" in page.text
        assert "there is no front" in pareto_text(summary)
