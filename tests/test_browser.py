"""What a person sees: the report and optuna-dashboard in a real browser."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from aspk.report import write_report
from aspk.settings import DataSettings
from aspk.space_file import load_space
from aspk.study import question, run_study
from aspk.study_file import StudySpec
from aspk.testing import FormulaEvaluator

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    spec = StudySpec(
        name="seen", space="tiny", data=DataSettings(name="digits"), folder=folder, evaluations=15, batch=5
    )
    asked = question(spec, FormulaEvaluator(load_space("tiny")), classes=10)
    return spec, run_study(spec, asked, progress=False).study


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


def test_optuna_dashboard_shows_the_study(studied, tmp_path):
    spec, study = studied
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = "import sys; from optuna_dashboard._cli import main; sys.exit(main())"
    server = subprocess.Popen(
        [sys.executable, "-c", program, spec.storage_url, "--host", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}/dashboard"
        for _ in range(200):
            try:
                urllib.request.urlopen(address, timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        text = rendered(f"{address}/studies/{study._study_id}", tmp_path / "profile")
        for shown in ("seen", "Pareto Front", "accuracy", "energy", "blocks.0.tau"):
            assert shown in text
    finally:
        server.terminate()
        server.wait(timeout=20)
