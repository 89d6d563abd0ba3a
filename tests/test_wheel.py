"""The wheel, installed elsewhere, works outside the clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("aspk", "search_spaces", "studies"):  # a copy: building leaves files behind
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    # the build tools of the test environment: a fresh build environment would need the network
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation"]
    command += ["--outdir", str(folder), str(source)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_has_the_data_files_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    shipped = {"aspk/search_spaces/tiny.toml", "aspk/search_spaces/auto_spikformer.toml", "aspk/py.typed"}
    code = (path for path in (ROOT / "aspk").rglob("*") if path.suffix in (".py", ".cpp", ".h"))
    modules = {str(path.relative_to(ROOT)) for path in code}
    data = {str(Path("aspk") / path.relative_to(ROOT)) for path in (ROOT / "studies").rglob("*.*")}
    assert {"aspk/engines/spikes/program.cpp", "aspk/families/native/kernels/neurons.cpp"} <= modules
    shipped |= data
    tables = {str(path.relative_to(ROOT)) for path in (ROOT / "aspk" / "tables" / "data").rglob("*.npz")}
    trained = {f"aspk/tables/data/trained/{name}_trained.npz" for name in ("digits", "cifar")}
    assert trained | {"aspk/tables/data/mnist_mixed.npz"} <= tables
    shipped |= tables
    report = {str(path.relative_to(ROOT)) for path in (ROOT / "aspk/report/assets").rglob("*.*")}
    assert {"aspk/report/assets/echarts/echarts.min.js", "aspk/report/assets/page.js"} < report
    shipped |= report | {"aspk/report/assets/echarts/LICENSE", "aspk/report/assets/echarts/NOTICE"}
    assert shipped | modules <= set(names)
    assert not [name for name in names if "test_" in name or name.startswith("tests")]


def test_commands_work_outside_the_clone(wheel, tmp_path):
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    install = [
        "--python",
        str(environment / "bin" / "python"),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    subprocess.run([sys.executable, "-m", "pip", *install, str(wheel)], check=True)
    # aspk comes from the wheel; the libraries it stands on, gigabytes of them, are those of this environment
    where = {"base": str(environment), "platbase": str(environment)}
    libraries = Path(sysconfig.get_path("purelib", vars=where)) / "libraries.pth"
    libraries.write_text(sysconfig.get_path("purelib") + "\n")
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(program, *arguments):
        command = [str(environment / "bin" / program), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=clean, check=False)
        assert result.returncode == 0, result.stderr
        return result.stdout

    assert str(environment) in run("python", "-c", "import aspk; print(aspk.__file__)")
    assert "8,659,768,320 networks" in run("aspk", "space", "auto_spikformer")
    (tmp_path / "short.toml").write_text(
        """
        space = "tiny"
        data = "digits"
        folder = "run"
        evaluations = 4
        [train]
        updates = 2
        batch_size = 16
        [evaluation]
        calibration_images = 16
        """
    )
    for command in ("train", "search", "report", "export"):
        run("aspk", command, "short.toml")
    assert (tmp_path / "run" / "report-short" / "report.html").exists()
    assert "test accuracy" in run("aspk", "evaluate", "run/export-short")
