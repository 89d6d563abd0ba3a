"""An exported network knows what to do with ordinary images: from a folder of files to their classes."""

from __future__ import annotations

import json
import re
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import aspk
from aspk.cli import main
from aspk.data import load_data
from aspk.errors import CheckpointError, DataError
from aspk.spec.study import load_study_file
from aspk.standalone.export import load_exported
from aspk.standalone.prediction import predict_files

CLASSES = ("circle", "cross", "stripes")


def write_shapes(folder, count, seed):
    """Three shapes in two colours of any brightness, as PNG files of several sizes."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        for name in CLASSES:
            height, width = rng.integers(14, 26, 2)
            y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
            y, x = y * max(1, height / width), x * max(1, width / height)  # the centre stays in the crop
            shape = {
                "circle": np.hypot(y, x) < 0.7,
                "cross": np.minimum(abs(y - x), abs(y + x)) < 0.3,
                "stripes": np.sin(9 * y) > 0,
            }[name]
            colours = rng.integers(0, 100, 3), rng.integers(130, 256, 3)
            pixels = np.where(shape[..., None], *colours) + rng.normal(0, 8, (height, width, 3))
            place = folder / name
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(place / f"{number:03}.png")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of pictures; a slice of a supernet and a network trained alone, both exported."""
    root = tmp_path_factory.mktemp("shapes")
    write_shapes(root / "images" / "train", 60, seed=0)
    write_shapes(root / "images" / "test", 20, seed=1)
    study = root / "shapes.toml"
    study.write_text(
        f"""
        space = "tiny"
        folder = "{root / "run"}"
        evaluations = 6
        [data]
        name = "image_folder"
        folder = "{root / "images"}"
        resize = 8
        search = 0.3
        [train]
        updates = 120
        batch_size = 32
        [retrain]
        updates = 20
        batch_size = 32
        [evaluation]
        calibration_images = 64
        [sampler]
        name = "nsga2"
        """
    )
    for command in ("train", "search", "export"):
        assert main([command, str(study), "--device", "cpu"]) == 0
    assert main(["retrain", str(study), "--device", "cpu"]) == 0
    spec = load_study_file(study)
    (retrained,) = (spec.folder / "retrained").iterdir()
    return {"images": root / "images", "slice": spec.folder / "export-shapes", "retrained": retrained}


def run(capsys, *arguments):
    assert main([*map(str, arguments), "--device", "cpu"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("kind", ["slice", "retrained"])
def test_files_are_classified_as_the_data_set_is(models, kind, capsys):
    model, images = models[kind], models["images"]
    evaluated = run(capsys, "evaluate", model)
    found = json.loads(run(capsys, "predict", model, images / "test", "--json"))
    assert len(found) == 60
    hits = [record["file"].split("/")[-2] == record["classes"][0]["class"] for record in found]
    assert f"test accuracy {sum(hits) / 60:.4f}" in evaluated
    assert sum(hits) / 60 > 0.6  # a guess has 0.33, and so have pixels that are not standardised
    for record in found:
        shares = [item["probability"] for item in record["classes"]]
        assert len(shares) == 3
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["slice", "retrained"])
def test_preprocess_gives_what_load_data_gives(models, kind):
    model = aspk.load_exported(models[kind])
    assert model.classes == CLASSES
    data = load_data(aspk.DataSettings.from_json(model.provenance["data"]))
    pictures = [Image.open(path) for path in sorted((models["images"] / "test").rglob("*.png"))]
    assert torch.equal(model.preprocess(pictures), data.test.images)
    assert torch.equal(model.preprocess(np.asarray(pictures[0])), data.test.images[:1])
    assert model(model.preprocess(pictures[0])).shape == (1, 3)
    assert model.double().preprocess(pictures[0]).dtype == torch.float64


def test_the_energy_of_a_loaded_export_is_its_networks(models):
    model, images = aspk.load_exported(models["slice"]), torch.randn(4, 3, 8, 8)
    assert aspk.profile_energy(model, images) == aspk.profile_energy(model.network, images)


def test_files_and_folders_as_a_table(models, capsys):
    one = models["images"] / "test" / "cross" / "003.png"
    (line,) = run(capsys, "predict", models["slice"], one, "--top", "2").splitlines()
    assert re.fullmatch(rf"{one}: (\w+ 0\.\d{{3}}(, )?){{2}}", line)
    lines = run(capsys, "predict", models["slice"], one, models["images"] / "test").splitlines()
    assert len(lines) == 61
    assert lines[0].startswith(line.split(",")[0])


def test_a_file_that_cannot_be_used_does_not_stop_the_others(models, tmp_path, capsys):
    good = models["images"] / "test" / "cross" / "003.png"
    (tmp_path / "damaged.png").write_bytes(good.read_bytes()[:80])
    (tmp_path / "steers\x1b[31m.png").write_bytes(good.read_bytes())
    np.savez(tmp_path / "events.npz", frames=np.zeros((2, 2, 8, 8)))
    model = models["slice"]
    assert main(["predict", str(model), str(tmp_path), str(tmp_path / "none.png"), str(good)]) == 1
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 2
    assert "\x1b" not in printed.out
    assert "damaged.png: damaged, or not an image" in printed.err
    assert "events.npz: images of shape" in printed.err
    assert "none.png: no such file" in printed.err
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file in it ends in"):
        list(predict_files(load_exported(model), [tmp_path / "empty"]))


@pytest.fixture
def described(models, tmp_path):
    """Copies an export with another description."""

    def change(update):
        for name in ("network.safetensors", "network.json"):
            (tmp_path / name).write_bytes((models["slice"] / name).read_bytes())
        description = json.loads((tmp_path / "network.json").read_text())
        update(description)
        (tmp_path / "network.json").write_text(json.dumps(description))
        return tmp_path

    return change


def test_an_old_export_says_what_it_lacks(described, models):
    picture = Image.open(models["images"] / "test" / "cross" / "003.png")

    def age(description):
        del description["preprocess"]
        description["classes"] = 3  # their number was all there was

    with pytest.warns(UserWarning, match=r"network\.json lacks classes .* and preprocess .*export again"):
        old = load_exported(described(age))
    assert old.classes == ("0", "1", "2")
    with pytest.raises(CheckpointError, match="does not say"):
        old.preprocess(picture)
    new = load_exported(models["slice"])
    assert torch.equal(old(new.preprocess(picture)), new(new.preprocess(picture)))
    with pytest.warns(UserWarning, match=r"lacks preprocess \("):
        load_exported(described(lambda description: description.pop("preprocess")))
    with pytest.warns(UserWarning, match=r"lacks classes \(their names\); export again"):
        assert load_exported(described(lambda description: description.pop("classes")))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_exported(models["slice"])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classes", ["a", "b"]),
        ("classes", ["a", "b", 3]),
        ("preprocess", None),
        ("preprocess", {"resize": "pad"}),
    ],
)
def test_a_description_that_does_not_fit_is_an_error(described, key, value):
    with pytest.raises(CheckpointError, match=rf"network\.json: .*{key}"):
        load_exported(described(lambda description: description.update({key: value})))
