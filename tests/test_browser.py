"""What a person sees: the report and optuna-dashboard in a real browser."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import optuna
import pytest
from browser import CHROMIUM, Browser
from matplotlib.image import imread

from aspk.report import summarise, write_comparison, write_report
from aspk.trials import attributes
from studies import made_study

pytestmark = pytest.mark.browser
HOSTILE = """<img src=x onerror="window.attacked=1"></script><script>window.attacked=1</script> '" ${0} `"""


def rendered(url, folder):
    """The page as the browser has it after its scripts ran."""
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    command += [
        "--no-first-run",
        "--disable-sync",
        f"--user-data-dir={folder}",
        "--virtual-time-budget=20000",
    ]
    result = subprocess.run(
        [*command, "--dump-dom", url], capture_output=True, text=True, timeout=120, check=True
    )
    return result.stdout


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def report(browser, tmp_path):
    """The report of a study in the browser; whatever a test does, the console stays silent."""
    page = write_report(made_study(40, budget_mj=0.001), tmp_path / "report", command="seen.toml --sampler x")
    browser.console.clear()
    browser.requests.clear()
    browser.resize(1400)
    browser.open(page.as_uri())
    yield browser
    assert browser.console == []
    assert set(browser.requests) == {page.as_uri()}


def place(browser, trial):
    """Where a trial's point of the first figure is in the window."""
    return browser.ask(
        """((number) => {
            const figure = document.getElementById("front"), box = figure.querySelector(".live");
            figure.scrollIntoView();
            const { x, y } = Page.state, trial = Charts.byNumber.get(number);
            const [left, top] = Page.live.front.convertToPixel("grid", [trial.v[x], trial.v[y]]);
            const edge = box.getBoundingClientRect();
            return [edge.left + left, edge.top + top];
        })"""
        f"({trial})"
    )


def alone(browser):
    """A trial of the front whose point no other covers: the cheapest one."""
    return browser.ask("Charts.data.front[0]")


def test_hovering_shows_a_network(report):
    trial = alone(report)
    report.mouse(*place(report, trial))
    said = report.ask('document.querySelector("#front .tip").textContent')
    row = report.ask(f"Charts.byNumber.get({trial}).v")
    assert said.startswith(f"trial {trial}")
    assert "embed_dim = " in said
    assert "energy [" in said
    assert len(row) >= 2


def test_selecting_a_network_shows_its_drawing_and_its_row(report):
    trial = alone(report)
    report.mouse(*place(report, trial), click=True)
    shown = report.ask(
        """[...document.querySelectorAll("details.network")].filter((one) => !one.hidden).map(
            (one) => [Number(one.dataset.trial), one.open, one.querySelectorAll("svg.diagram").length])"""
    )
    assert shown == [[trial, True, 1]]
    row = '[...document.querySelectorAll("#trials tr.selected")].map((one) => Number(one.dataset.trial))'
    assert report.ask(row) == [trial]
    other = report.ask('Number(document.querySelectorAll("#trials tr[data-trial]")[1].dataset.trial)')
    report.ask('document.querySelectorAll("#trials tr[data-trial]")[1].click()')
    assert report.ask("Page.state.selected") == other
    dominated = report.ask('(Charts.data.trials.find((one) => one.k === "dominated") || {}).n')
    report.ask(f"Page.select({dominated})")
    assert f"trial {dominated}" in report.ask('document.querySelector(".unlisted").textContent')


def test_the_table_is_sorted_filtered_and_copied(report):
    rows = '[...document.querySelectorAll("#trials .live tbody tr")].map((one) => Number(one.dataset.trial))'
    report.ask('document.querySelector("#trials input[type=checkbox]").click()')
    every = report.ask(rows)
    assert len(every) == 40
    for falling in (False, True):
        report.ask('document.querySelectorAll("#trials th button")[0].click()')
        assert report.ask(rows) == sorted(every, reverse=falling)
    report.ask(
        """(() => {
            const box = document.querySelector("#trials input[type=search]");
            box.value = "depth=1 embed_dim<48";
            box.dispatchEvent(new Event("input"));
        })()"""
    )
    kept = report.ask(
        """Charts.data.trials.filter((one) => Charts.genes(one).includes("depth = 1")
            && Charts.genes(one).some((gene) => /embed_dim = (24|32)$/.test(gene))).map((one) => one.n)"""
    )
    assert sorted(report.ask(rows)) == sorted(kept)
    report.ask("window.copied = []; navigator.clipboard.writeText = async (words) => copied.push(words); 0")
    report.ask('document.querySelector(".picks .command button").click()')
    (copied,) = report.ask("copied")
    assert copied == f"aspk export seen.toml --sampler x --trial {report.ask('Charts.data.chosen')}"


def test_other_axes_and_ranges_of_the_axes(report):
    report.ask(
        """(() => {
            const [x] = document.querySelectorAll(".tools select");
            x.value = [...x.options].find((one) => one.text === "parameters").value;
            x.onchange();
        })()"""
    )
    assert report.ask("Page.live.front.getOption().xAxis[0].name") == "parameters"
    before = report.ask('document.querySelectorAll("#trials .live tbody tr").length')
    report.ask(
        """(() => {
            const chart = Page.live.parallel, axis = chart.getModel().getComponent("parallelAxis", 0);
            const about = { parallelAxisIndex: 0, parallelAxisId: axis.id, intervals: [[-0.1, 0.1]] };
            chart.dispatchAction({ type: "axisAreaSelect", ...about });
        })()"""
    )
    kept = report.ask("Page.state.kept && Page.state.kept.size")
    assert 0 < kept < 40
    assert report.ask('document.querySelectorAll("#trials .live tbody tr").length') <= before


