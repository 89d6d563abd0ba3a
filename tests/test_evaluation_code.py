"""The source that an evaluation's results depend on, found by its imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import aspk
from aspk.evaluation import code

PACKAGE = Path(aspk.__file__).parent
EVALUATION = """
import sys
from aspk.data import generated_data
from aspk.evaluation.supernet import SupernetEvaluator
from aspk.families import Supernet
from aspk.space.file import load_space
from aspk.spec.settings import DataSettings, EvaluationSettings

space = load_space("tiny")
data = generated_data(DataSettings(name="digits"), 8, frames=1)
supernet = Supernet(space, shape=data.shape, classes=data.classes).eval()
evaluator = SupernetEvaluator(supernet, data, settings=EvaluationSettings(calibration_images=8))
evaluator.evaluate([space.smallest])
evaluator.network(space.smallest)
print("|", *(module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "aspk"))
"""


def test_every_module_that_an_evaluation_loads_is_found():
    """The oracle is Python itself: what stands in sys.modules when a process has evaluated something."""
    done = subprocess.run(
        [sys.executable, "-c", EVALUATION], capture_output=True, text=True, check=True, timeout=120
    )
    loaded = {Path(file) for file in done.stdout.rpartition("|")[2].split()}
    found = set(code.source_files("aspk.evaluation.supernet"))
    assert len(loaded) > 50
    assert loaded - found <= {PACKAGE / "__init__.py", PACKAGE / "util" / "moved.py"}  # which offer names
    kernels = {path for path in PACKAGE.rglob("*") if path.suffix in (".cpp", ".h")}
    assert kernels
    assert found >= kernels


def test_what_no_evaluation_needs_is_not_found():
    found = {path.relative_to(PACKAGE).parts[0] for path in code.source_files("aspk.evaluation.supernet")}
    assert found & {"samplers", "surrogate", "study", "report", "cli", "standalone", "training"} == set()


@pytest.fixture
def package(tmp_path):
    """A package with every form of import."""
    files = {
        "p/__init__.py": "import p.offered",
        "p/offered.py": "",
        "p/start.py": "import os, json\nimport p.plain\nfrom p.below import module\nfrom p import beside",
        "p/plain.py": "def f():\n    from p.late import name",
        "p/late.py": "FAMILY = 'p.by_string:Class'\nSENTENCE = 'see p.not_imported: it is not'",
        "p/by_string.py": "",
        "p/not_imported.py": "",
        "p/beside.py": "import p.start  # round in a circle",
        "p/below/__init__.py": "import typing as t\nif t.TYPE_CHECKING:\n    from p.lazy import Name",
        "p/below/module.py": "from . import near\nfrom .deep import x\nfrom ..above import y",
        "p/below/near.py": "",
        "p/below/deep/__init__.py": "",
        "p/below/kernels/a.cpp": "",
        "p/below/kernels/b.h": "",
        "p/below/kernels/notes.txt": "",
        "p/lazy.py": "import q",
        "p/above.py": "",
        "p/other/__init__.py": "",
        "p/other/c.cpp": "",
        "q.py": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_every_form_of_import_is_followed(package):
    found = [path.relative_to(package).as_posix() for path in code.source_files("p.start", root=package)]
    assert found == [
        "p/above.py",
        "p/below/__init__.py",
        "p/below/deep/__init__.py",
        "p/below/kernels/a.cpp",
        "p/below/kernels/b.h",
        "p/below/module.py",
        "p/below/near.py",
        "p/beside.py",
        "p/by_string.py",
        "p/late.py",
        "p/lazy.py",
        "p/plain.py",
        "p/start.py",
    ]


def test_the_hash_follows_every_file_and_its_name(package, monkeypatch):
    monkeypatch.setattr(code, "_ROOT", package)
    monkeypatch.setattr(code, "source_files", lambda module: sorted(package.rglob("*.py")))

    def now():
        code.code_hash.cache_clear()
        return code.code_hash("p.start")

    before = now()
    assert now() == before
    (package / "p" / "above.py").write_text("changed = 1")
    changed = now()
    assert changed != before
    (package / "p" / "above.py").rename(package / "p" / "renamed.py")
    assert now() not in (before, changed)
    code.code_hash.cache_clear()
