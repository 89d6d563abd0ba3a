"""Sequences of event frames: read, split, trained on and measured, time first."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from data_files import settings

from aspk.data import generated_data, load_data, network_input
from aspk.data.event_frames import read_frames
from aspk.data.generated import kind_of
from aspk.errors import DataError
from aspk.evaluation.supernet import SupernetEvaluator, measure
from aspk.families import Supernet
from aspk.space.file import space_from_dict
from aspk.spec.settings import EvaluationSettings, Recipe
from aspk.training import SupernetRun, train_network

SPACE = space_from_dict(
    {
        "name": "events",
        "settings": {"patch_size": 4, "attention_scale": 1.0},
        "network": {"embed_dim": [16, 24], "depth": [1], "time_steps": [2, 3]},
        "block": {"mlp_ratio": [1], "num_heads": [2], "v_threshold": [0.6, 1.0], "tau": [2]},
        "reference": {
            "embed_dim": 24,
            "depth": 1,
            "time_steps": 3,
            "mlp_ratio": 1,
            "num_heads": 2,
            "v_threshold": 1.0,
            "tau": 2,
        },
    }
)


def write_frames(folder, count=12, shape=(3, 2, 8, 8), seed=0):
    """Recordings of two classes, as spikingjelly writes them; frames by class, in the files' order."""
    rng, written = np.random.default_rng(seed), {}
    for name, low in (("bird", 2), ("car", 0)):
        (folder / name).mkdir(parents=True)
        written[name] = rng.poisson(low + 1.0, (count, *shape)).astype(np.float32)
        for number, frames in enumerate(written[name]):
            np.savez(folder / name / f"{number:02}.npz", frames=frames)
    return written


def test_recordings_are_read_and_split(tmp_path):
    written = write_frames(tmp_path)
    data = load_data(settings("cifar10_dvs", tmp_path, test=4, search=6))
    assert (data.shape, data.classes) == ((2, 8, 8), 2)
    assert [tuple(part.images.shape) for part in (data.train, data.search, data.test)] == [
        (14, 3, 2, 8, 8),
        (6, 3, 2, 8, 8),
        (4, 3, 2, 8, 8),
    ]
    mean, deviation = (
        torch.tensor(column)[:, None, None] for column in zip(*data.standardisation, strict=True)
    )
    known = {frames.tobytes(): label for label, name in enumerate(written) for frames in written[name]}
    seen = []
    for part in (data.train, data.search, data.test):
        counts = (part.images * deviation + mean).round().float()
        seen += [frames.numpy().tobytes() for frames in counts]
        assert [known[frames.numpy().tobytes()] for frames in counts] == part.labels.tolist()
    assert sorted(seen) == sorted(known)
    assert float(data.train.images[:, :, 1].mean()) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(("name", "held_out"), [("cifar10_dvs", "test"), ("event_frames", "val")])
def test_recordings_with_a_test_set(tmp_path, name, held_out):
    train = write_frames(tmp_path / "train")
    test = write_frames(tmp_path / held_out, 3, seed=1)
    data = load_data(settings(name, tmp_path, search=6))
    assert [len(part) for part in (data.train, data.search, data.test)] == [18, 6, 6]
    mean, deviation = (
        torch.tensor(column)[:, None, None] for column in zip(*data.standardisation, strict=True)
    )
    counts = (data.test.images * deviation + mean).round().numpy()
    assert np.array_equal(counts, np.concatenate([test["bird"], test["car"]]))
    assert data.test.labels.tolist() == [0, 0, 0, 1, 1, 1]
    known = {frames.tobytes() for frames in np.concatenate([train["bird"], train["car"]])}
    found = torch.cat([data.train.images, data.search.images]) * deviation + mean
    assert {frames.numpy().tobytes() for frames in found.round()} == known


def test_a_test_set_of_another_name_is_not_ignored(tmp_path):
    write_frames(tmp_path / "train")
    write_frames(tmp_path / "testing", 3, seed=1)
    with pytest.raises(DataError, match=r"event_frames: .* has train and testing, but neither test nor val"):
        load_data(settings("event_frames", tmp_path, search=6))


