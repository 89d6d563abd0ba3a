"""What a trainer offers beside training: decay of weights only, averages, a time to stop, scalars."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime, timedelta

import pytest
import torch
from spaces import TINY

from aspk.cli import main
from aspk.cli.arguments import time_of_day
from aspk.errors import TrainingError
from aspk.spec.settings import Recipe
from aspk.training import SupernetRun, train_supernet
from aspk.training.checkpoint import load_supernet, save_state
from aspk.training.loop import train
from aspk.training.progress import expected_end

NOW = datetime(2026, 11, 27, 22, 0, tzinfo=UTC)  # a Friday


def run_of(digits, **recipe) -> SupernetRun:
    return SupernetRun(TINY, digits, Recipe(**{"updates": 4, "batch_size": 16, "amp": False, **recipe}), 0)


def stepped(run, updates):
    for _ in range(updates):
        run.step()
    return run


def same_bits(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# ------------------------------------------------------------------ what decays


def test_with_decayed_weights_nothing_else_decays(digits):
    """Behind gradients of nothing, AdamW's decay is all that an update does."""
    run = run_of(digits, decayed="weights", weight_decay=0.5, learning_rate=0.1)
    before = {name: parameter.clone() for name, parameter in run.model.named_parameters()}
    for parameter in run.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    run.optimizer.step()
    decayed = {name for name, p in run.model.named_parameters() if not torch.equal(p, before[name])}
    expected = {name for name in before if not name.endswith(("bias", "norm.weight"))}
    assert decayed == expected
    for name in expected:
        torch.testing.assert_close(run.model.get_parameter(name), before[name] * 0.95)


@pytest.mark.parametrize("keys", [{"decayed": "weights"}, {"ema": 0.9}])
def test_the_new_keys_resume_to_the_same_bits(digits, tmp_path, keys):
    whole, begun, resumed = (run_of(digits, **keys) for _ in range(3))
    save_state(tmp_path / "training.pt", stepped(begun, 2).state())
    resumed.resume(tmp_path / "training.pt")
    stepped(whole, 4), stepped(resumed, 2)
    assert same_bits(whole.model.state_dict().values(), resumed.model.state_dict().values())
    assert same_bits(whole.evaluated.state_dict().values(), resumed.evaluated.state_dict().values())


def test_what_was_begun_before_the_keys_came_goes_on(digits, tmp_path):
    begun = stepped(run_of(digits), 2)
    assert begun.identity()["recipe"].keys().isdisjoint({"decayed", "ema"})
    assert run_of(digits, ema=0.5).identity()["recipe"]["ema"] == 0.5


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"decayed": "norms"}, 'decayed = .norms.: expected "all" or "weights"'),
        ({"decayed": True}, 'decayed = True: expected "all" or "weights"'),
        ({"ema": 1.0}, "ema = 1"),
        ({"ema": -0.1}, "ema = -0.1: expected a number of at least 0 and below 1"),
    ],
)
def test_wrong_values_are_refused(keys, message):
    with pytest.raises(TrainingError, match=message):
        Recipe(**keys)


# ------------------------------------------------------------------ averages


def test_the_moving_average_is_the_one_of_its_formula_and_is_what_is_kept(digits, tmp_path):
    run = run_of(digits, ema=0.2, updates=3)
    expected = None
    for seen in range(3):
        run.step()
        weight = run.model.network.head.weight.detach().clone()
        decay = min(0.2, (1 + seen) / (10 + seen))
        expected = weight if expected is None else decay * expected + (1 - decay) * weight
    assert not torch.equal(run.model.network.head.weight, expected)
    torch.testing.assert_close(run.evaluated.network.head.weight, expected)
    assert same_bits(run.evaluated.buffers(), run.model.buffers())  # statistics are followed, not averaged
    result = train_supernet(TINY, digits, run.recipe, folder=tmp_path, progress=False)
    kept = load_supernet(result.weights).supernet.network.head.weight
    torch.testing.assert_close(kept, expected)


