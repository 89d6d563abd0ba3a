"""Files that lie about their size or content: no more memory than an honest one takes, and a message."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import multiprocessing
import pickle
import re
import resource
import struct
import tarfile
import zipfile
from copy import deepcopy

import numpy as np
import pytest
import torch

from aspk import load_exported, load_space
from aspk.data import generated_data, load_data
from aspk.data.cifar import CIFAR10
from aspk.data.event_frames import read_frames
from aspk.data.fashion_mnist import read_idx
from aspk.errors import AspkError, CheckpointError
from aspk.families import Supernet
from aspk.families.random_weights import calibrated_random_network
from aspk.metrics import Metrics
from aspk.spec.settings import DataSettings, Recipe
from aspk.standalone.export import export_network
from aspk.tables import load_table, shipped_tables
from aspk.training import SupernetRun
from aspk.training.checkpoint import (
    load_state,
    load_supernet,
    load_tensors,
    save_state,
    save_supernet,
    save_tensors,
)

CPU = torch.device("cpu")
DIGITS = generated_data(DataSettings(name="digits"), 8, frames=1)


def refused(read, *arguments, memory=40):
    """The message of a reader that fails, in a process of its own, without ever taking ``memory`` MiB."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def child():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            read(*arguments)
            message = None
        except AspkError as error:
            message = str(error)
        sender.send((message, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(100)
    assert receiver.poll(), "another error, or the process died"
    message, used = receiver.recv()
    assert message is not None, "accepted"
    assert used < memory, message
    return message


# ------------------------------------------------------------------ networks


def rewrite(file, update, change=None):
    """Write a file of tensors again with another header, and other tensors."""
    tensors, header = load_tensors(file)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}  # they are views of the file
    header |= update
    if change is not None:
        change(tensors)
    save_tensors(file, tensors, {key: value for key, value in header.items() if value != "missing"})
    description = file.with_name("network.json")
    if description.is_file():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        description.write_text(json.dumps(json.loads(description.read_text()) | {"sha256": digest}))
    return file


@pytest.fixture
def exported(tmp_path):
    space = load_space("tiny")
    network, _ = calibrated_random_network(space.reference, space.settings, shape=DIGITS.shape, classes=10)
    metrics = Metrics(accuracy=0.5, energy_mj=1.0)
    export_network(tmp_path, network, data=DIGITS, weights="inherited", metrics=metrics, provenance={})
    file = tmp_path / "network.safetensors"
    load_exported(rewrite(file, {}))
    return file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(embed_dim=8192), "expected shape"),  # 6.5 GB
        (lambda config: config.update(embed_dim=999_936), "expected shape"),
        (lambda config: config.update(blocks=config["blocks"][:1] * 20_000), r"tensors, expected \d{6}"),
        (lambda config: config.update(blocks=[]), "at least one block"),
        (lambda config: config["blocks"][0].update(mlp_ratio=99_999), "expected shape"),
        (lambda config: config["blocks"][0].update(num_heads="4"), "num_heads"),
        (lambda config: config.pop("embed_dim"), "not a network"),
    ],
)
def test_a_network_is_not_built_from_other_tensors(exported, change, message):
    config = deepcopy(load_tensors(exported)[1]["config"])
    change(config)
    found = refused(load_exported, rewrite(exported, {"config": config}))
    assert re.search(rf"network\.safetensors: .*{message}", found), found


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"classes": 10**12}, "head"),
        ({"classes": 0}, "classes = 0"),
        ({"classes": "10"}, "classes = '10'"),
        ({"shape": [10**9, 8, 8]}, "up to 4096"),
        ({"shape": [1, 10**9, 8]}, "up to 4096"),
        ({"shape": [4000, 8, 8]}, "stem.0.conv.weight: expected shape"),
        ({"shape": [1, 8]}, "not enough values"),
        ({"shape": None}, "NoneType"),
        ({"settings": {"patch_size": "4"}}, "patch_size = '4'"),
        ({"settings": {"heads": "fixed_head_dim", "head_dim": 10**6}}, "expected shape"),
        ({"settings": {"wings": 2}}, "settings.wings = 2: unknown key"),
        ({"settings": "missing"}, "has no 'settings'"),
        ({"config": "missing"}, "has no 'config'"),
        ({"classes": "missing"}, "has no 'classes'"),
        ({"provenance": "missing"}, "has no 'provenance'"),
        ({"provenance": 7}, "not iterable"),
        ({"weights": "missing"}, "has no 'weights'"),
    ],
)
def test_a_header_that_lies_is_refused(exported, update, message):
    assert message in refused(load_exported, rewrite(exported, update))


TENSORS = {
    "infinite": (lambda tensor: tensor.fill_(torch.inf), "not finite"),
    "overflowing": (lambda tensor: tensor.double() + 1e300, "not finite in torch.float32"),
    "small type": (lambda tensor: tensor.to(torch.float8_e5m2), "of float8_e5m2"),
    "whole numbers": (lambda tensor: tensor.long(), "of int64"),
    "transposed": (lambda tensor: tensor.T.contiguous(), "expected shape"),
}


