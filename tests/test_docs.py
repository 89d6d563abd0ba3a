"""The documentation: examples run alone, as pasted; commands, links and generated pages are right."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aspk.cli.main import command_parser, main

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
START = sorted((DOCS / "start").glob("*.md"))
OWN_IMAGES = DOCS / "start" / "own_images.md"


# What some examples need that only its reader has; the first is run by another test, after its commands.
NEEDS = ("runs/pets/export-pets", "open_study(", "summarise(study)", "own.npz")
ELSEWHERE = {DOCS / "energy.md"}  # its examples continue one another: test_energy_comparison.py runs them


def examples(language):
    """Every example of a language that stands alone, with the page it stands on."""
    return [
        pytest.param(code, id=f"{page.stem}-{number}")
        for page in PAGES
        if page not in ELSEWHERE and page.parent.name != "reference"
        for number, code in enumerate(
            re.findall(
                rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
            )
        )
        if not any(need in code for need in NEEDS)
    ]


@pytest.mark.parametrize("code", examples("python"))
def test_examples_run_alone(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "example", "exec"), {"__name__": "__main__"})
    assert bool(capsys.readouterr().out) == ("print(" in code)


def test_every_command_is_understood():
    lines = [
        line.split("#")[0].strip()
        for page in PAGES
        for block in re.findall(
            r"^\s*```sh\n(.*?)^\s*```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        )
        if "$" not in block
        for line in block.splitlines()
    ]
    commands = [line for line in lines if line.startswith("aspk ") and " --help" not in line]
    assert len(commands) > 20
    for command in commands:
        assert callable(command_parser().parse_args(shlex.split(command)[1:]).run), command


def test_links_lead_somewhere():
    generated = importlib.import_module("generated")
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            path = (page.parent / target).resolve()
            made = path.parent == DOCS / "reference" and path.stem in generated.pages()
            assert target.startswith("http") or path.exists() or made, (page.name, target)


@pytest.fixture(autouse=True)
def _builder(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))


def test_pages_that_follow_from_the_code_know_every_name():
    from aspk.energy import PRESETS
    from aspk.objectives import OBJECTIVES
    from aspk.space.genes import GENES

    pages = importlib.import_module("generated").pages()
    for page, names in (("genes", GENES), ("objectives", OBJECTIVES), ("accounts", PRESETS)):
        assert names
        assert all(f"`{name}`" in pages[page] for name in names), page
    for row in re.findall(r"^\| `(\w+)` \| \w+ \| \w* \| (.*) \|$", pages["genes"], re.MULTILINE):
        assert row[1], f"gene {row[0]} has no description in its class's docstring"
    assert all(f"## {name}\n" in pages["commands"] for name in command_parser().commands.examples)
    assert "### `[evaluation]`" in pages["keys"]


def test_own_images_as_the_page_says(tmp_path, monkeypatch, capsys):
    """The page's study file and commands, on small generated pictures and with few updates."""
    text = OWN_IMAGES.read_text(encoding="utf-8")
    (study,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (commands,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    for old, new in (
        ("updates = 2000", "updates = 4"),
        ("evaluations = 150", "evaluations = 6"),
        ("batch = 25", "batch = 3"),
    ):
        assert old in study
        study = study.replace(old, new)
    (tmp_path / "pets.toml").write_text(study)
    rng = np.random.default_rng(0)
    for name, shade in (("cats", 60), ("dogs", 180)):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(230):
            pixels = np.clip(rng.normal(shade, 30, (20, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    for line in commands.splitlines():
        assert main(shlex.split(line.split("#")[0])[1:]) == 0, line
    assert "cats" in capsys.readouterr().out
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(example, "example", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.split()[0] in ("cats", "dogs")
    assert (tmp_path / "runs" / "pets" / "report-pets" / "report.html").is_file()
