"""Training in two processes: the weights of one, and what happens when one of them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from aspk.families import synchronised
from aspk.training.checkpoint import load_state, load_supernet
from aspk.training.processes import Processes, processes

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
PROGRAM = Path(__file__).parent / "distributed_training.py"


def ran(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280, **options)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder that the program wrote, in one process and in two."""
    folder = tmp_path_factory.mktemp("distributed")
    for command in ([sys.executable], TORCHRUN):
        ran([*command, str(PROGRAM), str(folder)])
    return folder


@pytest.fixture(scope="module")
def weights(trained):
    """Weights and losses by recipe, processes in all, and process."""
    return {file.stem: load_file(file) for file in trained.glob("*.safetensors")}


@pytest.mark.parametrize("recipe", ["single", "sandwich", "membrane", "hierarchical"])
def test_two_processes_come_to_the_weights_of_one(weights, recipe):
    """In float64: 20 updates of single networks, 6 of a sandwich, with its average of weights, and 4 each of
    the other families, some of whose normalisations have no neurons behind them.
    """
    one, first, second = (weights[f"{recipe}-{which}"] for which in ("1-0", "2-0", "2-1"))
    for name, expected in one.items():
        # A bias in front of a normalisation has a gradient of rounding alone, which AdamW scales up.
        tolerance = 1e-8 if name.endswith(("linear.bias", "conv.bias")) else 1e-9
        torch.testing.assert_close(first[name], expected, rtol=0, atol=tolerance, msg=name)
        assert torch.equal(first[name], second[name]), name
    assert first["losses"].unique().numel() == len(first["losses"])


def test_in_float32_the_loss_curve_of_two_processes_lies_within_the_spread_of_seeds(weights):
    def curve(which):
        return weights[f"float32-{which}"]["losses"].unflatten(0, (-1, 20)).mean(1)  # over 20 updates

    one, two = curve("0-1-0"), curve("0-2-0")
    others = [curve(f"{seed}-1-0") for seed in (1, 2, 3)]
    distances = [(one - other).square().mean().sqrt() for other in others]
    assert (one - two).square().mean().sqrt() < min(distances)
    assert torch.equal(two, curve("0-2-1"))


def test_no_thread_of_the_group_outlives_it(trained):
    """One that frees a tensor while the interpreter shuts down aborts a training that has ended well."""
    for rank in range(2):
        threads = (trained / f"threads-2-{rank}.txt").read_text().splitlines()
        assert threads
        assert not [name for name in threads if "gloo" in name]


# ------------------------------------------------------------------ the command

STUDY = """
name = "two"
space = "tiny"
data = "digits"
folder = "{folder}"
[train]
updates = 40
batch_size = 16
checkpoint_every = 5
"""


def study(folder):
    file = folder / "study.toml"
    file.write_text(STUDY.format(folder=folder / "run"))
    return file


def command(folder):
    return [*TORCHRUN, "-m", "aspk", "train", str(study(folder)), "--device", "cpu"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    done = ran(command(folder))
    assert done.stdout.count("trained 40 updates") == 1
    assert "Warning" not in done.stderr
    return load_supernet(folder / "run" / "supernet.safetensors")


def workers(launcher: int) -> dict[int, int]:
    """Process ids of a launcher's workers, by their number."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    environments = {int(child): Path(f"/proc/{child}/environ").read_text() for child in children}
    found = {
        int(v.partition("\0RANK=")[2].partition("\0")[0]): k
        for k, v in environments.items()
        if "\0RANK=" in v
    }
    return found


@pytest.mark.parametrize("killed", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_a_killed_process_ends_the_other_and_the_same_command_goes_on(tmp_path, uninterrupted, killed):
    """To the same bits, whichever of the two it was."""
    state = tmp_path / "run" / "training.pt"
    launcher = subprocess.Popen(command(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 200
        while not state.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(workers(launcher.pid)[killed], signal.SIGKILL)
        _, errors = launcher.communicate(timeout=100)
    finally:
        launcher.kill()
    assert launcher.returncode not in (0, None)
    assert "another process of this training has ended" in errors
    assert "the same command goes on" in errors
    assert load_state(state, torch.device("cpu"))["update"] < 40
    assert not (tmp_path / "run" / "supernet.safetensors").exists()
    ran(command(tmp_path))
    found = load_supernet(tmp_path / "run" / "supernet.safetensors")
    assert found.provenance["processes"] == 2
    for name, expected in uninterrupted.supernet.state_dict().items():
        assert torch.equal(found.supernet.state_dict()[name], expected), name


# ------------------------------------------------------------------ parts


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(Exception, match="batch_size = 7 does not divide among 2 processes"):
        Processes(rank=1, count=2).share(torch.zeros(7))
    assert Processes(rank=1, count=2).share(torch.arange(6)).tolist() == [3, 4, 5]


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with processes(torch.device("cpu")) as alone:
        assert (alone.first, alone.count) == (True, 1)
        assert alone.any(True)
        assert alone.from_first("it") == "it"
        assert not synchronised.in_shared_batch()


@pytest.mark.parametrize(
    ("norm", "axis", "shape"), [(nn.BatchNorm1d, -1, (2, 3, 4, 5)), (nn.BatchNorm2d, -3, (6, 5, 2, 4))]
)
def test_the_normalisation_is_pytorchs(monkeypatch, norm, axis, shape):
    """With nobody else in the group: outputs, gradients and running statistics."""
    monkeypatch.setattr(synchronised.dist, "get_world_size", lambda: 1)
    monkeypatch.setattr(synchronised.dist, "all_gather", lambda parts, part: parts[0].copy_(part))
    monkeypatch.setattr(synchronised.dist, "all_reduce", lambda tensor: None)
    generator = torch.Generator().manual_seed(3)
    y = (3 + 2 * torch.randn(shape, generator=generator, dtype=torch.float64)).requires_grad_()
    theirs, ours = norm(5).double(), norm(5).double()
    weights = torch.rand(shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        for layer in (theirs, ours):
            layer.weight.copy_(torch.linspace(0.5, 2, 5)), layer.bias.copy_(torch.linspace(-1, 1, 5))
    found = []
    for layer in (theirs, ours):
        flat = y.flatten(0, -2) if norm is nn.BatchNorm1d else y
        x = (
            layer(flat).reshape(shape)
            if layer is theirs
            else synchronised.shared_normalisation(y, layer, axis=axis)
        )
        gradients = torch.autograd.grad((weights * x.sin()).sum(), (y, layer.weight, layer.bias))
        found.append((x, *gradients, layer.running_mean, layer.running_var, layer.num_batches_tracked))
    for expected, own in zip(*found, strict=True):
        torch.testing.assert_close(own, expected)
