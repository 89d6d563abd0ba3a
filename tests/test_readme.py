"""The README is short and names what exists; its examples run in test_docs.py, test_readme_commands.py."""

from __future__ import annotations

import re

from pages import ROOT, blocks, shell_lines

README = ROOT / "README.md"


def test_it_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 120
    script, _ = blocks(README, "python")
    assert len(script.splitlines()) <= 40


def test_make_targets_exist():
    targets = [line.split()[1] for line in shell_lines(README) if line.startswith("make ")]
    made = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert targets == ["demo", "test"]
    assert set(targets) <= set(made)
