"""After 'make demo' every aspk command of every page works as printed, and the Python examples that need it.

The demo runs once, by the Makefile's own lines, with the shipped files cut down. Commands of the README and
of two more pages each run in a copy of what it left, so that none needs another; other pages run in turn.
"""

from __future__ import annotations

import re
import shlex
import shutil
import socketserver
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from data_files import cifar_files, cifar_folder, write_fashion_mnist
from pages import AFTER_COMMANDS, AFTER_DEMO, DOCS, OWN_IMAGES, PAGES, ROOT, TWO_DAYS, blocks, shell_lines
from PIL import Image
from sklearn.datasets import load_digits

import aspk.data.fashion_mnist
import aspk.data.sources
import aspk.spec.paths
import aspk.standalone.job
import aspk.util.shipped
from aspk.cli import main

SHORT = {  # of shipped files: what is cut down, and to what
    "studies/digits.toml": [
        ("evaluations = 150", "evaluations = 15"),  # 'aspk surrogate' needs them
        ("batch = 25", "batch = 7"),
        ("updates = 800", "updates = 4"),
        ("batch_size = 64", "batch_size = 16"),
        ("calibration_images = 192", "calibration_images = 32\nimages = 60"),
        ("[sampler]", "[retrain]\nupdates = 10\nbatch_size = 8\n[sampler]"),
    ],
    "studies/cifar10.toml": [
        ('space = "auto_spikformer"', 'space = "tiny"'),
        ("evaluations = 1000", "evaluations = 6"),
        ("batch = 50", "batch = 3"),
        ("search = 5000", "search = 60"),
        ('recipe = "paper"                #', "updates = 2\nbatch_size = 8  #"),
        ('recipe = "paper"\nupdates = 105000', "updates = 2\nbatch_size = 8"),
        ("calibration_images = 1024", "calibration_images = 16"),
    ],
    "studies/fashion_mnist.toml": [
        ("evaluations = 200", "evaluations = 4"),
        ("batch = 25", "batch = 2"),
        ("updates = 12000", "updates = 2"),
        ("updates = 600", "updates = 2"),
        ("search = 10000", "search = 100"),
        ("images = 4000", "images = 50"),
        ("calibration_images = 256", "calibration_images = 32"),
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
EACH = (ROOT / "README.md", DOCS / "start" / "commands.md", DOCS / "studies.md")  # each command stands alone
OTHERS = [page for page in PAGES if page not in (*EACH, OWN_IMAGES, TWO_DAYS)]
EXIT = {"aspk dashboard": 130}  # ended by Ctrl-C; all others are done by themselves
FEWER = {
    "--networks 40 --seeds 2": "--networks 3 --seeds 2",
    "--networks 24": "--networks 5",
    "--networks 40": "--networks 16",
    "--trainings 24": "--trainings 3",
}


def fewer(line):
    """A command with less to do."""
    for many, few in FEWER.items():
        line = line.replace(many, few)
    return line


def commands():
    """Every aspk command of pages whose commands stand alone, once."""
    lines = [line for page in EACH for line in shell_lines(page) if line.startswith("aspk ")]
    return list(dict.fromkeys(lines))


def examples(page):
    """What a page lets its reader run after the demo, in its order, without what other pages have."""
    text = page.read_text(encoding="utf-8")
    python = [code for code in blocks(page, "python") if code.startswith((AFTER_DEMO, AFTER_COMMANDS))]
    shell = [line for line in shell_lines(page) if line.startswith("aspk ") and line not in commands()]
    return sorted(dict.fromkeys(shell + python), key=lambda code: text.index(code.partition("\n")[0]))


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


def write_cifar(folder):
    (folder / cifar_folder()).mkdir(parents=True)
    for name, content in cifar_files(count=60)[0].items():
        (folder / cifar_folder() / name).write_bytes(content)


@pytest.fixture
def user(after_the_demo, shipped, tmp_path, monkeypatch):
    """A user in a copy of that folder, who has data sets of generated images."""
    for name, write in (("cifar10", write_cifar), ("fashion_mnist", partial(write_fashion_mnist, train=240))):
        write(tmp_path / "data" / name)
    monkeypatch.setattr(aspk.data.sources, "cache_folder", lambda: tmp_path / "data")
    origin = aspk.data.fashion_mnist.ORIGIN
    monkeypatch.setattr(aspk.data.fashion_mnist, "ORIGIN", replace(origin, installed=()))
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


@pytest.mark.timeout(900)  # a few dozen trainings, however short
@pytest.mark.parametrize("page", [page for page in OTHERS if examples(page)], ids=lambda page: page.stem)
def test_a_page_works_after_the_demo(page, user):
    for code in blocks(page, "toml"):
        Path("chip.toml").write_text(code)  # energy.md has one file, which its commands name
    for example in examples(page):
        if example.startswith("aspk "):
            assert user.types(fewer(example)) == 0, example
        else:
            exec(compile(example, page.stem, "exec"), {"__name__": "__main__"})


def test_two_days_as_the_page_says(user):
    for line in shell_lines(TWO_DAYS):
        assert user.types(fewer(line)) == 0, line


def test_a_study_that_is_missing_names_the_option_that_picks_a_sibling(user, capsys):
    assert user.types("aspk report digits --sampler random") == 1
    assert capsys.readouterr().err == (
        "aspk: error: no study 'digits-random' in sqlite:///runs/digits/study.db, but 'digits' with no "
        "--sampler, 'digits-nsga2' with --sampler nsga2, 'digits-evolutionary' with --sampler evolutionary; "
        "'aspk search' makes it\naspk: see docs/errors.md#studyerror\n"
    )
    assert user.types("aspk export digits --sampler nsga2") == 0
