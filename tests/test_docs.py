"""The documentation: examples run alone, as pasted; commands, links and generated pages are right."""

from __future__ import annotations

import argparse
import importlib
import re
import runpy
import shlex
import subprocess
import sys

import numpy as np
import pytest
from pages import AFTER_COMMANDS, AFTER_DEMO, DOCS, OWN_IMAGES, PAGES, ROOT, blocks, shell_lines
from PIL import Image

from aspk import errors
from aspk.cli.main import command_parser, main
from aspk.spec.study import load_study_file

PROGRAMS = {  # what shell examples start, and where it runs
    "aspk": "test_readme_commands.py, test_own_images_as_the_page_says",
    "make": "test_readme.py: the targets exist; the demo's lines in test_readme_commands.py",
    "torchrun": "test_distributed.py",
    "python": "the measurements, whose options are read below; parts of them in test_benchmark_*.py",
    "apt-get": "the system's",
    ".": "the shell's",
}


def examples(language):
    """Every example of a language, with the page it is on."""
    return [
        pytest.param(code, id=f"{page.relative_to(ROOT)}-{number}")
        for page in PAGES
        for number, code in enumerate(blocks(page, language))
    ]


def alone():
    """Python examples that need nothing before them; test_readme_commands.py runs the others."""
    leaning = (AFTER_DEMO, AFTER_COMMANDS)
    return [case for case in examples("python") if not case.values[0].startswith(leaning)]


@pytest.mark.parametrize("code", alone())
def test_examples_run_alone(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "hub/package" in code:  # a page that is read in the repository's folder
        (tmp_path / "hub").symlink_to(ROOT / "hub")
    exec(compile(code, "example", "exec"), {"__name__": "__main__"})
    assert bool(capsys.readouterr().out) == ("print(" in code)


def test_every_example_is_in_a_language_that_is_tested():
    for page in PAGES:
        found = set(re.findall(r"^ *```([^\s`{]*)(?=.*\n.)", page.read_text(encoding="utf-8"), re.MULTILINE))
        assert found <= {"", "python", "sh", "toml", "text"}, (page, found)


@pytest.mark.parametrize("code", examples("toml"))
def test_tables_of_a_study_are_understood(code, tmp_path):
    """A whole study, or some of its keys, or an account of ``--model``."""
    if "name =" not in code.partition("[")[0]:
        table = "[energy]\n" if code.startswith("preset") else ""
        code = f'name = "own"\nspace = "tiny"\ndata = "digits"\n{table}{code}'
    (tmp_path / "own.toml").write_text(code)
    assert load_study_file(tmp_path / "own.toml").name


@pytest.mark.parametrize("code", [case for case in examples("sh") if case.values[0].startswith("#!")])
def test_scripts_are_read_by_the_shell(code):
    subprocess.run(["bash", "-n"], input=code, text=True, check=True)
    (command,) = re.findall(r"-m aspk (.*)", code)
    assert callable(command_parser().parse_args(shlex.split(command)).run)


def test_programs_are_known():
    lines = [line for page in PAGES for line in shell_lines(page)]
    assert {line.split()[0] for line in lines} == set(PROGRAMS)


class Understood(Exception):  # noqa: N818  # no error
    """Arguments were read."""


@pytest.mark.parametrize(
    "line",
    sorted({line for page in PAGES for line in shell_lines(page) if line.startswith("python benchmarks/")}),
)
def test_measurements_understand_their_options(line, monkeypatch):
    """The commands that figures are given with; most of them take minutes to hours."""
    read = argparse.ArgumentParser.parse_args

    def parse_args(parser, *arguments, **options):
        read(parser, *arguments, **options)
        raise Understood

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.setattr(sys, "argv", shlex.split(line)[1:])
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.chdir(ROOT)
    with pytest.raises(Understood):
        runpy.run_path(str(ROOT / shlex.split(line)[1]), run_name="__main__")


def test_every_command_is_understood():
    lines = [line for page in PAGES for line in shell_lines(page)]
    commands = [line for line in lines if line.startswith("aspk ") and " --help" not in line]
    assert len(commands) > 50
    for command in commands:
        assert callable(command_parser().parse_args(shlex.split(command)[1:]).run), command


def anchors(text):
    """The anchors of a page's headings, as GitHub and MyST make them."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_lead_somewhere():
    pages = importlib.import_module("generated").pages()
    made = {DOCS / "reference" / f"{name}.md": text for name, text in pages.items()}
    count = 0
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if target.startswith("http"):
                continue
            name, _, anchor = target.partition("#")
            path = (page.parent / name).resolve() if name else page
            assert path.exists() or path in made, (page.name, target)
            if anchor:
                text = made.get(path) or path.read_text(encoding="utf-8")
                assert anchor in anchors(text), (page.name, target)
            count += 1
    assert count > 100


def test_the_short_page_of_the_search_has_the_figures_of_the_long_one():
    row = re.compile(r"^\| ([`\w].*?) \|(.*)\|$", re.MULTILINE)
    long = dict(row.findall((DOCS / "measured_search.md").read_text(encoding="utf-8").partition("```")[0]))
    short = row.findall((DOCS / "measured.md").read_text(encoding="utf-8"))[1:]  # without the heading
    assert len(short) == 7
    for name, cells in short:
        figures = [cell.strip() for cell in cells.split("|")]
        assert figures == [re.sub(r" \(.*", "", cell).strip() for cell in long[name].split("|")[:4]]


def test_no_page_has_the_name_of_one_that_sphinx_writes():
    assert not {"search", "genindex", "py-modindex"} & {page.stem for page in PAGES}


def test_every_error_has_its_place():
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert sections == sorted(kind.__name__ for kind in classes)
    for kind in classes:
        page, _, anchor = kind("").page.partition("#")
        assert anchor in anchors((ROOT / page).read_text(encoding="utf-8"))
    own = type("Own", (errors.DataError,), {})
    assert own("").page == "docs/errors.md#dataerror"


def test_a_command_says_where_its_error_is_explained(capsys):
    assert main(["report", "digit"]) == 1
    message, place = capsys.readouterr().err.splitlines()
    assert message.startswith("aspk: error: no study 'digit'")
    assert place == "aspk: see docs/errors.md#studyerror"


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
