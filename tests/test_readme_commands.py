"""After 'make demo' every command of the README and of two more pages works as printed.

The demo runs once, by the Makefile's own lines, with the shipped files cut down; each command then runs in a
copy of what it left, so that none needs another.
"""

from __future__ import annotations

import re
import shlex
import shutil
import socketserver
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

import aspk.spec.paths
import aspk.standalone.job
import aspk.util.shipped
from aspk.cli import main

ROOT = Path(__file__).resolve().parent.parent
SHORT = {  # of shipped files: what is cut down, and to what
    "studies/digits.toml": [
        ("evaluations = 150", "evaluations = 15"),  # 'aspk surrogate' needs them
        ("batch = 25", "batch = 7"),
        ("updates = 800", "updates = 4"),
        ("batch_size = 64", "batch_size = 16"),
        ("calibration_images = 192", "calibration_images = 32\nimages = 60"),
        ("[sampler]", "[retrain]\nupdates = 2\nbatch_size = 8\n[sampler]"),
    ],
    "search_spaces/digits_heads.toml": [
        ("[24, 32, 48, 64]", "[64]"),
        ("[1, 2]", "[2]"),
        ("[1, 2, 3, 4]", "[4]"),
        ("[1, 1.5, 2]", "[2]"),
        ("[1.25, 2, 4]", "[2]"),
        ("[0.6, 0.8, 1.0, 1.2, 1.4]", "[0.8, 1.0]"),
    ],
}
PAGES = ("README.md", "docs/start/commands.md", "docs/studies.md")
EXIT = {"aspk dashboard": 130}  # ended by Ctrl-C; all others are done by themselves


def shell_lines(text):
    """The lines of a page's shell examples, without comments and what belongs to a loop."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [
        line.split("#")[0].strip() for block in blocks if "$" not in block for line in block.splitlines()
    ]
    return [line for line in lines if line]


def commands():
    """Every aspk command of these pages, once."""
    pages = [(ROOT / name).read_text(encoding="utf-8") for name in PAGES]
    lines = [line for page in pages for line in shell_lines(page) if line.startswith("aspk ")]
    return list(dict.fromkeys(lines))


def demo_commands():
    """What 'make demo' runs, as a user would type it."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    names = dict(re.findall(r"^(\w+) := (.*)$", text, re.MULTILINE))
    (recipe,) = re.findall(r"^demo: \.venv.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    lines = re.sub(r"\$\((\w+)\)", lambda match: names[match[1]], recipe).splitlines()
    return [line.strip().removeprefix(".venv/bin/") for line in lines if line.startswith("\t.venv/bin/aspk ")]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The shipped files, cut down."""
    folder = tmp_path_factory.mktemp("shipped")
    for name in ("studies", "search_spaces"):
        shutil.copytree(ROOT / name, folder / name)
    for name, changes in SHORT.items():
        text = (folder / name).read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


class User:
    """Somebody who types commands."""

    def __init__(self, shipped, monkeypatch):
        def shipped_files(kind):
            return {path.stem: path for path in sorted((shipped / kind).glob("*.toml"))}

        for module in (aspk.util.shipped, aspk.spec.paths):
            monkeypatch.setattr(module, "shipped_files", shipped_files)
        bind = socketserver.TCPServer.server_bind

        def on_a_free_port(server):  # 8080 may be taken here
            server.server_address = (server.server_address[0], 0)
            bind(server)

        def in_turn(function, items, *, workers):  # no processes that load torch once more
            return (function(item) for item in items)

        def interrupted(server):
            raise KeyboardInterrupt

        monkeypatch.setattr(aspk.standalone.job, "results_of", in_turn)
        monkeypatch.setattr(socketserver.TCPServer, "server_bind", on_a_free_port)
        monkeypatch.setattr(socketserver.BaseServer, "serve_forever", interrupted)

    def types(self, line):
        try:
            return main(shlex.split(line)[1:])
        except SystemExit as end:  # 'aspk optuna --help'
            return end.code or 0


@pytest.fixture(scope="module")
def after_the_demo(shipped, tmp_path_factory):
    """The folder that the demo leaves."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        user = User(shipped, monkeypatch)
        for line in demo_commands():
            assert user.types(line) == 0, line
    return folder


@pytest.fixture
def user(after_the_demo, shipped, tmp_path, monkeypatch):
    """A user in a copy of that folder."""
    shutil.copytree(after_the_demo, tmp_path / "demo")
    three = load_digits().images[3]  # the picture of their own that 'aspk predict' looks at
    Image.fromarray((three * 255 / 16).astype("uint8")).save(tmp_path / "demo" / "three.png")
    monkeypatch.chdir(tmp_path / "demo")
    return User(shipped, monkeypatch)


def test_the_demo_and_the_pages_have_commands():
    assert len(demo_commands()) == 8
    assert demo_commands()[0] == "aspk train digits --check 32"
    assert {"aspk report digits", "aspk rank digits --workers 2", "aspk dashboard digits"} <= set(commands())


@pytest.mark.parametrize("line", commands())
def test_a_command_works_after_the_demo(line, user, capsys):
    expected = EXIT.get(" ".join(line.split()[:2]), 0)
    assert user.types(line) == expected, capsys.readouterr().err


def test_a_study_that_is_missing_names_the_option_that_picks_a_sibling(user, capsys):
    assert user.types("aspk report digits --sampler random") == 1
    assert capsys.readouterr().err == (
        "aspk: error: no study 'digits-random' in sqlite:///runs/digits/study.db, but 'digits' with no "
        "--sampler, 'digits-nsga2' with --sampler nsga2, 'digits-evolutionary' with --sampler evolutionary; "
        "'aspk search' makes it\n"
    )
    assert user.types("aspk export digits --sampler nsga2") == 0
