"""The report's page and files: whole, self-contained, and safe with any name in the study."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

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
from aspk.trials import attributes
from studies import add_unfinished, made_study, strangers_study

FILES = {"report.html", "front.png", "hypervolume.png", "energy.png", "pareto.csv"}
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
    assert {file.name for file in folder.iterdir()} == FILES
    for name in ("front", "hypervolume", "energy"):
        pixels = imread(BytesIO((folder / f"{name}.png").read_bytes()), format="png")
        assert min(pixels.shape[:2]) > 100
        assert np.ptp(pixels) > 0.3, f"{name}.png is blank"
    page = Page(path.read_text(encoding="utf-8"))
    assert page.tags.isdisjoint({"script", "iframe", "link", "img", "object", "embed"})
    assert all(reference.strip("'\"").startswith("#") for reference in page.references)
    assert "not a measurement" in page.text
    return page


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
        f"{summary.best_f_aeb[0]:.4g} trial {summary.best_f_aeb[1]}",
        *(f"trial {pick.row.number}: " for pick in select(summary).picks.values()),
        "halving the energy is worth 5.0% of the accuracy above chance",
        "131,040",  # networks of the space
        "version.aspk",
        "sampler.population",
        "1 fail, 1 pruned, 1 running, 1 waiting",
    ):
        assert text in page.text
    assert "svg" in page.tags
    for name in SELECTIONS:  # each network once, with all that it is picked as
        assert len(re.findall(rf"trial \d+: [\w, -]*\b{name}\b", page.text)) == 1


def test_dead_and_saturated_sites_are_flagged(page: Page) -> None:
    assert "1 dead, 1 saturated" in page.text
    assert re.search(r"stem\.1[\s\d,.%–]*dead", page.text)
    assert re.search(r"blocks\.0\.fc1[\s\d,.%–]*saturated", page.text)


def test_chosen_trials(tmp_path: Path) -> None:
    study = made_study(6)
    page = checked(tmp_path, study, trials=[4, 1, 4])
    assert page.text.index("trial 4 1 dead") < page.text.index("trial 1 1 dead")
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


@pytest.mark.browser
def test_a_browser_shows_the_page(tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium")
    path = write_report(made_study(20), tmp_path / "out")
    shot = tmp_path / "page.png"
    options = "--headless --no-sandbox --disable-gpu --disable-background-networking --window-size=1280,800"
    command = [browser, *options.split(), f"--user-data-dir={tmp_path}/profile", f"--screenshot={shot}"]
    subprocess.run([*command, path.as_uri()], check=True, capture_output=True, timeout=120)
    pixels = imread(BytesIO(shot.read_bytes()), format="png")[..., :3]
    assert pixels.shape[:2] == (800, 1280)
    assert np.ptp(pixels) > 0.5
