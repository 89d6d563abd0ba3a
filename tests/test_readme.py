"""The README and docs/studies.md stay true: Python examples run, commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from aspk.cli.main import command_parser

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
STUDIES = (ROOT / "docs" / "studies.md").read_text(encoding="utf-8")
SHELL = [
    line.split("#")[0].strip()
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", TEXT + STUDIES, re.DOTALL)
    for line in block.splitlines()
    if line.split("#")[0].strip() and "$" not in line  # the loop with variables runs in test_live_commands.py
]


def test_there_is_something_to_check():
    assert len(PYTHON) >= 2
    assert "make demo" in SHELL
    assert "make test" in SHELL


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_python_examples_run(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out


def test_aspk_commands_are_understood():
    commands = [line for line in SHELL if line.startswith("aspk ")]
    assert commands
    for command in commands:
        assert callable(command_parser().parse_args(shlex.split(command)[1:]).run), command


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 120


def test_make_targets_exist():
    targets = [line.split()[1] for line in SHELL if line.startswith("make ")]
    made = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert targets
    assert set(targets) <= set(made)


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXT):
        assert target.startswith("http") or (ROOT / target).exists(), target
