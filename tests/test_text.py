"""What others wrote stays text: in terminals, in tables, and in spreadsheets."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import json
import sys
from pathlib import Path

import optuna
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tqdm import tqdm

from aspk.cli import main
from aspk.cli.terminal import show
from aspk.energy import PRESETS, energy_csv
from aspk.report import pareto_text, summarise
from aspk.report.tables import csv_text
from aspk.util.progress import ProgressBar
from aspk.util.text import PlainStream, printable, to_csv
from studies import made_study

FORMULAS = (
    "=1+1",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "=cmd|'/c calc'!A1",
    " =1",
    "＝1",
    "a;=1",
    "a\n=1",
    "a\t@x",
    "a\r\n=1",
)
SIGNS = "=+-@＝＋－＠"
texts = st.text(
    st.sampled_from([*SIGNS, "a", "1", ";", ",", "\t", "\n", "\r", " ", '"', "'", "\x1b", "\u202e"]),
    max_size=9,
)


def cells(text):
    """The cells that a spreadsheet makes of a file, whichever sign it takes for the separator."""
    for separator in ",;\t":
        for row in csv.reader(io.StringIO(text), delimiter=separator):
            yield from row
    for line in text.splitlines():  # one that knows no quotes
        yield from line.replace('"', "").replace(";", "\t").split("\t")


def is_formula(cell):
    start = cell.lstrip(" ")[:1]
    with contextlib.suppress(ValueError):
        float(cell)
        return False
    return bool(start) and start in SIGNS


# ---------------------------------------------------------------------- spreadsheets


@given(st.lists(texts, min_size=1, max_size=3))
def test_no_text_becomes_a_formula(row):
    text = to_csv([row])
    assert not [cell for cell in cells(text) if is_formula(cell)]
    assert "\x1b" not in text
    assert "\u202e" not in text


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_shown_behind_an_apostrophe(text):
    (row,) = csv.reader(io.StringIO(to_csv([[text, 1]])))
    assert "'" in row[0]
    assert row[0].replace("'", "").replace("\\r", "\r") == text.replace("'", "")
    assert row[1] == "1"


@given(st.floats() | st.integers() | st.none() | st.booleans())
def test_numbers_keep_their_sign_and_every_digit(value):
    (row,) = csv.reader(io.StringIO(to_csv([[value, str(value), "end"]])))
    expected = "" if value is None else str(value)
    assert row == [expected, str(value), "end"]


@given(texts)
def test_written_twice_a_text_gets_no_second_apostrophe(text):
    once = to_csv([[text, "end"]])
    assert to_csv(csv.reader(io.StringIO(once))) == once


@pytest.mark.parametrize("text", FORMULAS)
def test_the_files_of_a_study_and_of_a_network_hold_no_formulas(text, tmp_path):
    study = optuna.create_study(directions=["minimize", "maximize"])
    study.set_metric_names([f"{text}1", f"{text}2"])
    for number in range(3):
        trial = study.ask({f"{text}p": optuna.distributions.CategoricalDistribution([text, -1.5])})
        study.tell(trial, [number, number])
    first, *others = summarise(made_study(3)).trials[0].metrics.layers
    named = [dataclasses.replace(first, name=text), *others]
    for content in (csv_text(summarise(study)), energy_csv(named, [PRESETS["spikformer_paper"]])):
        assert not [cell for cell in cells(content) if is_formula(cell)]
        assert "'" in content


# ---------------------------------------------------------------------- terminals

ESCAPES = "\x1b[2J\x1b]0;owned\x07 \x9b31m \u202egnp.exe \ud800"


@given(st.text())
@example(ESCAPES)
def test_printable_is_printable_and_leaves_plain_text_alone(text):
    assert printable(text).isprintable()
    assert printable(text) == text or not text.isprintable()


def test_a_plain_stream_shows_control_characters_and_keeps_the_layout():
    inside = io.StringIO()
    stream = PlainStream(inside)
    print(f"a\tb\n{ESCAPES}", file=stream, flush=True)
    stream.write("\rbar\rhidden")
    assert inside.getvalue() == (
        "a\tb\n\\x1b[2J\\x1b]0;owned\\x07 \\x9b31m \\u202egnp.exe \\ud800\n\rbar\\rhidden"
    )
    assert not stream.isatty()


def test_progress_bars_are_drawn_as_before():
    plain, direct = io.StringIO(), io.StringIO()
    for stream in (PlainStream(plain), direct):
        with tqdm(total=3, desc="ünï", file=stream, mininterval=0, bar_format="{desc} {n}/{total}") as bar:
            bar.update(2)
    assert plain.getvalue() == direct.getvalue()
    assert "\rünï 2/3" in plain.getvalue()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def nested_bars(stream):
    options = {"file": stream, "mininterval": 0, "bar_format": "{desc} {n}/{total}"}
    with ProgressBar(total=2, desc="networks", **options) as outer:
        for name in ("\x1b[A", "b"):
            with ProgressBar(total=3, desc=printable(name), **options) as inner:
                for _ in range(3):
                    inner.update()
            outer.update()
    return stream


def test_a_bar_below_another_finds_its_line_on_a_terminal_and_none_in_a_file():
    behind, direct, file = Terminal(), Terminal(), io.StringIO()
    for stream in (PlainStream(behind), direct, PlainStream(file)):
        nested_bars(stream)
    assert behind.getvalue() == direct.getvalue()
    assert behind.getvalue().count("\x1b[A") == 8  # four for each bar below
    assert "\x1b" not in file.getvalue()
    assert file.getvalue().count("\\x1b[A") == 5  # the name, as often as it is drawn
    assert file.getvalue().count("\n") == 3  # the end of each bar


def test_commands_print_nothing_that_steers_a_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = "\x1b[31mred\x9b31m\u202e"
    file = Path(f"{name}.toml")
    space = "[network]\nembed_dim = [24]\ndepth = [1]\ntime_steps = [1]\n[block]\n"
    file.write_text(f'name = "{name.encode("unicode_escape").decode()}"\n{space}', encoding="utf-8")
    broken = Path("broken.toml")
    broken.write_text(f'"\\u001b[31m" = 1\nspace = "{"tiny"}"\ndata = "digits"\n', encoding="utf-8")
    for command in (
        ["space", str(file)],
        ["space", "no\x1b[2Jne"],
        ["search", str(broken)],
        ["report", f"{name}x"],
    ):
        main(command)
        printed = "".join(capsys.readouterr())
        assert printed
        assert not {"\x1b", "\x9b", "\u202e"} & set(printed)
    assert type(sys.stdout).__name__ != "PlainStream"  # back as it was


def test_our_own_colours_reach_a_terminal_and_nobody_elses(monkeypatch):
    pytest.importorskip("rich")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    terminal = Terminal()
    with contextlib.redirect_stdout(PlainStream(terminal)):
        show(f"{pareto_text(summarise(made_study(8)))}\n{ESCAPES}")
    assert "\x1b[1;32m" in terminal.getvalue()  # the chosen network
    assert not [
        text for text in ("\x1b[2J", "\x1b]0;", "\x9b", "\u202e", "\x07") if text in terminal.getvalue()
    ]


# ---------------------------------------------------------------------- encodings


class Latin(io.TextIOWrapper):
    """A terminal, or a file, of a locale without UTF-8."""

    def __init__(self, encoding: str, *, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def text(self) -> str:
        return self.buffer.getvalue().decode(self.encoding)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_locale_without_a_character_ends_no_command(monkeypatch, terminal):
    """What is printed at the end of hours of training has a plus-minus sign in it."""
    table = "network  accuracy\n-------  ---------------\ntrial 3  0.9000 ± 0.0100"
    for encoding, sign in (("ascii", r"\u00b1"), ("latin-1", "±"), ("utf-8", "±")):
        stream = Latin(encoding, terminal=terminal)
        monkeypatch.setattr("sys.stdout", PlainStream(stream))
        monkeypatch.setenv("COLUMNS", "80")
        show(f"{table}\n→ end 𝕏")
        arrow, letter = ("→", "𝕏") if encoding == "utf-8" else (r"\u2192", r"\ud835\udd4f")
        assert f"0.9000 {sign} 0.0100" in stream.text()
        assert f"{arrow} end {letter}" in stream.text()


def test_json_stays_json_in_any_locale(monkeypatch):
    stream = Latin("ascii", terminal=False)
    monkeypatch.setattr("sys.stdout", stream)
    assert main(["schema", "study"]) == 0
    assert "properties" in json.loads(stream.text())
