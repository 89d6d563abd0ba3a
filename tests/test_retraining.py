"""Found networks trained alone."""

from __future__ import annotations

import json
import signal
import statistics
import time

import pytest
import torch
from worker_processes import completed, launch

from aspk.cli import main
from aspk.data import load_data
from aspk.spec.study import load_study_file
from aspk.standalone.export import load_exported
from aspk.training.checkpoint import load_supernet


@pytest.fixture
def searched(study_file, capsys):
    text = study_file.read_text().replace(
        "[evaluation]", "[retrain]\nupdates = 12\nbatch_size = 16\ncheckpoint_every = 2\n[evaluation]"
    )
    study_file.write_text(text)
    assert main(["search", str(study_file), "--device", "cpu"]) == 0
    capsys.readouterr()
    return study_file


def retrain(study_file, *arguments):
    return main(["retrain", str(study_file), "--device", "cpu", *arguments])


def test_the_front_is_trained_and_exported(searched, tmp_path, capsys):
    assert retrain(searched, "--front", "--seeds", "2") == 0
    printed = capsys.readouterr().out
    folders = sorted((tmp_path / "run" / "retrained").iterdir())
    assert len(folders) >= 2
    assert {folder.name.rpartition("-")[2] for folder in folders} == {"0", "1"}
    for folder in folders:
        assert str(folder) in printed
        result = json.loads((folder / "result.json").read_text())["result"]
        description = json.loads((folder / "network.json").read_text())
        assert description["weights"] == "retrained from inherited weights"
        assert description["metrics"]["accuracy"] == result["test"]
        assert result["strict_mj"] > result["energy_mj"] > 0
        assert not (folder / "training.pt").exists()
        assert main(["evaluate", str(folder), "--device", "cpu"]) == 0
        evaluated = capsys.readouterr().out
        assert "(retrained from inherited weights): digits test accuracy" in evaluated
        assert f"{result['test']:.4f}" in evaluated


def test_the_curve_on_search_is_kept_and_seeds_are_averaged(searched, tmp_path, capsys):
    assert retrain(searched, "--trial", "1", "--seeds", "3") == 0
    printed = capsys.readouterr().out
    found = [
        json.loads(file.read_text())["result"]
        for file in (tmp_path / "run" / "retrained").rglob("result.json")
    ]
    for result in found:
        assert [point["update"] for point in result["history"]] == [2, 4, 6, 8, 10, 12]
        assert all(0 <= point["search"] <= 1 for point in result["history"])
        assert result["processor_seconds"] > 0
    tested = [result["test"] for result in found]
    row = next(line for line in printed.splitlines() if line.startswith("trial-1 "))
    assert f"{statistics.mean(tested):.4f} ± {statistics.stdev(tested):.4f}" in row


def test_scratch_and_inherited_differ_and_say_so(searched, tmp_path):
    assert retrain(searched, "--trial", "1") == 0
    assert retrain(searched, "--trial", "1", "--from-scratch") == 0
    inherited, scratch = sorted((tmp_path / "run" / "retrained").iterdir())
    assert load_exported(scratch).weights == "trained from scratch"
    first, second = load_exported(inherited).state_dict(), load_exported(scratch).state_dict()
    assert not torch.equal(first["network.head.weight"], second["network.head.weight"])


def test_inherited_weights_are_where_training_starts(searched, tmp_path):
    searched.write_text(searched.read_text().replace("updates = 12", "updates = 1\nlearning_rate = 1e-12"))
    assert retrain(searched, "--trial", "0") == 0
    (folder,) = (tmp_path / "run" / "retrained").iterdir()
    retrained, spec = load_exported(folder).network, load_study_file(searched)
    supernet = load_supernet(spec.weights_file).supernet
    # Alone, a network knows no other T: its statistics are its own, whatever the supernet's evaluations take.
    images = load_data(spec.data).train.images[: spec.evaluation.calibration_images]
    inherited = supernet.extract(retrained.config, supernet.calibrate(images, retrained.config)).state_dict()
    assert inherited.keys() == retrained.state_dict().keys()
    for name, tensor in retrained.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(tensor, inherited[name], rtol=1e-4, atol=1e-4, msg=name)


def test_finished_networks_are_not_trained_again_and_another_recipe_is_refused(searched, tmp_path, capsys):
    assert retrain(searched, "--trial", "1") == 0
    (folder,) = (tmp_path / "run" / "retrained").iterdir()
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert retrain(searched, "--trial", "1") == 0
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    searched.write_text(searched.read_text().replace("updates = 12", "updates = 13"))
    assert retrain(searched, "--trial", "1") == 1
    assert "made with recipe.updates = 12, now it is 13" in capsys.readouterr().err
    assert retrain(searched, "--trial", "99") == 1
    assert "no evaluated trial 99" in capsys.readouterr().err


def test_predicted_energies_are_under_the_account_of_the_training(searched, capsys):
    from dataclasses import replace

    from aspk.energy import STRICT, energy_mj
    from aspk.standalone.export import networks_of_trials
    from aspk.standalone.retraining import retrain as trained

    spec = replace(load_study_file(searched), energy=STRICT)
    ((_, measured),) = networks_of_trials(spec, [1]).values()
    (result,) = trained(spec, [1], scratch=True, device="cpu", progress=False)
    assert result.predicted_mj == pytest.approx(energy_mj(measured.layers, STRICT))
    assert result.predicted_mj > measured.energy_mj
    assert result.energy_mj == result.strict_mj


def test_kill_9_and_the_same_command_again_gives_the_same_bits(searched, tmp_path):
    arguments = ["--trial", "0", "--trial", "1"]
    assert retrain(searched, *arguments, "--output", str(tmp_path / "whole")) == 0
    target = tmp_path / "killed"
    process = launch(retrain, searched, *arguments, "--output", str(target))
    deadline = time.monotonic() + 100
    while not list(target.glob("*-trial-1-*/training.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert completed(process) == -signal.SIGKILL
    assert retrain(searched, *arguments, "--output", str(target)) == 0
    folders = sorted((tmp_path / "whole").iterdir())
    assert len(folders) == 2
    for folder in folders:
        whole, killed = (
            json.loads((place / folder.name / "result.json").read_text())["result"]
            for place in (tmp_path / "whole", target)
        )
        assert whole["history"] == killed["history"]
        assert whole["test"] == killed["test"]
        for name, tensor in load_exported(folder).state_dict().items():
            assert torch.equal(tensor, load_exported(target / folder.name).state_dict()[name]), name
    assert load_study_file(searched).retrain.updates == 12
