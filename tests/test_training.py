"""Training: exact resume, kill -9, damaged checkpoints, guard rails."""

from __future__ import annotations

import dataclasses
import os
import signal
import time

import pytest
import torch
from worker_processes import completed, launch

from aspk.data import Split, load_data
from aspk.errors import CheckpointError, LockError, TrainingError
from aspk.space.file import load_space
from aspk.spec.settings import Recipe
from aspk.training import train_supernet
from aspk.training.checkpoint import load_state, load_supernet
from aspk.util import locks
from aspk.util.locks import exclusive

SPACE = load_space("tiny")
RECIPE = Recipe(updates=10, batch_size=16, checkpoint_every=5)


def weights(folder):
    return load_supernet(folder / "supernet.safetensors").supernet.state_dict()


def assert_equal_bits(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, digits):
    folder = tmp_path_factory.mktemp("uninterrupted")
    result = train_supernet(SPACE, digits, RECIPE, folder=folder, progress=False)
    assert (result.finished, result.updates) == (True, 10)
    return weights(folder)


def stop_after(folder, digits, updates, monkeypatch):
    """Train, and be interrupted as by Ctrl-C during update number ``updates``."""
    from aspk import training

    step = training.SupernetRun.step

    def interrupted(run):
        if run.update == updates - 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(run)

    with monkeypatch.context() as patch:
        patch.setattr(training.SupernetRun, "step", interrupted)
        return train_supernet(SPACE, digits, RECIPE, folder=folder, progress=False)


def test_ctrl_c_saves_and_the_rest_gives_the_same_bits(tmp_path, digits, monkeypatch, uninterrupted):
    result = stop_after(tmp_path, digits, 7, monkeypatch)
    assert (result.finished, result.updates, result.weights) == (False, 7, None)
    assert train_supernet(SPACE, digits, RECIPE, folder=tmp_path, progress=False).updates == 10
    assert_equal_bits(weights(tmp_path), uninterrupted)


def train_digits(folder):
    train_supernet(SPACE, load_data("digits"), RECIPE, folder=folder, progress=False)


def test_kill_9_and_the_same_command_again_gives_the_same_bits(tmp_path, uninterrupted):
    process = launch(train_digits, tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "training.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert completed(process) == -signal.SIGKILL
    assert not (tmp_path / "supernet.safetensors").exists()
    assert load_state(tmp_path / "training.pt", torch.device("cpu"))["update"] == 5
    assert completed(launch(train_digits, tmp_path)) == 0
    assert_equal_bits(weights(tmp_path), uninterrupted)


def test_two_do_not_train_in_one_folder(tmp_path, digits, monkeypatch):
    monkeypatch.setattr(locks, "_PATIENCE_S", 0)
    with (
        exclusive(tmp_path / "training.pt"),
        pytest.raises(LockError, match=f"use by process {os.getpid()} on"),
    ):
        train_supernet(SPACE, digits, RECIPE, folder=tmp_path, progress=False)


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_used(
    tmp_path, digits, monkeypatch, uninterrupted, damage, capfd
):
    stop_after(tmp_path, digits, 7, monkeypatch)
    state = tmp_path / "training.pt"
    content = state.read_bytes()
    state.write_bytes(
        {"truncated": content[: len(content) // 2], "garbage": b"x" * 999, "empty": b""}[damage]
    )
    train_supernet(SPACE, digits, RECIPE, folder=tmp_path)
    assert "going on from training.previous at update 5" in "".join(capfd.readouterr())
    assert_equal_bits(weights(tmp_path), uninterrupted)


def test_only_damaged_checkpoints_are_an_error(tmp_path, digits):
    (tmp_path / "training.pt").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=r"training\.pt.*remove"):
        train_supernet(SPACE, digits, RECIPE, folder=tmp_path, progress=False)


def test_another_runs_checkpoint_is_refused(tmp_path, digits, monkeypatch):
    stop_after(tmp_path, digits, 6, monkeypatch)
    with pytest.raises(CheckpointError, match="made with seed = 0, now it is 1"):
        train_supernet(SPACE, digits, RECIPE, folder=tmp_path, seed=1, progress=False)


def test_pickled_code_is_not_run(tmp_path, digits):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    torch.save({"format": "aspk 1", "identity": Bomb()}, tmp_path / "training.pt")
    with pytest.raises(CheckpointError):
        train_supernet(SPACE, digits, RECIPE, folder=tmp_path, progress=False)
    assert not (tmp_path / "exploded").exists()


def test_a_loss_that_is_not_finite_stops_with_the_last_checkpoint(tmp_path, digits):
    images = digits.train.images.clone()
    images[:] = float("nan")
    broken = dataclasses.replace(digits, train=Split(images, digits.train.labels))
    with pytest.raises(TrainingError, match="became nan at update 0"):
        train_supernet(SPACE, broken, RECIPE, folder=tmp_path, progress=False)


def test_training_learns(tmp_path, digits):
    from aspk.evaluation.supernet import SupernetEvaluator

    recipe = Recipe(updates=50, batch_size=64)
    result = train_supernet(SPACE, digits, recipe, folder=tmp_path, progress=False)
    evaluator = SupernetEvaluator(load_supernet(result.weights).supernet, digits)
    assert evaluator.evaluate([SPACE.reference])[0].accuracy > 0.35  # chance is 0.1


def test_schedule_rises_linearly_and_falls_to_nothing():
    recipe = Recipe(updates=100, warmup=0.1)
    rates = [recipe.schedule(update) for update in range(100)]
    assert rates[:3] == pytest.approx([1 / 11, 2 / 11, 3 / 11])
    assert max(rates) == rates[10] == 1
    assert rates[55] == pytest.approx(0.5)
    assert rates[99] < 1e-3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"updates": 0}, "updates = 0"),
        ({"learning_rate": -1.0}, "learning_rate = -1.0"),
        ({"batch_size": 2.5}, "batch_size = 2.5: expected a whole number from 1"),
        ({"prefix_loss": 1}, "prefix_loss = 1: expected true or false"),
        ({"largest": 0.9, "smallest": 0.2}, "must not exceed 1"),
        ({"label_smoothing": float("nan")}, "label_smoothing"),
    ],
)
def test_bad_recipes_are_refused(values, message):
    with pytest.raises(TrainingError, match=message):
        Recipe(**values)
