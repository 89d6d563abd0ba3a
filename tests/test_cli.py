"""The command line as a user types it."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from aspk import __version__
from aspk.cli import main
from aspk.cli.main import reported
from aspk.engines.device import resolve_device
from aspk.spec.study import load_study_file
from aspk.training.checkpoint import load_state

ROOT = Path(__file__).resolve().parent.parent


def aspk(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "aspk", *map(str, arguments)],
        capture_output=True,
        check=False,
        text=True,
        cwd=cwd,
        timeout=120,
    )


def test_version_and_help(tmp_path):
    assert aspk("--version", cwd=tmp_path).stdout.split() == ["aspk", __version__]
    helped = aspk("--help", cwd=tmp_path)
    assert helped.returncode == 0
    for command in (
        "space",
        "train",
        "search",
        "surrogate",
        "table",
        "report",
        "compare",
        "export",
        "evaluate",
        "energy",
        "optuna",
    ):
        assert re.search(rf"^\s+{command}\s", helped.stdout, re.MULTILINE)


def test_space_prints_the_size(capsys):
    assert main(["space", "search_spaces/auto_spikformer.toml"]) == 0
    assert "8,659,768,320 networks" in capsys.readouterr().out
    assert main(["space", "tiny"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["space", "nowhere.toml"], "no search space 'nowhere.toml'"),
        (["train", "nowhere"], "no study 'nowhere'"),
        (["evaluate", "nowhere"], "no exported network there"),
    ],
)
def test_errors_are_a_line_and_where_to_read_on(arguments, message, capsys):
    assert main(arguments) == 1
    error, place = capsys.readouterr().err.splitlines()
    assert error.startswith("aspk: error: ")
    assert message in error
    assert place.startswith("aspk: see docs/errors.md#")


def test_wrong_usage_exits_2(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["search"])
    assert "usage" in capsys.readouterr().err


@pytest.fixture
def private():
    """A process whose files are nobody else's business."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_search_report_compare_export_evaluate(study_file, tmp_path, capsys, private):
    for sampler in ("nsga2", "random"):
        assert main(["search", str(study_file), "--sampler", sampler, "--device", "cpu"]) == 0
    found = capsys.readouterr().out
    assert "reference network" in found
    assert "halving the energy is worth 5.0%" in found

    assert main(["compare", str(study_file)]) == 0
    compared = capsys.readouterr().out
    assert "nsga2" in compared
    assert "random" in compared
    assert main(["compare", str(study_file), str(study_file)]) == 0
    assert capsys.readouterr().out == compared  # a study is shown once
    assert main(["surrogate", str(study_file), "--sampler", "nsga2"]) == 1
    assert "6 complete trials: expected at least 15" in capsys.readouterr().err

    assert main(["report", str(study_file), "--sampler", "nsga2", "--output", str(tmp_path / "report")]) == 0
    assert {file.name for file in (tmp_path / "report").iterdir()} >= {
        "report.html",
        "pareto.csv",
        "front.png",
    }

    assert main(["export", str(study_file), "--sampler", "nsga2", "--output", str(tmp_path / "knee")]) == 0
    assert re.search(r"exported trial \d+ of small-nsga2", capsys.readouterr().out)
    assert main(["evaluate", str(tmp_path / "knee"), "--device", "cpu"]) == 0
    evaluated = capsys.readouterr().out
    assert re.search(r"digits test accuracy 0\.\d+", evaluated)
    assert "estimated energy" in evaluated
    assert main(["export", str(study_file), "--sampler", "nsga2", "--trial", "77"]) == 1
    written = [path for name in ("run", "report", "knee") for path in (tmp_path / name).rglob("*")]
    assert len(written) > 10
    assert [path for path in written if path.stat().st_mode & 0o077] == []