def test_a_class_may_be_called_train(tmp_path):
    write_frames(tmp_path)
    (tmp_path / "car").rename(tmp_path / "train")
    assert load_data(settings("event_frames", tmp_path, search=6)).class_names == ("bird", "train")


def test_parts_that_differ_are_refused(tmp_path):
    write_frames(tmp_path / "train")
    write_frames(tmp_path / "test", 2)
    (tmp_path / "test" / "car").rename(tmp_path / "test" / "cat")
    with pytest.raises(DataError, match=r"differ in the classes \['car', 'cat'\]"):
        load_data(settings("event_frames", tmp_path))
    (tmp_path / "test" / "cat").rename(tmp_path / "test" / "car")
    np.savez(tmp_path / "test" / "car" / "00.npz", frames=np.zeros((2, 2, 8, 8)))
    with pytest.raises(DataError, match=r"00\.npz: frames \(2, 2, 8, 8\)"):
        load_data(settings("event_frames", tmp_path))
    with pytest.raises(DataError, match="give its folder"):
        load_data("event_frames")


@pytest.mark.parametrize("divided", [True, False])
def test_a_check_reads_the_folder_that_is_there(tmp_path, divided):
    write_frames(tmp_path / "train" if divided else tmp_path, 12 if divided else 15, shape=(5, 2, 8, 8))
    if divided:
        write_frames(tmp_path / "test", 3, shape=(5, 2, 8, 8))
    for name in ("cifar10_dvs", "event_frames"):
        kind = kind_of(settings(name, tmp_path))
        assert (kind.shape, kind.classes, kind.images, kind.frames) == ((2, 8, 8), ("bird", "car"), 30, 5)
        assert generated_data(settings(name, tmp_path), 4, frames=2).train.images.shape == (4, 5, 2, 8, 8)
    assert kind_of(settings("cifar10_dvs", tmp_path / "none")).shape == (2, 128, 128)
    with pytest.raises(DataError, match="no folder"):
        kind_of(settings("event_frames", tmp_path / "none"))


def test_frames_can_be_resized(tmp_path):
    write_frames(tmp_path)
    data = load_data(settings("cifar10_dvs", tmp_path, resize=4))
    assert data.shape == (2, 4, 4)
    assert tuple(data.train.images.shape[1:]) == (3, 2, 4, 4)


def test_nothing_is_unpickled(tmp_path):
    folder = tmp_path / "frames"
    write_frames(folder)

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    trap = np.empty(1, object)
    trap[0] = Trap()
    np.savez(folder / "car" / "trap.npz", frames=trap)
    (folder / "bird" / "trap.npz").write_bytes(pickle.dumps(Trap()))
    for name in ("car", "bird"):
        with pytest.raises(DataError, match="damaged, or not frames"):
            read_frames(folder / name / "trap.npz")
    with pytest.raises(DataError, match=r"trap\.npz"):
        load_data(settings("cifar10_dvs", folder))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ({"frames": np.zeros((2, 8, 8))}, r"frames is float64 \(2, 8, 8\)"),
        ({"frames": np.zeros((0, 2, 8, 8))}, r"frames is float64 \(0, 2, 8, 8\)"),
        ({"frames": np.full((1, 2, 8, 8), np.nan)}, "not finite"),
        ({"frames": np.zeros((1, 2, 8, 8), bool)}, "frames is bool"),
        ({"events": np.zeros((1, 2, 8, 8))}, "damaged, or not frames"),
    ],
)
def test_other_arrays_are_refused(tmp_path, frames, message):
    np.savez(tmp_path / "a.npz", **frames)
    with pytest.raises(DataError, match=message):
        read_frames(tmp_path / "a.npz")


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", frames=np.zeros((4, 2, 64, 64)))
    monkeypatch.setattr("aspk.data.event_frames._MOST_BYTES", 1000)
    with pytest.raises(DataError, match="unpacks to"):
        read_frames(tmp_path / "a.npz")


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"no folder .*cache.*spikingjelly"):
        load_data("cifar10_dvs")
    write_frames(tmp_path / "frames")
    (tmp_path / "frames" / "dog").mkdir()
    with pytest.raises(DataError, match="no recording of dog"):
        load_data(settings("cifar10_dvs", tmp_path / "frames"))
    np.savez(tmp_path / "frames" / "dog" / "a.npz", frames=np.zeros((2, 2, 8, 8)))
    with pytest.raises(DataError, match=r"frames \(2, 2, 8, 8\), but"):
        load_data(settings("cifar10_dvs", tmp_path / "frames"))


