"""Inputs that are too large, or that never end, end in a clear message at once."""

from __future__ import annotations

import http.server
import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aspk.cli.main import main
from aspk.data import download, pictures
from aspk.data.download import Remote, fetch
from aspk.data.event_frames import read_frames
from aspk.data.pictures import open_picture
from aspk.energy import load_energy_model
from aspk.errors import AspkError, DataError, SpaceError
from aspk.report.energy.sources import read_config
from aspk.space.file import load_space, space_from_dict
from aspk.spec.recipe import load_recipe
from aspk.spec.study import load_study_file, study_from_dict
from aspk.standalone.export import load_exported
from aspk.training.checkpoint import load_state, load_supernet
from aspk.trials.verdict import UNKNOWN, read_verdict
from aspk.util.files import read_text

pytestmark = pytest.mark.timeout(60)  # what waits for ever fails
HUGE = 10**400
READERS = {
    "x.toml": [load_space, load_study_file, load_energy_model, load_recipe],
    "x.json": [read_config],
    "x.png": [open_picture],
    "x.npz": [read_frames],
    "supernet.safetensors": [load_supernet],
    "network.safetensors": [load_exported],
    "training.pt": [lambda path: load_state(path, torch.device("cpu"))],
}


def special(path: Path, kind: str) -> Path:
    """Something that is no ordinary file."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path


@pytest.mark.parametrize("kind", ["pipe", "endless", "folder"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_ordinary_file_is_not_waited_for(tmp_path, name, kind):
    path = special(tmp_path / name, kind)
    for read in READERS[name]:
        with pytest.raises(AspkError):
            read(path)


@pytest.mark.parametrize("kind", ["pipe", "endless", "folder"])
def test_a_verdict_that_cannot_be_read_is_unknown(tmp_path, kind):
    assert read_verdict(special(tmp_path / "rank.json", kind), "", "own") == UNKNOWN


def test_a_small_file_is_small(tmp_path):
    (tmp_path / "a").write_text("ü" * 10)
    assert read_text(tmp_path / "a", most=20) == "ü" * 10
    with pytest.raises(OSError, match="larger than 19 bytes"):
        read_text(tmp_path / "a", most=19)
    big = tmp_path / "big.toml"
    big.write_bytes(b"#" * (2 << 20))
    with pytest.raises(SpaceError, match=r"big.toml: not a TOML file: .*larger than 1,048,576 bytes"):
        load_space(big)


# ---------------------------------------------------------------------- pictures


@pytest.mark.parametrize("side", [1100, 3000])  # beyond the bound, and beyond twice Pillow's own
def test_a_picture_of_too_many_pixels_is_not_unpacked(tmp_path, monkeypatch, side):
    Image.fromarray(np.zeros((side, side), np.uint8)).save(tmp_path / "x.png")
    monkeypatch.setattr(pictures, "_MOST_PIXELS", 1000**2)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000**2)
    with pytest.raises(DataError, match=r"x.png: .*a picture of more than"):
        open_picture(tmp_path / "x.png")


# ---------------------------------------------------------------------- downloads


@pytest.fixture
def trickle():
    """A server that sends a byte now and then, for ever."""

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x")
                    self.wfile.flush()
                    time.sleep(0.02)
            except OSError:
                pass

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/file"
    server.shutdown()
    server.server_close()


def test_a_download_that_trickles_is_given_up(trickle, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TIMEOUT", 0.5)
    with pytest.raises(DataError, match=r"cannot download http.*: only \d+ bytes in .* s; try again"):
        fetch(Remote(trickle, "0" * 32), tmp_path)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- spaces and numbers


def test_a_space_that_is_too_large_is_not_gone_through():
    space = load_space("auto_spikformer")
    with pytest.raises(SpaceError, match=r"has 8,659,768,320 networks: expected at most 1,000,000"):
        space.networks()


def test_choices_beyond_number_are_refused():
    space = load_space("tiny").to_json()
    space["network"]["embed_dim"] = list(range(16, 16 * 2001, 16))
    space["block"]["num_heads"] = list(range(1, 9))
    with pytest.raises(SpaceError, match=r"have 48,000 combinations: expected at most 10,000"):
        space_from_dict(space)


@pytest.mark.parametrize(
    "path",
    [
        *(("evaluations",), ("batch",), ("seed",), ("train", "updates"), ("train", "learning_rate")),
        *(("train", "clip"), ("evaluation", "images"), ("engine", "memory"), ("energy", "mac_pj")),
        *(("faeb", "floor"), ("faeb", "weight"), ("constraints", "energy"), ("data", "search")),
    ],
    ids=".".join,
)
@pytest.mark.parametrize("value", [HUGE, float("inf"), float("nan")], ids=["huge", "inf", "nan"])
def test_numbers_that_fit_nowhere_are_named(path, value):
    data = {"name": "x", "space": "tiny", "data": {"name": "digits"}}
    *tables, key = path
    table = data
    for name in tables:
        table = table.setdefault(name, {})
    table[key] = value
    with pytest.raises(AspkError) as caught:
        study_from_dict(data)
    assert key in str(caught.value)


@pytest.mark.parametrize(
    "command",
    [
        ["energy", "--space", "tiny", "--random-weights", "--images", str(10**12)],
        ["energy", "--space", "tiny", "--random-weights", "--images", "9000", "--shape", "100,100,100"],
        ["energy", "--space", "tiny", "--random-weights", "--seed", str(HUGE)],
        ["rank", "digits", "--networks", str(10**12)],
        ["train", "digits", "--check", str(10**12)],
        ["surrogate", "digits", "--draws", "9" * 5000],
        ["search", "digits", "--evaluations", str(HUGE)],
    ],
    ids=lambda command: f"{command[0]} {command[-2]}",
)
def test_options_that_would_never_end_are_wrong_usage(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(command)
    assert "expected" in capsys.readouterr().err


def test_huge_whole_numbers_in_json_are_no_network(tmp_path):
    config = load_space("tiny").reference.to_json()
    for text in (json.dumps({**config, "embed_dim": 10**300}), "9" * 10_000, "[" * 100_000):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(AspkError):
            read_config(tmp_path / "x.json")
