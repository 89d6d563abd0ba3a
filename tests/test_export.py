"""Exported networks give the outputs they were exported with, and damage is noticed."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from spaces import TINY

import aspk
from aspk.cli.main import main
from aspk.data import Preprocess, load_data
from aspk.errors import CheckpointError, DataError, StudyError
from aspk.evaluation.exported import ExportedNetwork
from aspk.evaluation.supernet import measure
from aspk.families.random_weights import calibrated_random_network
from aspk.spec.study import load_study_file
from aspk.standalone.export import export_network, export_trial, load_exported
from aspk.standalone.retraining import retrain
from aspk.study import evaluator_of, load_problem, run_study
from aspk.study.storage import open_study
from aspk.trials import attributes, note_study_record, study_record


@pytest.fixture
def exported(study_file, tmp_path):
    spec = load_study_file(study_file)
    run_study(spec, load_problem(spec, device="cpu"), progress=False)
    return spec, export_trial(spec, tmp_path / "model", number=2, device="cpu")


def test_outputs_are_equal_to_the_evaluated_network(exported, digits):
    spec, folder = exported
    network = aspk.load_exported(folder)
    evaluator, _ = evaluator_of(spec, "cpu")
    with torch.no_grad():
        expected = evaluator.network(network.config)(digits.test.images[:40])
        assert torch.equal(network(digits.test.images[:40]), expected)
        assert torch.equal(aspk.load_exported(folder / "network.json")(digits.test.images[:40]), expected)
    assert expected.std() > 0


def test_the_description_says_where_it_comes_from(exported):
    _, folder = exported
    description = json.loads((folder / "network.json").read_text())
    assert description["provenance"]["trial"] == 2
    assert description["weights"] == "inherited"
    assert description["config"]["embed_dim"] == aspk.load_exported(folder).config.embed_dim
    assert 0 <= description["metrics"]["accuracy"] <= 1
    assert load_exported(folder).provenance["data"] == "digits"


def pictures(folder, *, classes, size=8, shade=255):
    """Twelve random images of each class."""
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, shade, (size, size, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def test_a_network_is_measured_on_its_own_data_only(tmp_path, capsys):
    """Labels are numbers and maps may have any size, so other data would give figures without an error."""
    home = pictures(tmp_path / "home", classes=("ant", "bee"))
    data = load_data(aspk.DataSettings(name="image_folder", folder=str(home)))
    space = aspk.load_space("tiny")
    network, _ = calibrated_random_network(space.reference, space.settings, shape=(3, 8, 8), classes=2)
    metrics = measure(network, data.test)
    origin = {"data": data.provenance()}
    model = export_network(
        tmp_path / "model", network, data=data, weights="inherited", metrics=metrics, provenance=origin
    )

    def said(folder, code):
        assert main(["evaluate", str(model), "--device", "cpu", "--data-folder", str(folder)]) == code
        return capsys.readouterr()

    assert said(pictures(tmp_path / "moved", classes=("ant", "bee")), 0).err == ""
    other = pictures(tmp_path / "other", classes=("bee", "wasp"))
    assert "the network tells apart ant, bee, image_folder has bee, wasp" in said(other, 1).err
    larger = pictures(tmp_path / "larger", classes=("ant", "bee"), size=12)
    assert "takes (3, 8, 8) images of 2 classes, image_folder has (3, 12, 12) and 2" in said(larger, 1).err
    darker = said(pictures(tmp_path / "darker", classes=("ant", "bee"), shade=200), 0)
    assert "test accuracy" in darker.out
    assert "not the images that the network was trained on" in darker.err
    assert main(["energy", str(model), "--split", "test", "--data-folder", str(other)]) == 1
    assert "has bee, wasp" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["network.safetensors", "network.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "garbage"])
def test_damage_is_a_clean_error(exported, name, damage):
    _, folder = exported
    file = folder / name
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"\x00garbage" * 40)
    nothing_there = (name, damage) == ("network.safetensors", "missing")
    with pytest.raises(CheckpointError, match="no exported network there" if nothing_there else name):
        aspk.load_exported(folder)


def test_files_of_two_exports_are_told_apart(exported, tmp_path):
    spec, folder = exported
    other = export_trial(spec, tmp_path / "other", number=3, device="cpu")
    (folder / "network.json").write_bytes((other / "network.json").read_bytes())
    with pytest.raises(CheckpointError, match="not the file that"):
        aspk.load_exported(folder)


def test_unknown_trials_and_supernets_are_refused(exported, trained_folder):
    spec, folder = exported
    with pytest.raises(StudyError, match="no evaluated trial 99"):
        export_trial(spec, folder, number=99, device="cpu")
    with pytest.raises(CheckpointError):
        aspk.load_exported(trained_folder / "supernet.safetensors")


def test_weights_that_the_study_did_not_measure_are_refused(exported, tmp_path):
    """The network would not be the one whose accuracy its description repeats."""
    spec, _ = exported
    study = open_study(spec)
    context = study_record(study)[attributes.CONTEXT]
    prints = {**context["fingerprints"], "weights": "0" * 64}
    note_study_record(study, {attributes.CONTEXT: {**context, "fingerprints": prints}})
    for refused in (
        lambda: export_trial(spec, tmp_path / "other", number=2, device="cpu"),
        lambda: retrain(spec, [2], device="cpu"),
    ):
        with pytest.raises(StudyError, match="has other weights"):
            refused()
    assert not (tmp_path / "other").exists()


def test_a_network_refuses_what_it_would_not_run_as_it_was_trained():
    """One sequence without a batch looks like static images; a static image's network has its own T."""
    config = dataclasses.replace(TINY.reference, time_steps=4)
    network, _ = calibrated_random_network(config, TINY.settings, shape=(2, 8, 8), classes=10)

    def model(**of):
        known = Preprocess(size=(8, 8), resize="stretch", mean=(0.0, 0.0), std=(1.0, 1.0), **of)
        return ExportedNetwork(
            network, preprocess=known, classes="0123456789", weights="inherited", provenance={}
        )

    static, sequences = model(), model(frames=5, time_steps=4)
    batch = torch.randn(4, 3, 2, 8, 8)
    assert static(batch).shape == sequences(batch).shape == (3, 10)
    assert torch.equal(static(batch[0]), static(batch[0].expand(4, 3, 2, 8, 8)))
    for refused in (batch[:, 0], batch[:3]):
        with pytest.raises(DataError, match=r"expected \[T, B, C, H, W\] with the network's T = 4"):
            sequences(refused)
    with pytest.raises(DataError, match=r"expected \[B, C, H, W\].* or sequences .* T = 4"):
        static(batch[:3])