@pytest.mark.parametrize("dark", [False, True])
def test_a_telephone_shows_the_page_without_scrolling_sideways(report, dark):
    report.resize(400, dark=dark)
    report.open(report.requests[0])
    assert report.ask("document.documentElement.scrollWidth") == 400
    assert report.ask("getComputedStyle(document.body).backgroundColor") == (
        "rgb(13, 17, 23)" if dark else "rgb(255, 255, 255)"
    )
    narrow = report.ask(
        """[...document.querySelectorAll("svg.diagram")].map((one) => one.getBoundingClientRect().width)
            .filter((width) => width > 0)"""
    )
    assert len(narrow) == 1
    assert narrow[0] > 300


def test_without_scripts_the_figures_are_there(browser, tmp_path):
    page = write_report(made_study(40), tmp_path / "report")
    browser.resize(1400)
    browser.open(page.as_uri(), scripts=False)
    text = rendered(page.as_uri(), tmp_path / "profile")
    picture = imread(browser.picture(tmp_path / "page.png", whole=True))[..., :3]
    assert picture.shape[0] > 2500
    assert np.ptp(picture) > 0.5
    assert "not a measurement" in text
    assert text.count("<svg") > 5


def test_hostile_names_run_nothing(browser, tmp_path):
    study = made_study(30, name=HOSTILE)
    study.set_user_attr(attributes.VERDICT, HOSTILE)
    for trial in study.trials[:3]:
        study.add_trial(
            optuna.trial.create_trial(
                values=trial.values,
                params={HOSTILE: HOSTILE},
                distributions={HOSTILE: optuna.distributions.CategoricalDistribution([HOSTILE, "b"])},
                user_attrs=trial.user_attrs,
            )
        )
    page = write_report(study, tmp_path / "out", command=HOSTILE)
    browser.console.clear()
    browser.open(page.as_uri())
    shown = browser.ask("document.title + document.body.innerText")
    assert "<img src=x onerror=" in shown
    browser.mouse(*place(browser, alone(browser)), click=True)
    assert browser.ask("window.attacked") is None
    assert browser.console == []


def test_studies_side_by_side(browser, tmp_path):
    path = tmp_path / "studies.html"
    studies = [made_study(30, sampler=name, seed=seed) for seed, name in enumerate(("random", "nsga2"))]
    write_comparison([summarise(study) for study in studies], path)
    browser.console.clear()
    browser.resize(1400)
    browser.open(path.as_uri())
    assert browser.ask("Object.keys(Page.live)") == ["fronts", "progress"]
    assert browser.ask("Page.live.fronts.getOption().series.map((one) => one.name)") == ["random", "nsga2"]
    assert browser.console == []


@pytest.fixture(scope="module")
def served(tmp_path_factory, write_study_file):
    """``aspk dashboard`` on a small constrained study; the address it printed."""
    study_file = write_study_file(tmp_path_factory.mktemp("served"))
    text = study_file.read_text().replace("[evaluation]", "[constraints]\nenergy = 0.0002\n[evaluation]")
    study_file.write_text(text)
    command = [sys.executable, "-m", "aspk"]
    subprocess.run([*command, "search", str(study_file)], check=True, timeout=120, capture_output=True)
    server = subprocess.Popen(
        [*command, "dashboard", str(study_file), "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        # A shell has the commands that it starts in the background ignore SIGINT, and these hand that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # no threads here
    )
    try:
        yield re.match(r"(http://127.0.0.1:\d+/dashboard/studies/\d+) shows small", server.stdout.readline())[
            1
        ]
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=20) == 130
    finally:
        server.kill()


def test_aspk_dashboard_shows_the_study_its_front_and_an_artifact(served, tmp_path):
    text = rendered(served, tmp_path / "profile")
    for shown in (
        "small",
        "Pareto Front",
        "accuracy",
        "energy [mJ]",
        "feasible front",
        "hypervolume",
        "chosen: cheapest",
    ):
        assert shown in text
    api = served.replace("/dashboard/", "/api/")
    with urllib.request.urlopen(api, timeout=10) as answer:
        detail = json.load(answer)
    (trial, *_) = [trial for trial in detail["trials"] if trial["artifacts"]]
    assert {item["filename"] for item in trial["artifacts"]} == {
        "config.json",
        "energy.png",
        "network.json",
        "network.safetensors",
    }
    page = rendered(f"{served}/trials?numbers={trial['number']}", tmp_path / "profile")
    assert "aspk:constraints" in page
    assert "network.safetensors" in page
    (picture,) = re.findall(r'<img[^>]* src="(/artifacts/[^"]+)"', page)
    with urllib.request.urlopen(urllib.parse.urljoin(served, picture), timeout=10) as answer:
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.read(4) == b"\x89PNG"
    note = rendered(f"{served}/note", tmp_path / "profile")
    assert "constraint: energy at most 0.0002" in note


def test_other_machines_cannot_reach_the_dashboard(served):
    port = int(re.search(r":(\d+)/", served)[1])
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    addresses = [row[1] for row in listening if row[3] == "0A" and row[1].endswith(f":{port:04X}")]
    assert addresses == [f"0100007F:{port:04X}"]