def test_a_network_of_fewer_steps_sees_the_first_frames(tmp_path):
    sequences = torch.randn(4, 3, 2, 8, 8)
    assert torch.equal(network_input(sequences, 2), sequences[:, :2].transpose(0, 1))
    images = torch.randn(4, 2, 8, 8)
    assert network_input(images, 2) is images
    with pytest.raises(DataError, match="3 frames for a network of 4 steps"):
        network_input(sequences, 4)


def test_a_sequence_of_one_image_is_the_image():
    supernet = Supernet(SPACE, shape=(2, 8, 8), classes=2, seed=1).double().eval()
    image = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    repeated = network_input(image[:, None].expand(-1, 3, -1, -1, -1), 3)
    static, moving = (supernet(x, SPACE.reference) for x in (image, repeated))
    torch.testing.assert_close(static, moving)


@pytest.mark.parametrize(
    "changes",
    [{"prefix_loss": True}, {"prefix_loss": False}, {"paths": "sandwich"}, {"mixup": 0.5, "erase": 0.5}],
)
def test_supernets_train_on_sequences(tmp_path, changes):
    write_frames(tmp_path)
    data = load_data(settings("cifar10_dvs", tmp_path, test=4, search=6))
    run = SupernetRun(SPACE, data, Recipe(updates=3, batch_size=8, **changes), 0)
    before = run.model.network.head.weight.detach().clone()
    for _ in range(3):
        assert run.step() > 0
    run.monitor()
    assert not torch.equal(before, run.model.network.head.weight)


def test_a_network_learns_sequences(tmp_path):
    """The classes differ in their event rates, so that a few updates tell them apart."""
    write_frames(tmp_path / "frames", 40)
    data = load_data(settings("cifar10_dvs", tmp_path / "frames", test=16, search=16))
    recipe = Recipe(updates=30, batch_size=16, learning_rate=5e-3, label_smoothing=0.0)
    state = tmp_path / "training.pt"
    options = {"state_file": state, "calibration_images": 32, "progress": False}
    config = dataclasses.replace(SPACE.reference, time_steps=2)
    run = train_network(config, SPACE.settings, data, recipe, **options)
    hits = run.model(run.input(data.test.images)).argmax(1) == data.test.labels
    assert float(hits.float().mean()) > 0.8
    assert run.history()[-1]["search"] > 0.8


@pytest.mark.parametrize("statistics", ["own", "shared_time", "running"])
def test_a_search_measures_sequences_as_each_network_alone(tmp_path, statistics):
    write_frames(tmp_path)
    data = load_data(settings("cifar10_dvs", tmp_path, test=4, search=6))
    supernet = Supernet(SPACE, shape=data.shape, classes=2, seed=1)
    asked = EvaluationSettings(calibration_images=14, statistics=statistics)
    evaluator = SupernetEvaluator(supernet, data, settings=asked)
    configs = [SPACE.decode(x) for x in SPACE.networks()]
    assert {config.time_steps for config in configs} == {2, 3}
    for config, metrics in zip(configs, evaluator.evaluate(configs), strict=True):
        alone = measure(evaluator.network(config), data.search)
        assert metrics.accuracy == alone.accuracy
        assert metrics.energy_mj == pytest.approx(alone.energy_mj, rel=1e-6)
        assert metrics.layers[0].repeats == config.time_steps


def test_frames_that_are_counted_already_are_not_split_again(tmp_path):
    write_frames(tmp_path)
    with pytest.raises(DataError, match="'event_frames' takes no split_by = 'time'; nmnist does"):
        load_data(settings("event_frames", tmp_path, split_by="time"))