@pytest.mark.parametrize(("change", "message"), TENSORS.values(), ids=TENSORS)
def test_tensors_of_another_kind_are_refused(exported, change, message):
    name = "blocks.0.fc1.linear.weight"
    file = rewrite(exported, {}, lambda tensors: tensors.update({name: change(tensors[name])}))
    found = refused(load_exported, file)
    assert name in found
    assert message in found


def test_float64_is_welcome(exported):
    expected = load_exported(exported).state_dict()
    doubled = rewrite(
        exported,
        {},
        lambda tensors: tensors.update({k: t.double() for k, t in tensors.items() if t.is_floating_point()}),
    )
    for name, tensor in load_exported(doubled).state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_a_header_without_an_end_is_not_read(tmp_path):
    file = tmp_path / "long.safetensors"
    file.write_bytes((60 << 20).to_bytes(8, "little") + b"{" + b" " * (60 << 20))
    assert "expected at most" in refused(load_tensors, file)


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"network": {"depth": [1000]}}, "tensors, expected"),
        ({"network": {"embed_dim": [64, 999_936]}}, "expected shape"),
        ({"provenance": "missing"}, "has no 'provenance'"),
        ({"space": "missing"}, "has no 'space'"),
    ],
)
def test_a_supernet_is_not_built_from_other_tensors(tmp_path, update, message):
    file = tmp_path / "supernet.safetensors"
    save_supernet(file, Supernet(load_space("tiny"), shape=DIGITS.shape, classes=10), {})
    load_supernet(file)
    space = load_tensors(file)[1]["space"]
    if network := update.pop("network", None):
        reference = space["reference"] | {name: choices[-1] for name, choices in network.items()}
        update = {"space": space | {"network": space["network"] | network, "reference": reference}}
    assert message in refused(load_supernet, rewrite(file, update))


# ------------------------------------------------------------------ training states


def run(folder):
    """A run of one update, and its state."""
    fresh = SupernetRun(load_space("tiny"), DIGITS, Recipe(updates=4, batch_size=4), 0)
    fresh.step()
    return fresh, fresh.state()


STATES = {
    "update": (lambda state: state.update(update=99), "update 99"),
    "update is no number": (lambda state: state.update(update="1"), "update '1'"),
    "no update": (lambda state: state.pop("update"), "update"),
    "no weights": (lambda state: state.pop("weights"), "weights"),
    "no optimizer": (lambda state: state.pop("optimizer"), "optimizer"),
    "history": (lambda state: state.update(history=[{"search": "a"}]), "must be numbers"),
    "losses": (lambda state: state.update(losses=None), "not iterable"),
    "a moment's shape": (
        lambda state: state["optimizer"]["state"][0].update(exp_avg=torch.zeros(1, 1)),
        "of a parameter of shape",
    ),
    "a moment is missing": (lambda state: state["optimizer"]["state"][0].pop("exp_avg"), "moments"),
}


@pytest.mark.parametrize(("change", "message"), STATES.values(), ids=STATES)
def test_a_malformed_state_is_refused(tmp_path, change, message):
    (fresh, state), file = run(tmp_path), tmp_path / "training.pt"
    save_state(file, state)
    fresh.resume(file)
    change(state := deepcopy(state))
    save_state(file, state)
    file.with_suffix(".previous").unlink()
    with pytest.raises(CheckpointError, match=message):
        fresh.resume(file)
    fresh.step()


def test_moments_with_all_numbers_in_one_place_are_spread(tmp_path):
    (fresh, state), file = run(tmp_path), tmp_path / "training.pt"
    moments = state["optimizer"]["state"][0]
    moments["exp_avg"] = torch.zeros(1).expand(moments["exp_avg"].numel()).view_as(moments["exp_avg"])
    save_state(file, state)
    fresh.resume(file)
    fresh.step()


def test_the_optimizers_settings_are_the_recipes(tmp_path):
    (fresh, state), file = run(tmp_path), tmp_path / "training.pt"
    state["optimizer"]["param_groups"] = [{"lr": "much", "params": []}]
    save_state(file, state)
    fresh.resume(file)
    fresh.step()


