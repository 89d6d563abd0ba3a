"""N-MNIST's recordings, counted into frames as spikingjelly counts them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aspk import load_exported, load_space
from aspk.cli import main
from aspk.data import generated_data, load_data, network_input
from aspk.data.nmnist import read_recording
from aspk.errors import DataError
from aspk.families.random_weights import calibrated_random_network
from aspk.metrics import Metrics
from aspk.spec.settings import DataSettings
from aspk.standalone.export import export_network
from aspk.standalone.prediction import predict_files


def write_recording(path, x, y, polarity, times):
    """Events of 5 bytes, as the published files have them."""
    x, y, polarity, times = (np.asarray(values, np.uint32) for values in (x, y, polarity, times))
    events = np.stack([x, y, polarity << 7 | times >> 16, times >> 8 & 255, times & 255], axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(events.astype(np.uint8).tobytes())
    return path


def random_events(count, rng, last=300_000):
    times = np.sort(rng.integers(0, last, count))
    return rng.integers(0, 34, count), rng.integers(0, 34, count), rng.integers(0, 2, count), times


def write_folder(root, train=3, test=2, classes="0123456789"):
    rng = np.random.default_rng(0)
    for part, count in (("Train", train), ("Test", test)):
        for number in range(count):
            for name in classes:
                write_recording(root / part / name / f"{number:05}.bin", *random_events(200, rng))
    return root


def counted_by_spikingjelly(path, frames, split_by):
    from spikingjelly.datasets import utils

    return utils.integrate_events_by_fixed_frames_number(utils.load_ATIS_bin(path), split_by, frames, 34, 34)


@given(
    st.integers(1, 400), st.integers(1, 12), st.sampled_from(["number", "time"]), st.integers(0, 2**32 - 1)
)
def test_frames_are_those_of_spikingjelly(tmp_path_factory, events, frames, split_by, seed):
    path = tmp_path_factory.mktemp("events") / "a.bin"
    write_recording(path, *random_events(events, np.random.default_rng(seed)))
    found = read_recording(path, frames, split_by=split_by)
    assert found.shape == (frames, 2, 34, 34)
    assert found.sum() == events
    try:
        expected = counted_by_spikingjelly(path, frames, split_by)
    except IndexError:  # a frame without an event, which spikingjelly cannot make
        assert split_by == "time"
        return
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("split_by", ["number", "time"])
def test_real_recordings(real_data, split_by):
    paths = sorted((real_data / "nmnist" / "Test").rglob("*.bin"))
    assert len(paths) == 100
    for path in paths[::5]:
        for frames in (3, 10):
            found = read_recording(path, frames, split_by=split_by)
            assert np.array_equal(found, counted_by_spikingjelly(path, frames, split_by)), path


def test_frames_without_an_event_are_empty(tmp_path):
    path = write_recording(tmp_path / "a.bin", [1, 2, 3], [4, 5, 6], [0, 1, 1], [0, 5, 8_388_607])
    found = read_recording(path, 4, split_by="time")
    assert found.sum(axis=(1, 2, 3)).tolist() == [2, 0, 0, 1]
    assert found[0, 0, 4, 1] == found[0, 1, 5, 2] == found[3, 1, 6, 3] == 1
    together = write_recording(tmp_path / "b.bin", [1, 2], [4, 5], [0, 1], [7, 7])
    assert read_recording(together, 3, split_by="time").sum(axis=(1, 2, 3)).tolist() == [0, 0, 2]


def test_times_that_go_back_lose_no_memory(tmp_path):
    rng = np.random.default_rng(0)
    x, y, polarity, times = random_events(50, rng)
    for order in (np.arange(50)[::-1], rng.permutation(50)):
        path = write_recording(tmp_path / "a.bin", x, y, polarity, times[order])
        assert read_recording(path, 5, split_by="time").shape == (5, 2, 34, 34)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes: expected events of 5 bytes"),
        (bytes(7), "7 bytes: expected events of 5 bytes"),
        (bytes([34, 0, 0, 0, 0]), "at x 34, y 0: expected 0 to 33"),
        (bytes([0, 200, 0, 0, 0]), "at x 0, y 200"),
    ],
)
def test_damaged_recordings(tmp_path, content, message):
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(DataError, match=re.escape(message)):
        read_recording(tmp_path / "a.bin", 3)
    with pytest.raises(DataError, match="cannot be read"):
        read_recording(tmp_path, 3)


def test_the_data_set_and_its_splits(tmp_path):
    write_folder(tmp_path)
    data = load_data(DataSettings(name="nmnist", folder=str(tmp_path), frames=4, search=10))
    assert (data.shape, data.classes, data.class_names) == ((2, 34, 34), 10, tuple("0123456789"))
    assert [tuple(part.images.shape[:2]) for part in (data.train, data.search, data.test)] == [
        (20, 4),
        (10, 4),
        (20, 4),
    ]
    assert data.test.labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert float(data.train.images[:, :, 1].mean()) == pytest.approx(0, abs=1e-4)


def test_recordings_are_classified_as_the_data_set_is(tmp_path):
    given = DataSettings(
        name="nmnist", folder=str(write_folder(tmp_path / "events")), frames=5, split_by="time"
    )
    data, space = load_data(given), load_space("tiny")
    network, _ = calibrated_random_network(space.reference, space.settings, shape=data.shape, classes=10)
    export_network(
        tmp_path / "model",
        network,
        data=data,
        weights="inherited",
        metrics=Metrics(accuracy=0.1, energy_mj=1.0),
        provenance={"data": data.provenance()},
    )
    model = load_exported(tmp_path / "model")
    found = list(predict_files(model, [tmp_path / "events" / "Test"]))
    logits = model(network_input(data.test.images, space.reference.time_steps))
    assert [item.probabilities[0][0] for item in found] == [str(int(label)) for label in logits.argmax(1)]
    assert [item.path.parent.name for item in found] == [str(int(label)) for label in data.test.labels]
    for all_frames in (data.test.images, data.test.images.transpose(0, 1)):  # one is also batch first
        with pytest.raises(DataError, match=r"expected \[T, B, C, H, W\] with the network's T = 4"):
            model(all_frames)


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"no folder .*nmnist.Train .*Train\.zip"):
        load_data(DataSettings(name="nmnist", frames=4))
    with pytest.raises(DataError, match="needs the number of frames"):
        load_data("nmnist")
    with pytest.raises(DataError, match="'cifar10_dvs' takes no frames = 4; nmnist does"):
        load_data(DataSettings(name="cifar10_dvs", frames=4))
    for key, value in (("frames", 0), ("frames", 2.5), ("frames", 10**6), ("split_by", "events")):
        with pytest.raises(DataError, match=f"data.{key} = {value!r}"):
            DataSettings.from_json({"name": "nmnist", "frames": 4, key: value})
    write_folder(tmp_path, classes="012")
    (tmp_path / "Test" / "2").rename(tmp_path / "Test" / "7")
    with pytest.raises(DataError, match=r"Train has the classes \('0', '1', '2'\)"):
        load_data(DataSettings(name="nmnist", folder=str(tmp_path), frames=4))


def test_check_reads_the_folder_that_is_there(tmp_path, capsys):
    settings = DataSettings(name="nmnist", folder=str(tmp_path / "none"), frames=3)
    assert generated_data(settings, 2, frames=9).train.images.shape == (2, 3, 2, 34, 34)
    assert generated_data(settings, 2, frames=9).classes == 10
    write_folder(tmp_path / "some", classes="01")
    settings = DataSettings(name="nmnist", folder=str(tmp_path / "some"), frames=3, resize=8)
    made = generated_data(settings, 2, frames=9)
    assert (made.classes, made.shape, made.train.images.shape[1]) == (2, (2, 8, 8), 3)
    study = tmp_path / "study.toml"
    study.write_text(
        f"""
        space = "tiny"
        folder = "{tmp_path / "run"}"
        [data]
        name = "nmnist"
        folder = "{tmp_path / "some"}"
        resize = 8
        frames = 3
        """
    )
    assert main(["check", str(study), "--device", "cpu"]) == 1
    assert "sequences of 3 frames for a network of 4 steps" in capsys.readouterr().err
    study.write_text(study.read_text().replace("frames = 3", "frames = 4"))
    assert main(["check", str(study), "--device", "cpu"]) == 0
    assert "2x8x8, 2 classes" in capsys.readouterr().out
