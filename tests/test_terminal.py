"""Tables on a terminal: no wider than it is, coloured there and nowhere else."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from aspk.cli.terminal import Table, show
from aspk.report import compare_text, pareto_text, summarise
from aspk.report.tables import align
from studies import made_study

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def on_a_terminal(text, width=80, **environment):
    """What a terminal of that width gets of ``show(text)``."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    code = "import sys; from aspk.cli.terminal import show; show(sys.stdin.read())"
    plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=terminal,
        env={**plain, "TERM": "xterm-256color", **environment},
    )
    os.close(terminal)
    process.stdin.write(text.encode())
    process.stdin.close()
    found = b""
    while True:
        try:
            piece = os.read(controller, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        found += piece
    os.close(controller)
    assert process.wait(timeout=60) == 0
    return found.decode().replace("\r\n", "\n")


def cells(text):
    """All words of a text, whatever their order."""
    return sorted(re.findall(r"[^\s-][^\s]*", ESCAPE.sub("", text)))


@pytest.mark.parametrize("width", [60, 80, 200])
def test_tables_fit_the_terminal_and_lose_nothing(width):
    summary = summarise(made_study())
    header, *_, last = pareto_text(summary).splitlines()
    shown = on_a_terminal(f"before\n{pareto_text(summary)}\nafter", width)
    lines = ESCAPE.sub("", shown).splitlines()
    assert max(len(line) for line in lines if line not in (last, "after")) <= width
    assert (lines[0], lines[-1]) == ("before", "after")
    assert last in lines
    assert set(cells(pareto_text(summary))) <= set(cells(shown))
    for row in summary.front:  # every piece names its rows
        pieces = sum(line.split()[0] == "trial" for line in lines if line.split())
        assert sum(line.split()[0] == str(row.number) for line in lines if line.split()) == pieces
    assert (header in ESCAPE.sub("", shown)) == (width == 200)


def test_the_chosen_network_stands_out_on_a_terminal_only(capsys):
    text = pareto_text(summarise(made_study()))
    (green,) = re.findall(r"\x1b\[1;32m(\d+ \*)", on_a_terminal(text, 200))
    assert green in text
    assert "\x1b[1;32m" not in on_a_terminal(text, 200, NO_COLOR="1")
    show(text)  # not to a terminal
    assert capsys.readouterr().out == f"{text}\n"


def test_several_tables_and_texts_keep_their_order():
    text = compare_text([summarise(made_study()), summarise(made_study(30, sampler="nsga2", seed=1))])
    shown = ESCAPE.sub("", on_a_terminal(text, 200))
    expected = [line.split() for line in text.splitlines() if line.strip() and not set(line) <= set("- ")]
    assert [line.split() for line in shown.splitlines() if line.strip()] == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "one line",
        "a\n---\nb",  # no rule of a table
        "-----  ---\nrule first",
        align(["a", "b"], []),
        align(["a", "b"], [["[red]x[/red]", "1"]]) + "\n[bold]no markup[/bold]",
        align(["path", "n"], [["x" * 200, "1"]]),
        align(["name", "n"], [["", "1"], ["b", ""]]),
    ],
)
def test_other_texts_stay_as_they_are(text):
    shown = ESCAPE.sub("", on_a_terminal(text))
    assert sorted(re.sub(r"[\s-]", "", shown)) == sorted(re.sub(r"[\s-]", "", text))


def test_no_column_of_a_wide_account_is_lost():
    header = [
        "layer",
        "MAC",
        "rate in",
        "spikes out",
        "spikformer_paper µJ",
        "share",
        "strict_dense µJ",
        "share",
    ]
    rows = [
        ["stem.0", "18,432", "0.0734", "150", "0.08479", "12.9%", "0.3015", "2.4%"],
        ["total", *"1234567"],
    ]
    for width in range(20, 110):
        table = Table(tuple(header), tuple(map(tuple, rows)))
        pieces = list(table.pieces(width))
        assert [column for piece in pieces for column in piece if column] == list(range(1, len(header)))
        for piece in pieces:
            widths = table.widths(piece, width).values()
            if None not in widths:
                assert sum(widths) + 2 * (len(piece) - 1) <= width
    shown = ESCAPE.sub("", on_a_terminal(align(header, rows)))
    for cell in [cell for row in rows for cell in row]:
        assert cell in shown
    assert shown.count("share") == 2