def test_train_checks_random_networks(tmp_path, capsys):
    file = tmp_path / "short.toml"
    file.write_text(
        f"space = 'tiny'\ndata = 'digits'\nfolder = '{tmp_path / 'run'}'\n"
        "[train]\nupdates = 2\nbatch_size = 8\n"
    )
    assert main(["train", str(file), "--check", "3", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert re.search(
        r"inherited accuracy of 3 random networks: mean 0\.\d{4}, from 0\.\d+ to 0\.\d+", printed
    )


def test_search_without_weights_says_what_to_do(tmp_path, capsys):
    file = tmp_path / "new.toml"
    file.write_text(f"space = 'tiny'\ndata = 'digits'\nfolder = '{tmp_path / 'run'}'\n")
    assert main(["search", str(file)]) == 1
    assert "'aspk train' makes one" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_a_clean_error(study_file, tmp_path, capsys):
    assert main(["search", str(study_file), "--evaluations", "3"]) == 0
    (tmp_path / "file").write_text("in the way")
    assert main(["report", str(study_file), "--output", str(tmp_path / "file" / "report")]) == 1
    assert "aspk: error: " in capsys.readouterr().err


def test_a_storage_that_fails_in_the_middle_is_a_clean_error(study_file, monkeypatch, capsys):
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import OperationalError

    def full(*arguments, **options):
        raise OperationalError("INSERT ...", {}, sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr(RDBStorage, "set_trial_user_attr", full)
    assert main(["search", str(study_file), "--evaluations", "3", "--device", "cpu"]) == 1
    (line,) = [text for text in capsys.readouterr().err.splitlines() if "aspk: error" in text]
    assert "storage failed" in line
    assert "database or disk is full" in line


def test_ctrl_c_during_training_saves_and_says_how_to_go_on(tmp_path):
    file = tmp_path / "new.toml"
    file.write_text(
        f"space = 'tiny'\ndata = 'digits'\nfolder = '{tmp_path / 'run'}'\n"
        "[train]\nupdates = 500\nbatch_size = 16\ncheckpoint_every = 2\n"
    )
    command = [sys.executable, "-m", "aspk", "train", str(file)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "LC_ALL": "C"})
    state, deadline = tmp_path / "run" / "training.pt", time.monotonic() + 100
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    saved = re.search(r"saved at update (\d+); go on with: aspk train ", errors)
    assert saved
    assert load_state(state, resolve_device("cpu"))["update"] == int(saved[1])
    assert load_study_file(file).train.updates == 500


PART = """
name = "part"
[settings]
patch_size = 4
attention_scale = {scale}
[network]
embed_dim = [24, 32]
depth = [1, 2]
time_steps = [1, 4]
mlp_ratio = [2]
num_heads = [2]
v_threshold = [{threshold}]
tau = [2]
[block]
[reference]
embed_dim = 24
depth = 1
time_steps = 1
mlp_ratio = 2
num_heads = 2
v_threshold = {threshold}
tau = 2
"""


def test_a_table_of_a_part_of_the_space(study_file, tmp_path, capsys):
    from aspk.tables import TabularEvaluator

    part, output = tmp_path / "part.toml", tmp_path / "part.npz"
    part.write_text(PART.format(scale=1.0, threshold=1.0))
    command = ["table", str(study_file), "--space", str(part), "--images", "16", "--output", str(output)]
    assert main([*command, "--statistics", "shared_time", "--batch", "3"]) == 0
    printed = capsys.readouterr().out
    first, last = printed.splitlines()
    assert "8 networks on 16 images of search, 16 images of test; one took " in first
    assert re.search(r"so all take at most about \d+ (s|minutes)\. Ctrl-C ends after a batch", first)
    assert "8 networks" in last
    table = TabularEvaluator(output, split="test")
    assert table.table.about["evaluation"]["images"] == 16
    assert table.table.about["energy"]["name"] == "spikformer_paper"
    assert {metrics.accuracy * 16 % 1 for metrics in table.metrics} == {0.0}
    assert all(metrics.extras["strict_mj"] >= metrics.energy_mj > 0 for metrics in table.metrics)
    part.write_text((ROOT / "search_spaces" / "auto_spikformer.toml").read_text())
    assert main(command) == 1
    assert "networks, a table holds at most 1,000,000: give a part" in capsys.readouterr().err
    part.write_text(PART.format(scale=1.0, threshold=1.1))
    assert main(command) == 1
    assert "v_threshold=1.1 is not one of" in capsys.readouterr().err
    part.write_text(PART.format(scale=0.5, threshold=1.0))
    assert main(command) == 1
    assert "[settings]" in capsys.readouterr().err


def test_a_table_does_not_mix_energy_accounts(study_file, tmp_path, capsys, monkeypatch):
    """A table that was interrupted goes on under the account that it was begun with."""
    import aspk.tables.building as building

    part, output = tmp_path / "part.toml", tmp_path / "part.npz"
    part.write_text(PART.format(scale=1.0, threshold=1.0))
    command = ["table", str(study_file), "--space", str(part), "--images", "16", "--output", str(output)]

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(building, "_gathered", interrupted)
    assert main(command) == 130
    monkeypatch.undo()
    study_file.write_text(study_file.read_text() + "\n[energy]\nmac_pj = 3.0\n")
    capsys.readouterr()
    assert main(command) == 1
    assert "about.energy.mac_pj = 4.6, now it is 3.0" in capsys.readouterr().err


def test_a_folder_without_an_exported_network_is_told_how_to_get_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "digits" / "export-digits"
    folder.mkdir(parents=True)
    (folder / "network.safetensors").write_text("")
    for model, told in [
        ("runs/nothing", "runs/nothing: no exported network there; 'aspk export STUDY' writes one"),
        ("digits", "'aspk export digits' writes one"),
        ("own.toml", "'aspk retrain own.toml' trains it alone before"),
        ("runs/digits", "no exported network there, but in runs/digits/export-digits; "),
        ("x" * 300, "no exported network there"),
    ]:
        for command in (["evaluate", model], ["predict", model, "a.png"]):
            assert main(command) == 1
            assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "energy --space tiny --random-weights --shape 99999,99999,99999",
        "energy --space tiny --random-weights --images 10000 --shape 3,999,999",
    ],
)
def test_images_that_no_memory_holds_are_wrong_usage(line, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(line.split())
    assert "--images times --shape: expected at most" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line", ["export digits --trial 3", "retrain digits --trial 3", "retrain digits --front"]
)
def test_a_margin_where_nothing_is_selected_is_wrong_usage(line, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*line.split(), "--margin", "2"])
    assert "--margin chooses a network of the front" in capsys.readouterr().err


@pytest.mark.parametrize("size", [2**50, 2**61])
def test_memory_that_runs_out_ends_in_a_message(size, capsys):
    """As PyTorch says it, and as Python does."""
    for allocate in (lambda: torch.empty(size, dtype=torch.uint8), lambda: bytearray(size)):
        assert reported(lambda: len(allocate())) == 1  # noqa: B023  # called at once
        assert "take fewer images at once" in capsys.readouterr().err
