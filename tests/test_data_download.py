"""Downloads happen when asked for, are checked, and leave no half of a file."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import threading

import pytest
from data_files import archive, cifar_files, cifar_folder, write_fashion_mnist

from aspk.cli import main
from aspk.data import cifar, download, fashion_mnist, load_data
from aspk.data.download import Remote, fetch
from aspk.errors import DataError
from aspk.spec.settings import DataSettings


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; ``/torn/...`` promises more than it sends."""

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path.startswith("/torn/"):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"half")
            return
        super().do_GET()

    def log_message(self, *_):
        """Quiet."""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A web server on this machine, its folder, and what was asked of it."""
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "site"
    folder.mkdir()
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        server.url, server.folder = f"http://127.0.0.1:{server.server_port}", folder
        yield server
        server.shutdown()
        thread.join()


def published(site, name, content):
    (site.folder / name).write_bytes(content)
    return Remote(f"{site.url}/{name}", hashlib.md5(content).hexdigest())


def test_a_file_arrives_whole(site, tmp_path):
    content = bytes(range(256)) * 9000  # more than one piece
    path = fetch(published(site, "file.bin", content), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "file.bin"
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["file.bin"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("{site}/file.bin", "expected MD5 00"),
        ("{site}/torn/file.bin", "got 4 bytes of MD5|IncompleteRead"),
        ("{site}/nothing.bin", "404"),
        ("http://127.0.0.1:1/file.bin", "refused"),
        ("nonsense", "unknown url type"),
    ],
)
def test_what_is_wrong_is_not_written(site, tmp_path, url, message):
    published(site, "file.bin", b"content")
    target = tmp_path / "target"
    remote = Remote(url.format(site=site.url), "00")
    with pytest.raises(DataError, match=message) as caught:
        fetch(remote, target)
    assert remote.url in str(caught.value)
    assert str(target / remote.name) in str(caught.value)
    assert not target.exists()


def test_a_file_without_end_is_given_up(site, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_MOST", 100)
    with pytest.raises(DataError, match="more than 100 bytes"):
        fetch(published(site, "file.bin", bytes(101)), tmp_path)
    assert fetch(published(site, "file.bin", bytes(100)), tmp_path).stat().st_size == 100


def test_a_folder_that_cannot_be_written(site, tmp_path):
    (tmp_path / "in-the-way").write_text("")
    with pytest.raises(DataError, match="put the file there yourself"):
        fetch(published(site, "file.bin", b"x"), tmp_path / "in-the-way")


@pytest.fixture
def online(site, tmp_path, monkeypatch):
    """Fashion-MNIST and CIFAR-10, tiny, published by the server; an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_fashion_mnist(site.folder, train=60, test=20)
    remotes = tuple(
        published(site, remote.name, (site.folder / remote.name).read_bytes())
        for remote in fashion_mnist.ORIGIN.remotes
    )
    origin = dataclasses.replace(fashion_mnist.ORIGIN, remotes=remotes, installed=())
    monkeypatch.setattr(fashion_mnist, "ORIGIN", origin)
    content = archive(cifar_files()[0], cifar_folder())
    origin = dataclasses.replace(
        cifar.CIFAR10.origin, remotes=(published(site, "cifar-10-binary.tar.gz", content),)
    )
    monkeypatch.setattr(cifar, "CIFAR10", dataclasses.replace(cifar.CIFAR10, origin=origin))
    return site


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
def test_only_what_is_asked_for_is_downloaded_and_only_once(online, tmp_path, name):
    for settings in (DataSettings(name=name), DataSettings(name=name, folder=str(tmp_path / "mine"))):
        with pytest.raises(DataError, match="--download"):
            load_data(settings)
        assert online.asked == []
        first = load_data(settings, download=True)
        assert len(online.asked) == (4 if name == "fashion_mnist" else 1)
        again = load_data(settings, download=True)
        assert again.fingerprint() == load_data(settings).fingerprint() == first.fingerprint()
        assert len(online.asked) == (4 if name == "fashion_mnist" else 1)
        online.asked.clear()
    places = {path.parent for path in tmp_path.rglob("*.gz")} - {online.folder}
    assert places == {tmp_path / "mine", tmp_path / "cache" / "aspk" / name}


def test_from_download_to_evaluation(online, tmp_path, capsys):
    """The whole pipeline on a study file with a [data] table."""
    study, folder = tmp_path / "small.toml", tmp_path / "mine"
    study.write_text(
        f"""
        space = "tiny"
        folder = "{tmp_path / "run"}"
        evaluations = 3
        batch = 3
        [data]
        name = "fashion_mnist"
        folder = "{folder}"
        train = 30
        search = 20
        test = 10
        resize = 8
        [train]
        updates = 2
        batch_size = 8
        [evaluation]
        calibration_images = 8
        [sampler]
        name = "random"
        """
    )
    assert main(["train", str(study), "--device", "cpu"]) == 1
    assert "--download" in capsys.readouterr().err
    assert main(["train", str(study), "--device", "cpu", "--download"]) == 0
    assert main(["search", str(study), "--device", "cpu"]) == 0
    model = tmp_path / "model"
    assert main(["export", str(study), "--device", "cpu", "--output", str(model), "--trial", "1"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(model), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "fashion_mnist test accuracy 0." in printed or "fashion_mnist test accuracy 1." in printed
    weights = tmp_path / "run" / "supernet.safetensors"
    assert main(["energy", "--weights", str(weights), "--device", "cpu"]) == 0

    moved = tmp_path / "moved"
    folder.rename(moved)
    capsys.readouterr()
    assert main(["evaluate", str(model), "--device", "cpu"]) == 1
    assert str(folder) in capsys.readouterr().err
    assert main(["evaluate", str(model), "--device", "cpu", "--data-folder", str(moved)]) == 0
    assert capsys.readouterr().out == printed
    for network in (["--weights", str(weights)], [str(model), "--split", "search"]):
        command = ["energy", *network, "--device", "cpu"]
        assert main(command) == 1
        assert str(folder) in capsys.readouterr().err
        assert main([*command, "--data-folder", str(moved)]) == 0
        assert capsys.readouterr().err == ""