def state_file(folder, *, compression=zipfile.ZIP_STORED, member="data/0", content=None, pickled=None):
    """A state of one tensor whose archive is written again."""
    buffer, file = io.BytesIO(), folder / "state.pt"
    torch.save({"format": "aspk 1", "weights": torch.zeros(16 << 20)}, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(file, "w", compression) as target:
        for info in source.infolist():
            own = pickled if pickled and info.filename.endswith("data.pkl") else source.read(info)
            target.writestr(info.filename, own)
    return file


def test_a_compressed_state_is_not_unpacked(tmp_path):
    load_state(state_file(tmp_path), CPU)
    file = state_file(tmp_path, compression=zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 1 << 20
    assert "larger than the file" in refused(load_state, file, CPU)


class Long:
    """Half a dozen bytes that ask for as much memory as they like."""

    def __reduce__(self):
        return bytearray, (1 << 30,)


def test_a_state_names_only_what_states_need(tmp_path):
    pickled = pickle.dumps({"format": "aspk 1", "weights": Long()}, protocol=2)
    file = tmp_path / "state.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    assert "bytearray, which no state needs" in refused(load_state, file, CPU)


# ------------------------------------------------------------------ arrays


def npy(array):
    content = io.BytesIO()
    np.lib.format.write_array(content, array, allow_pickle=True)
    return content.getvalue()


SMALL = npy(np.zeros((2, 2, 4, 4), np.float32))
ZEROS = bytes(48 << 20)


def header(shape, dtype="<f4"):
    content = io.BytesIO()
    fields = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(content, fields)
    return content.getvalue()


ARCHIVES = {
    "not an array": ({"frames.npy": b"hello"}, "damaged, or not frames"),
    "nothing": ({"frames.npy": b""}, "damaged, or not frames"),
    "zeros without end": ({"frames.npy": header((12, 2, 512, 1024)) + ZEROS}, "unpacks to"),
    "more announced": ({"frames.npy": header((9999, 9, 9, 9)) + SMALL[128:]}, "in 256 bytes"),
    "no number": ({"frames.npy": header((10**30, 1, 1, 1)) + SMALL[128:]}, "in 256 bytes"),
    "less announced": ({"frames.npy": header((1, 2, 4, 4)) + SMALL[128:]}, "in 256 bytes"),
    "negative": ({"frames.npy": header((-2, -2, 4, 4)) + SMALL[128:]}, "in 256 bytes"),
    "objects": ({"frames.npy": npy(np.array([{}, 1], object))}, "never unpickled"),
    "pickled": ({"frames.npy": pickle.dumps(Long())}, "damaged, or not frames"),
    "no bytes each": ({"frames.npy": header((1 << 40, 1, 1, 1), "|V0")}, "damaged, or not frames"),
    "fields": (
        {"frames.npy": npy(np.zeros((2, 2, 4, 4), [("a", "f4")]))},
        "damaged, or not frames|frames is",
    ),
    "overflow": ({"frames.npy": npy(np.full((2, 2, 4, 4), 1e300))}, "not finite in float32"),
    "another name": ({"frame.npy": SMALL}, "no array 'frames', but frame"),
}


def write_archive(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(("members", "message"), ARCHIVES.values(), ids=ARCHIVES)
def test_frames_that_lie_are_refused(tmp_path, members, message):
    found = refused(read_frames, write_archive(tmp_path / "a.npz", members))
    assert re.search(message, found), found


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_methods_that_numpy_does_not_write_are_refused(tmp_path, method):
    file = write_archive(tmp_path / "a.npz", {"frames.npy": SMALL}, method)
    assert f"compressed by method {method}" in refused(read_frames, file)


def test_only_the_member_that_is_wanted_is_unpacked(tmp_path):
    file = write_archive(tmp_path / "a.npz", {"frames.npy": SMALL, "frames": ZEROS, "other.npy": ZEROS})
    assert read_frames(file).shape == (2, 2, 4, 4)


def holes(names, size):
    """An archive of files that have a size and no bytes."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            member = tarfile.TarInfo(f"{CIFAR10.folder}/{name}")
            member.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1"}
            member.pax_headers |= {"GNU.sparse.map": f"0,0,{size},0", "GNU.sparse.size": str(size)}
            archive.addfile(member, io.BytesIO())
    return content.getvalue()


def test_holes_in_an_archive_are_not_filled(tmp_path):
    (tmp_path / CIFAR10.archive.name).write_bytes(holes([*CIFAR10.train, CIFAR10.test], 3073 * 50_000))
    found = refused(load_data, DataSettings(name="cifar10", folder=str(tmp_path)))  # 287 bytes, once 4.5 GB
    assert "has no file" in found


def test_an_archive_of_zeros_ends_early(tmp_path):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name in (*CIFAR10.train, CIFAR10.test):
            member = tarfile.TarInfo(f"{CIFAR10.folder}/{name}")
            member.size = 3073 * 10_000
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    (tmp_path / CIFAR10.archive.name).write_bytes(content.getvalue())
    found = refused(load_data, DataSettings(name="cifar10", folder=str(tmp_path)), memory=80)
    assert "unpacks to more than" in found


def test_an_idx_file_of_zeros_is_not_unpacked(tmp_path):
    file = tmp_path / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 60_000, 28, 28) + bytes(60_000 * 784)))
    assert "too many for its size" in refused(read_idx, file, (28, 28))


def test_a_tables_members_are_added_up(tmp_path):
    with zipfile.ZipFile(shipped_tables()["digits_heads"]) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    load_table(write_archive(tmp_path / "a.npz", members))
    members |= {f"search/{number}.npy": header((1 << 20,), "<f8") + bytes(8 << 20) for number in range(30)}
    assert "unpacks to" in refused(load_table, write_archive(tmp_path / "b.npz", members))