# ------------------------------------------------------------------ a time to stop


def test_a_run_stops_at_its_time_and_the_rest_gives_the_same_bits(digits, tmp_path, capsys):
    recipe = run_of(digits).recipe
    past = datetime.now().astimezone() - timedelta(minutes=1)
    result = train_supernet(TINY, digits, recipe, folder=tmp_path, until=past)
    assert (result.finished, result.updates, result.weights) == (False, 1, None)
    assert "stops at" in capsys.readouterr().out
    future = datetime.now().astimezone() + timedelta(days=1)
    result = train_supernet(TINY, digits, recipe, folder=tmp_path, until=future, progress=False)
    assert result.finished
    whole = stepped(run_of(digits), 4).model
    assert same_bits(load_supernet(result.weights).supernet.parameters(), whole.parameters())


def test_a_planned_stop_is_no_failure_of_the_command(study_file, monkeypatch, capsys):
    past = datetime.now().astimezone() - timedelta(minutes=1)
    monkeypatch.setattr(sys.modules["aspk.cli.prepare"], "time_of_day", lambda text: past)
    assert main(["train", str(study_file), "--device", "cpu", "--until", "23:30"]) == 0
    assert "saved at update 1; go on with: aspk " in capsys.readouterr().err


def test_a_time_of_day_is_the_next_one():
    now = datetime.now().astimezone()
    for minutes in (-90, -2, 2, 90):
        other = now + timedelta(minutes=minutes)
        then = time_of_day(f"{other:%H:%M}")
        assert (then.hour, then.minute) == (other.hour, other.minute)
        assert timedelta(0) < then - datetime.now().astimezone() <= timedelta(days=1)
    for text in ("24:00", "noon", "7", ""):
        with pytest.raises(argparse.ArgumentTypeError, match=r"expected a time of day such as 23:30"):
            time_of_day(text)


@pytest.mark.parametrize(
    ("done", "left", "seconds", "expected"),
    [
        (10, 20, 600.0, "22:20"),
        (10, 20, 6000.0, "Sat 01:20"),
        (1, 100, 1e5, "2027-03-23"),
        (0, 20, 1.0, ""),
        (1, 10**9, 1e9, ""),
    ],
)
def test_the_expected_end_goes_by_the_updates_of_this_process(done, left, seconds, expected):
    assert expected_end(done, left, seconds, NOW) == expected


def test_the_bar_shows_the_expected_end(digits):
    run = stepped(run_of(digits, updates=2), 2)
    assert run.figures(1.0)["ends"] in {f"{datetime.now() - timedelta(minutes=m):%H:%M}" for m in (0, 1)}


# ------------------------------------------------------------------ scalars


def test_tensorboard_gets_every_update_once_also_behind_a_kill(digits, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = Recipe(updates=4, batch_size=16, checkpoint_every=2)

    class KilledError(Exception):
        pass

    class Dying(SupernetRun):
        def step(self):
            if self.update == 3:
                raise KilledError
            return super().step()

    for kind in (Dying, SupernetRun):
        run = kind(TINY, digits, recipe, 0)
        try:
            train(run, tmp_path / "training.pt", description="train", progress=False, tensorboard=True)
        except KilledError:
            assert run.update == 3  # one behind the checkpoint
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    steps = {name: [event.step for event in found.Scalars(name)] for name in found.Tags()["scalars"]}
    assert steps["loss"] == steps["gradient_norm"] == [1, 2, 3, 4]
    assert steps["accuracy/largest"] == steps["firing_rate/blocks.0.fc1"] == [2, 4]
    assert found.Scalars("gradient_norm")[-1].value == pytest.approx(run.gradient_norm)


def test_without_tensorboard_the_message_says_what_to_install(digits, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainingError, match=r"pip install 'aspk\[tensorboard\]'"):
        train_supernet(TINY, digits, Recipe(updates=1), folder=tmp_path, progress=False, tensorboard=True)
