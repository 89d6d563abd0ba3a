"""Level two of a search: trainings, what level one says of a network, and that a kill costs nothing."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import signal
import time
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState
from worker_processes import completed, launch

from aspk.cli import main
from aspk.data import load_data
from aspk.errors import CheckpointError, StudyError
from aspk.evaluation.supernet import measure
from aspk.families import Supernet
from aspk.metrics import Metrics
from aspk.objectives import Constraint
from aspk.report import summarise
from aspk.report.dashboard import front_plot, note
from aspk.report.figures import front_figure
from aspk.report.measures import energy_unit_of
from aspk.space.file import load_space
from aspk.spec.study import load_study_file, refined
from aspk.standalone.export import load_exported
from aspk.standalone.level_one import LevelOne
from aspk.standalone.refining import (
    TrainingEvaluator,
    _first,
    export_all_refined,
    refine,
    refining_problem,
)
from aspk.study import create_or_resume, load_problem, run_study
from aspk.study.storage import open_study
from aspk.training.checkpoint import save_supernet

SPACE = """
[settings]
patch_size = 4
attention_scale = 1.0
[network]
embed_dim = [16, 24, 32]
depth = [1]
time_steps = [1, 2]
mlp_ratio = [1]
num_heads = [2]
v_threshold = [1.0]
tau = [1.25, 2, 4]
[block]
[reference]
embed_dim = 24
depth = 1
time_steps = 2
mlp_ratio = 1
num_heads = 2
v_threshold = 1.0
tau = 2
"""
STUDY = """
name = "small"
space = "space.toml"
folder = "run"
evaluations = 12
batch = 6
[data]
name = "digits"
train = 60
search = 40
test = 40
[retrain]
updates = 12
batch_size = 16
checkpoint_every = 4
[evaluation]
calibration_images = 16
"""


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A folder with a study file, a supernet and a finished search of it."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "space.toml").write_text(SPACE)
    (folder / "small.toml").write_text(STUDY)
    spec = load_study_file(folder / "small.toml")
    supernet = Supernet(load_space(spec.space), shape=(1, 8, 8), classes=10, seed=0)
    save_supernet(spec.weights_file, supernet, {})
    assert run_study(spec, load_problem(spec, "cpu"), progress=False).finished
    return folder


@pytest.fixture
def file(searched, tmp_path):
    """The study file of a copy."""
    shutil.copytree(searched, tmp_path / "copy")
    return tmp_path / "copy" / "small.toml"


@pytest.fixture
def spec(file):
    return load_study_file(file)


def refined_study(spec):
    return open_study(refined(spec))


def complete(spec):
    return refined_study(spec).get_trials(states=(TrialState.COMPLETE,))


def records(spec):
    return {
        file.parent.name: json.loads(file.read_text()) for file in spec.folder.glob("refined/*/result.json")
    }


def test_trials_are_trainings_and_the_reference_is_the_first(spec):
    result = refine(spec, trainings=5, device="cpu", progress=False)
    assert result.finished
    space, trials = load_space(spec.space), complete(spec)
    assert len(trials) == len(records(spec)) == 5
    assert space.from_parameters(trials[0].params).tolist() == space.encode(space.reference).tolist()
    evaluator = TrainingEvaluator(spec, device="cpu")
    for trial in trials:
        trained = evaluator.job(space.decode(space.from_parameters(trial.params))).result()
        assert trial.user_attrs["accuracy"] == trained.search
        assert trial.user_attrs["test_accuracy"] == trained.test
        assert trial.user_attrs["energy_mj"] == pytest.approx(trained.search_energy_mj, rel=1e-6)
        assert trial.values == [trained.search, trial.user_attrs["energy_mj"]]


def test_test_can_be_left_unread(spec, capsys, file):
    arguments = ["refine", str(file), "--trainings", "2", "--device", "cpu"]
    assert main([*arguments, "--without-test"]) == 0
    evaluator = TrainingEvaluator(spec, test=False, device="cpu")
    data = evaluator.data
    for trial in complete(spec):
        space = load_space(spec.space)
        job = evaluator.job(space.decode(space.from_parameters(trial.params)))
        trained = job.result()
        assert math.isnan(trained.test)
        assert "test_accuracy" not in trial.user_attrs
        assert trained.energy_mj == trained.search_energy_mj == pytest.approx(trial.user_attrs["energy_mj"])
        network = load_exported(job.record_file.parent).network
        assert trained.firing_rate == pytest.approx(measure(network, data.search).firing_rate)
    with pytest.raises(CheckpointError, match="made with test = false, now it is true"):
        dataclasses.replace(job, test=True).result()
    assert "nan" not in capsys.readouterr().out.lower()


def test_more_trainings_go_on_with_what_is_there(spec):
    refine(spec, trainings=3, device="cpu", progress=False)
    before = {file: file.stat().st_mtime_ns for file in spec.folder.glob("refined/*/result.json")}
    refine(spec, trainings=5, device="cpu", progress=False)
    assert len(complete(spec)) == 5
    assert all(file.stat().st_mtime_ns == when for file, when in before.items())


def test_several_workers_train_different_networks(spec):
    assert refine(spec, trainings=6, workers=2, device="cpu", progress=False).finished
    trials = complete(spec)
    assert len(trials) == 6
    assert len({json.dumps(trial.params) for trial in trials}) == 6


def test_inherited_weights_are_another_study_s(spec):
    refine(spec, trainings=2, inherited=True, device="cpu", progress=False)
    assert all("inherited" in name for name in records(spec))
    with pytest.raises(StudyError, match="has another problem"):
        refine(spec, trainings=3, device="cpu", progress=False)


def test_level_one_says_what_it_saw_and_predicts_the_rest(spec):
    told, space = LevelOne(spec), load_space(spec.space)
    seen = {}
    for trial in open_study(spec).get_trials(states=(TrialState.COMPLETE,)):
        seen[space.key(space.from_parameters(trial.params))] = trial.user_attrs["accuracy"]
    assert len(seen) == 12
    for x in space.networks():
        accuracy, energy = told(space.decode(x))
        assert accuracy == pytest.approx(seen.get(space.key(x), accuracy))
        assert -0.5 < accuracy < 1.5
        assert -30 < energy < 0


def test_what_level_one_says_goes_to_the_sampler(spec):
    problem = refining_problem(spec, device="cpu", progress=False)
    sampler = create_or_resume(refined(spec), problem).sampler
    assert sampler._free.of(
        problem.space.sample_choices(3, __import__("numpy").random.default_rng(0))
    ).shape == (3, 3)


def test_too_little_of_level_one_is_refused(spec):
    spec = dataclasses.replace(spec, name="other")
    with pytest.raises(StudyError, match="other"):
        refine(spec, trainings=3, device="cpu", progress=False)


def test_another_supernet_than_level_one_s_is_refused(spec):
    save_supernet(
        spec.weights_file, Supernet(load_space(spec.space), shape=(1, 8, 8), classes=10, seed=5), {}
    )
    with pytest.raises(StudyError, match="has other weights"):
        refine(spec, trainings=3, device="cpu", progress=False)


# ---------------------------------------------------------------------- killed


def work(spec):
    refine(spec, trainings=3, device="cpu", progress=False)


def test_killed_it_goes_on_in_the_middle_of_a_training(spec):
    long = dataclasses.replace(spec.retrain, updates=60, checkpoint_every=5)
    spec = dataclasses.replace(spec, retrain=long)
    process = launch(work, spec)
    deadline = time.monotonic() + 240
    while not (states := list(spec.folder.glob("refined/*/training.pt"))) or not records(spec):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert completed(process) == -signal.SIGKILL
    done = records(spec)
    assert refine(spec, trainings=3, device="cpu", progress=False).finished
    assert len(complete(spec)) == 3
    after = records(spec)
    assert len(after) == 3
    assert all(after[name] == record for name, record in done.items())
    assert not list(spec.folder.glob("refined/*/training.pt"))
    assert states


# ---------------------------------------------------------------------- the command


def test_the_command_names_the_reference_and_the_exports(file, capsys):
    assert main(["refine", str(file), "--trainings", "3", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "(reference)" in said
    assert "3 networks trained" in said
    exports = {Path(word) for word in said.split() if "network-" in word}
    assert exports
    assert all((folder / "network.safetensors").is_file() for folder in exports)


def test_the_report_of_trained_networks(file, tmp_path, capsys):
    spec = load_study_file(file)
    refine(spec, trainings=3, device="cpu", progress=False)
    assert main(["report", str(file), "--refined", "--output", str(tmp_path / "report")]) == 0
    assert "small-refined" in (tmp_path / "report" / "report.html").read_text()
    assert "Ranking of this supernet" not in capsys.readouterr().out
    assert len((tmp_path / "report" / "pareto.csv").read_text().splitlines()) > 1


def test_a_trained_network_is_exported_as_it_was_trained(file, tmp_path, capsys):
    spec = load_study_file(file)
    refine(spec, trainings=3, device="cpu", progress=False)
    command = ["export", str(file), "--refined", "--trial", "2", "--output", str(tmp_path / "out")]
    assert main([*command, "--device", "cpu"]) == 0
    trial, data = complete(spec)[2], load_data(spec.data)
    exported = load_exported(tmp_path / "out")
    assert exported.weights == "trained from scratch"
    assert measure(exported.network, data.test).accuracy == trial.user_attrs["test_accuracy"]
    # Trained in both ways, as after another run of refine: the export is the one that the trial measured.
    (own,) = [
        folder
        for folder in spec.folder.glob("refined/*")
        if folder.is_dir() and load_exported(folder).config == exported.config
    ]
    other = own.with_name(own.name.replace("scratch", "inherited"))
    shutil.copytree(own, other)
    record = json.loads((own / "result.json").read_text())
    record["result"]["search"] += 0.1
    (own / "result.json").write_text(json.dumps(record))
    (own / "network.json").write_text("of another network")
    assert main([*command, "--device", "cpu"]) == 0
    assert load_exported(tmp_path / "out").weights == "trained from scratch"
    shutil.rmtree(spec.folder / "refined")
    assert main(command) == 1
    assert "does not have its training" in capsys.readouterr().err


def test_trained_networks_are_trained_with_further_seeds(file, capsys):
    refine(load_study_file(file), trainings=2, device="cpu", progress=False)
    command = ["retrain", str(file), "--refined", "--trial", "0", "--seeds", "2", "--from-scratch"]
    assert main([*command, "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    (row,) = [line.split() for line in printed.splitlines() if line.startswith("trial-0 ")]
    known = complete(load_study_file(file))[0].user_attrs
    assert row[2] == f"{known['inherited_accuracy']:.4f}" != f"{known['accuracy']:.4f}"
    assert row[-1] == f"{known['inherited_energy_mj']:.3g}"
    assert main(["report", str(file), "--refined"]) == 0
    page = load_study_file(file).folder / "report-small-refined" / "report.html"
    assert "<h3>Trained alone</h3>" in page.read_text()


# ---------------------------------------------------------------------- early ends, and another aim


def test_a_stopped_training_has_no_value_and_is_not_counted(spec, monkeypatch):
    judged = []

    def third_is_hopeless(metrics, loss, finished, objectives):
        judged.append((metrics.accuracy, loss, len(finished), [item.name for item in objectives]))
        return "stopped early: for the test" if len(judged) == 2 else ""

    monkeypatch.setattr("aspk.standalone.stopping.hopeless", third_is_hopeless)
    assert refine(spec, trainings=4, device="cpu", progress=False).finished
    trials = refined_study(spec).get_trials()
    states = [trial.state.name for trial in trials]
    assert states == ["COMPLETE", "COMPLETE", "PRUNED", "COMPLETE", "COMPLETE"]
    assert trials[2].values is None
    assert trials[2].user_attrs["aspk:failure"] == "stopped early: for the test"
    assert len({json.dumps(trial.params) for trial in trials}) == 5
    assert [count for _, _, count, _ in judged] == [1, 2, 2, 3]
    assert judged[0][3] == ["accuracy", "energy"]
    assert not list(spec.folder.glob("refined/*/training.pt"))


def test_the_other_aim_takes_over_what_is_trained(spec):
    refine(spec, trainings=3, device="cpu", progress=False)
    before = records(spec)
    refine(spec, trainings=4, aim="f_aeb", device="cpu", progress=False)
    study = open_study(refined(spec, aim="f_aeb"))
    assert study.study_name == "small-refined-f_aeb"
    trials = study.get_trials(states=(TrialState.COMPLETE,))
    assert len(trials) == 4
    faeb = refining_problem(spec, aim="f_aeb", device="cpu", progress=False).faeb
    for trial in trials:
        held = trial.user_attrs
        metrics = Metrics(accuracy=held["accuracy"], energy_mj=held["energy_mj"])
        assert trial.values == [pytest.approx(faeb(metrics))]
    after = records(spec)
    assert all(after[name] == record for name, record in before.items())


def test_for_f_aeb_alone_the_supernet_s_best_are_trained_first(spec):
    problem = refining_problem(spec, aim="f_aeb", device="cpu", progress=False)
    space, searched = problem.space, open_study(spec).get_trials(states=(TrialState.COMPLETE,))
    scores = {}
    for trial in searched:
        held = Metrics(accuracy=trial.user_attrs["accuracy"], energy_mj=trial.user_attrs["energy_mj"])
        scores[space.key(space.from_parameters(trial.params))] = problem.faeb(held)
    assert refine(spec, trainings=4, aim="f_aeb", stop=False, device="cpu", progress=False).finished
    study = open_study(refined(spec, aim="f_aeb"))
    trained = [space.key(space.from_parameters(trial.params)) for trial in study.get_trials()]
    reference = space.key(space.encode(space.reference))
    best = sorted(set(scores) - {reference}, key=lambda key: (-scores[key], key))
    assert trained == [reference, *best[:3]]


def test_networks_over_a_bound_are_not_among_the_best(spec):
    problem = refining_problem(spec, aim="f_aeb", device="cpu", progress=False)
    told, _ = problem.features
    energies = [trial.user_attrs["energy_mj"] for trial in open_study(spec).get_trials()]
    tight = Constraint("energy", attrgetter("energy_mj"), float(np.median(energies)))
    kept = _first(dataclasses.replace(problem, constraints=(tight,)))
    assert kept
    assert len(kept) <= 5
    assert all(math.exp(told(config)[1]) <= tight.at_most * (1 + 1e-9) for config in kept)
    assert any(math.exp(told(config)[1]) > tight.at_most for config in told.best(problem.faeb, 12))


def test_trials_say_what_the_supernet_said(spec):
    refine(spec, trainings=2, device="cpu", progress=False)
    supernet, space = load_problem(spec, "cpu"), load_space(spec.space)
    for row in summarise(refined_study(spec)).trials:
        (found,) = supernet.evaluator.evaluate([space.decode(space.from_parameters(row.parameters))])
        assert row.inherited == pytest.approx((found.accuracy, found.energy_mj))
    assert all(row.inherited is None for row in summarise(open_study(spec)).trials)


def test_an_aim_without_refined_is_refused(file, capsys):
    assert main(["report", str(file), "--aim", "f_aeb"]) != 0
    assert "give --refined" in capsys.readouterr().err


def test_the_command_and_the_report_take_the_aim(file, tmp_path, capsys):
    command = ["refine", str(file), "--trainings", "3", "--aim", "f_aeb", "--no-stopping", "--device", "cpu"]
    assert main(command) == 0
    report = ["report", str(file), "--refined", "--aim", "f_aeb", "--output", str(tmp_path / "report")]
    assert main(report) == 0
    assert "small-refined-f_aeb" in (tmp_path / "report" / "report.html").read_text()


def test_report_and_dashboard_join_a_network_to_where_it_was_with_inherited_weights(spec, tmp_path):
    refine(spec, trainings=3, device="cpu", progress=False)
    summary = summarise(refined_study(spec))
    places = [(*row.inherited, row.metrics.accuracy, row.metrics.energy_mj) for row in summary.trials]
    unit = energy_unit_of(summary)

    lines = [line.get_xydata().tolist() for line in front_figure(summary).axes[0].lines]
    for accuracy, energy, trained_accuracy, trained_energy in places:
        ends = [[energy * unit.per_mj, accuracy], [trained_energy * unit.per_mj, trained_accuracy]]
        assert ends in lines

    (trace,) = [one for one in front_plot(summary).data if one["mode"] == "lines"]
    assert trace["y"] == [value for place in places for value in (place[0], place[2], None)]
    assert trace["x"] == [value for place in places for value in (place[1], place[3], None)]
    assert "with inherited weights" in note(summary)
    assert "with inherited weights" not in note(summarise(open_study(spec)))

    export_all_refined(spec, {row.number: tmp_path / str(row.number) for row in summary.front})
    for row in summary.front:
        assert load_exported(tmp_path / str(row.number)).weights == "trained from scratch"


def test_the_report_does_not_say_that_nothing_was_trained(file, tmp_path):
    refine(load_study_file(file), trainings=3, device="cpu", progress=False)
    assert main(["report", str(file), "--refined", "--output", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "Each network was trained alone, once." in page
    assert "No network has been trained alone" not in page
    assert '"inherited": [{"trial": 0' in page.replace('"inherited":[{', '"inherited": [{').replace(
        '"trial":', '"trial": '
    )
