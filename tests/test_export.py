"""Exported networks give the outputs they were exported with, and damage is noticed."""

from __future__ import annotations

import json

import pytest
import torch

import aspk
from aspk.errors import CheckpointError, StudyError
from aspk.spec.study import load_study_file
from aspk.standalone.export import export_trial, load_exported
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
