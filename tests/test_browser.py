"""What a person sees: the report and optuna-dashboard in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from aspk.report import write_report
from aspk.space.file import load_space
from aspk.spec.settings import DataSettings
from aspk.spec.study import StudySpec
from aspk.study import run_study, study_problem
from aspk.testing import FormulaEvaluator

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    spec = StudySpec(
        name="seen", space="tiny", data=DataSettings(name="digits"), folder=folder, evaluations=15, batch=5
    )
    problem = study_problem(spec, FormulaEvaluator(load_space("tiny")), classes=10)
    return spec, run_study(spec, problem, progress=False).study


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


def test_the_report_renders(studied, tmp_path):
    _, study = studied
    page = write_report(study, tmp_path / "report")
    text = rendered(page.as_uri(), tmp_path / "profile")
    assert "<svg" in text
    assert "not a measurement" in text
    assert "seen" in text


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
