"""The command line's help, its examples, and its completion in shells."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

import pytest

from aspk.cli.main import command_parser, main
from aspk.util.shipped import shipped_files

PARSER = command_parser()
COMMANDS = list(PARSER.commands.examples)


def printed(capsys, *arguments):
    if "--help" in arguments:
        with pytest.raises(SystemExit, match="0"):
            main(list(arguments))
    else:
        assert main(list(arguments)) == 0
    return capsys.readouterr().out


def test_aspk_alone_shows_the_help(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = printed(capsys)
    assert text == printed(capsys, "--help")
    listed = re.findall(r"^  (\w+) ", text, re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)
    assert max(map(len, text.splitlines())) <= 80
    assert "headline" not in text  # the comparison has left the package


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "optuna"])  # its help is Optuna's
def test_each_commands_help_has_an_example_that_is_understood(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = printed(capsys, command, "--help")
    assert max(map(len, text.splitlines())) <= 80
    example = text.partition("\nexample:\n")[2]
    lines = re.findall(r"aspk ([^|)\n]+)", example)
    assert lines
    for line in lines:
        assert shlex.split(line)[0] == command
        PARSER.parse_args(shlex.split(line))


@pytest.mark.parametrize(
    "line",
    [
        "search digits --evaluations 0",
        "search digits --evaluations 1e3",
        "search digits --evaluations " + "9" * 5000,
        "train digits --check -1",
        "report digits --trials 1 -1",
        "export digits --trial -1",
        "retrain digits --trial one",
        "surrogate digits --draws 0",
        "table digits --output a.npz --images 0",
        "table digits --output a.npz --batch 0",
        "energy digits --trial -5",
    ],
)
def test_numbers_that_are_none_are_wrong_usage(line, capsys):
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    assert "expected a whole number from" in capsys.readouterr().err


# ------------------------------------------------------------------ completion

ASK_BASH = """
eval "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"
$(complete -p aspk | sed 's/.*-F \\([^ ]*\\).*/\\1/') aspk "${COMP_WORDS[COMP_CWORD]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("aspk ", set(COMMANDS)),
        ("aspk se", {"search"}),
        ("aspk search --ev", {"--evaluations"}),
        ("aspk search digits --device ", {"auto", "cpu", "cuda"}),
        ("aspk search cifar", {name for name in shipped_files("studies") if name.startswith("cifar")}),
        ("aspk report own", {"own.toml"}),
        ("aspk space ti", {name for name in shipped_files("search_spaces") if name.startswith("ti")}),
        ("aspk evaluate expo", {"exported"}),
        ("aspk completion z", {"zsh"}),
    ],
)
def test_bash_completes_commands_options_names_and_files(line, expected, capsys, tmp_path):
    script = printed(capsys, "completion", "bash")
    (tmp_path / "own.toml").write_text("")
    (tmp_path / "exported").mkdir()
    words = [*line.split(), ""] if line.endswith(" ") else line.split()
    done = subprocess.run(
        ["bash", "-c", ASK_BASH, "bash", script, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert set(done.stdout.split()) == expected
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_name_every_command_and_are_no_nonsense(shell, capsys):
    script = printed(capsys, "completion", shell)
    for command in COMMANDS:
        assert command in script
    assert "cifar10_dvs" in script
    if shutil.which(shell) is not None:
        subprocess.run([shell, "-n"], input=script, text=True, timeout=60, check=True)
