"""Studies: create, resume, refuse strangers, survive failures and kills."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import signal
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from worker_processes import completed, launch

from aspk.energy import PRESETS
from aspk.errors import AspkError, CheckpointError, EvaluationError, ObjectiveError, StudyError
from aspk.metrics import Metrics
from aspk.objectives import Constraint, Objective
from aspk.report import compare_text, summarise
from aspk.space.file import load_space
from aspk.spec.settings import DataSettings, EvaluationSettings
from aspk.spec.study import FAEBSettings, StudySpec, load_study_file, study_from_dict, with_sampler
from aspk.study import load_problem, make_sampler, run_study, study_problem
from aspk.study.loop import tell
from aspk.study.storage import open_storage, open_study, studies_of
from aspk.testing import FormulaEvaluator
from aspk.trials import attributes, study_record

SPACE = load_space("tiny")
DATA = DataSettings(name="digits")


def spec_in(folder, **changes):
    base = StudySpec(name="formula", space="tiny", data=DATA, folder=folder, evaluations=20, batch=5)
    return dataclasses.replace(base, sampler=changes.pop("sampler", "nsga2"), **changes)


def problem_of(spec, evaluator=None):
    return study_problem(spec, evaluator or FormulaEvaluator(SPACE), classes=10)


def complete(study):
    return study.get_trials(states=(TrialState.COMPLETE,))


@pytest.mark.parametrize("sampler", ["surrogate", "nsga2", "evolutionary", "random"])
@pytest.mark.parametrize("storage", ["study.db", "study.log"])
def test_a_study_ends_resumes_and_goes_on(tmp_path, sampler, storage):
    url = f"sqlite:///{tmp_path / storage}" if storage.endswith("db") else str(tmp_path / storage)
    spec = spec_in(tmp_path, sampler=sampler, storage=url)
    first = run_study(spec, problem_of(spec), progress=False)
    assert (first.finished, first.evaluations) == (True, 20)
    again = run_study(spec, problem_of(spec), progress=False)
    assert (again.finished, again.evaluations) == (True, 20)
    longer = dataclasses.replace(spec, evaluations=30)
    assert run_study(longer, problem_of(longer), progress=False).evaluations == 30
    trials = complete(open_study(spec))
    networks = {SPACE.key(SPACE.from_parameters(trial.params)) for trial in trials}
    assert len(trials) == len(networks) == 30


def test_trials_say_what_was_measured(tmp_path):
    spec, evaluator = spec_in(tmp_path), FormulaEvaluator(SPACE)
    study = run_study(spec, problem_of(spec, evaluator), progress=False).study
    assert study.metric_names == ["accuracy", "energy"]
    for trial in complete(study):
        (expected,) = evaluator.evaluate([SPACE.decode(SPACE.from_parameters(trial.params))])
        assert trial.values == [expected.accuracy, expected.energy_mj]
        assert trial.user_attrs["energy_mj"] == expected.energy_mj
        assert attributes.metrics_of(trial) == expected


def test_same_seed_same_search_whatever_the_interruptions(tmp_path):
    runs = []
    for name, stops in (("whole", (20,)), ("parts", (5, 15, 20))):
        for evaluations in stops:
            spec = spec_in(tmp_path / name, evaluations=evaluations, seed=3)
            run_study(spec, problem_of(spec), progress=False)
        runs.append([trial.params for trial in complete(open_study(spec))])
    assert runs[0] == runs[1]


class Moody(FormulaEvaluator):
    """Fails for deep networks, in batches by an exception."""

    def evaluate(self, configs):
        if any(config.depth == 2 for config in configs):
            raise RuntimeError("too deep")
        return super().evaluate(configs)


def test_a_failed_evaluation_is_a_failed_trial_and_costs_no_other(tmp_path):
    spec = spec_in(tmp_path)
    problem = dataclasses.replace(problem_of(spec), evaluator=Moody(SPACE))
    study = run_study(spec, problem, progress=False).study
    failed = study.get_trials(states=(TrialState.FAIL,))
    assert failed
    assert all(trial.params["depth"] == 2 for trial in failed)
    assert all("too deep" in trial.user_attrs[attributes.FAILURE] for trial in failed)
    assert len(complete(study)) == 20


def test_a_search_in_which_everything_fails_ends(tmp_path):
    class Broken:
        def evaluate(self, configs):
            return [EvaluationError("no")] * len(configs)

    spec = spec_in(tmp_path)
    with pytest.raises(StudyError, match="all networks of 3 batches failed"):
        run_study(spec, dataclasses.replace(problem_of(spec), evaluator=Broken()), progress=False)
    with pytest.raises(EvaluationError, match="reference network"):
        problem_of(spec, Broken())


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (lambda m: m.energy_mj if m.parameters % 2 else float("nan"), "objective 'energy' gave nan"),
        (lambda m: m.energy_mj / (m.parameters % 2), "objective 'energy' failed: ZeroDivisionError"),
    ],
)
def test_an_objective_without_a_value_fails_its_network_alone(tmp_path, value, reason):
    """Else every later run would begin with that network, and end there."""
    own = Objective("energy", "minimize", value)
    spec = spec_in(tmp_path)
    problem = problem_of(spec)
    problem = dataclasses.replace(problem, objectives=(problem.objectives[0], own))
    study = optuna.create_study(directions=["maximize", "minimize"])
    for parameters in (1, 2):
        tell(study, study.ask(), Metrics(accuracy=0.5, energy_mj=1.0, parameters=parameters), problem)
    good, bad = study.trials
    assert good.values == [0.5, 1.0]
    assert bad.state == TrialState.FAIL
    assert reason in bad.user_attrs[attributes.FAILURE]


def test_two_constraints_or_objectives_of_one_name_are_refused(tmp_path):
    """The second one took the place of the first, which all networks were free to break."""
    problem = problem_of(spec_in(tmp_path))
    bounds = [Constraint("size", lambda m: m.operations, at_most=most) for most in (1, 1e9)]
    with pytest.raises(ObjectiveError, match="constraints 'size', 'size': expected different names"):
        dataclasses.replace(problem, constraints=tuple(bounds))
    with pytest.raises(ObjectiveError, match="objectives 'accuracy', 'accuracy'"):
        dataclasses.replace(problem, objectives=problem.objectives[:1] * 2)


def test_functions_of_your_own_that_were_edited_continue_no_study(tmp_path):
    """Under the same name: its trials would hold values of both functions."""

    def problem(share=0.5, most=1e6, **changes):
        mine = Objective("cycles", "minimize", lambda m: m.operations + share * m.spikes)
        bound = Constraint("size", lambda m: m.operations, at_most=most)
        known = problem_of(spec)
        known = dataclasses.replace(known, objectives=(known.objectives[0], mine), constraints=(bound,))
        return dataclasses.replace(known, **changes)

    spec = spec_in(tmp_path)
    run_study(spec, problem(), progress=False)
    longer = dataclasses.replace(spec, evaluations=25)
    assert run_study(longer, problem(), progress=False).evaluations == 25
    for other, message in (
        (problem(share=0.6), "objective 'cycles' is another function: of the study's reference network"),
        (problem(most=2e6), "constraint 'size' is another function"),
        (problem(constraints=()), "constraint 'size': this run lacks it"),
    ):
        with pytest.raises(StudyError, match=message):
            run_study(longer, other, progress=False)


@pytest.mark.parametrize(
    ("own", "anchors"),
    [
        (Objective("images per mJ", "maximize", lambda m: 1 / m.energy_mj), None),
        (Objective("log energy", "minimize", lambda m: math.log10(m.energy_mj)), None),
        (Objective("accuracy", "maximize", lambda m: 100 * m.accuracy), None),
        (Objective("accuracy", "maximize", lambda m: m.accuracy), (1.0, 0.1)),
        (Objective("micro", "minimize", lambda m: m.parameters / 1e3), (0.0, 130.37)),
    ],
)
def test_the_hypervolume_of_an_objective_of_your_own_grows_as_it_gets_better(tmp_path, own, anchors):
    """0 is the ideal of a positive cost, not of what is maximised, or of a logarithm."""
    spec = spec_in(tmp_path)
    problem = problem_of(spec)
    reference = dataclasses.replace(problem.reference, parameters=130_370)
    problem = dataclasses.replace(problem, objectives=(own,), reference=reference)
    assert problem.anchors.get(own.name) == (None if anchors is None else pytest.approx(anchors))
    summary = summarise(run_study(spec, problem, progress=False).study)
    assert summary.fixed_anchors == (anchors is not None)
    assert summary.curve[0] < summary.hypervolume <= 1


def test_constraints_reach_optuna_and_the_dashboard(tmp_path):
    spec = spec_in(tmp_path)
    bound = problem_of(spec).reference.energy_mj / 2
    spec = spec_in(tmp_path, constraints={"energy": bound})
    study = run_study(spec, problem_of(spec), progress=False).study
    for trial in complete(study):
        excess = trial.user_attrs["energy_mj"] / bound - 1
        assert trial.constraints == {"energy": pytest.approx(excess)}
        assert trial.user_attrs[attributes.CONSTRAINTS] == {"energy": pytest.approx(excess)}
    assert {trial.constraints["energy"] <= 0 for trial in complete(study)} == {True, False}


def test_single_objective_f_aeb(tmp_path):
    spec = spec_in(tmp_path, objectives=("f_aeb",), sampler="evolutionary")
    problem = problem_of(spec)
    study = run_study(spec, problem, progress=False).study
    metrics = [attributes.metrics_of(trial) for trial in complete(study)]
    assert study.best_value == max(map(problem.faeb, metrics))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"constraints": {"energy": 1.0}}, "constraints.energy: the study has nothing, this run brings 1.0"),
        ({"energy": PRESETS["strict_dense_residual"]}, 'energy.residual: the study has "[a-z_]+", this run'),
        (
            {"evaluation": EvaluationSettings(split="test")},
            'split: the study has "search", this run brings "',
        ),
        ({"objectives": ("accuracy", "spikes")}, r'\["accuracy", "maximize"\], \["energy", "minimize"\]'),
        ({"objectives": ("accuracy",)}, "has another problem"),
    ],
)
def test_a_worker_with_another_question_is_refused(tmp_path, change, message):
    spec = spec_in(tmp_path, evaluations=5)
    run_study(spec, problem_of(spec), progress=False)
    other = dataclasses.replace(spec, **change)
    with pytest.raises(StudyError, match=message):
        run_study(other, problem_of(other), progress=False)


def test_another_space_supernet_or_split_is_refused_with_the_difference(tmp_path):
    spec = spec_in(tmp_path, evaluations=5)
    prints = {"weights": "aaa", "data": "bbb"}
    run_study(
        spec, study_problem(spec, FormulaEvaluator(SPACE), classes=10, fingerprints=prints), progress=False
    )
    other = dataclasses.replace(spec, data=DataSettings(name="digits", search=100))
    prints = {"weights": "xxx", "data": "yyy"}
    problem = study_problem(other, FormulaEvaluator(SPACE), classes=10, fingerprints=prints)
    with pytest.raises(StudyError) as refused:
        run_study(other, problem, progress=False)
    assert 'weights (SHA-256): the study has "aaa", this run brings "xxx"' in str(refused.value)
    assert 'data: the study has "digits", this run brings {"name": "digits", "search": 100}' in str(
        refused.value
    )
    narrow = tmp_path / "narrow.toml"
    text = (Path(__file__).parent.parent / "search_spaces" / "tiny.toml").read_text()
    narrow.write_text(re.sub(r"(?m)^time_steps *=.*$", "time_steps = [1, 2, 4]", text, count=1))
    other = dataclasses.replace(spec, space=str(narrow))
    own = load_space(narrow)
    problem = study_problem(other, FormulaEvaluator(own), classes=10, fingerprints=prints)
    with pytest.raises(StudyError, match=r"space.network.time_steps: the study has \[.*\], this run brings"):
        run_study(other, problem, progress=False)


def test_a_strangers_study_is_adopted_only_if_its_directions_fit(tmp_path):
    spec = spec_in(tmp_path, evaluations=5)
    storage = open_storage(spec.storage_url)
    optuna.create_study(study_name="formula", storage=storage, directions=["minimize", "minimize"]).ask()
    with pytest.raises(StudyError, match="is to minimize, minimize, this run's objectives are to maximize"):
        run_study(spec, problem_of(spec), progress=False)
    other = dataclasses.replace(spec, name="other")
    optuna.create_study(study_name="other", storage=storage, directions=["maximize", "minimize"]).ask()
    study = run_study(other, problem_of(other), progress=False).study
    assert len(complete(study)) == 5
    assert study_record(study)[attributes.CONTEXT]["seed"] == 0


def test_samplers_of_one_file_are_found_together(tmp_path):
    spec = spec_in(tmp_path, evaluations=5)
    for sampler in ("nsga2", "random"):
        one = with_sampler(spec, sampler)
        run_study(one, problem_of(one), progress=False)
    assert [study.study_name for study in studies_of(spec)] == ["formula-nsga2", "formula-random"]
    with pytest.raises(StudyError, match=r"no study 'formula' .*formula-nsga2"):
        open_study(spec)


def test_studies_of_another_f_aeb_are_not_the_same_problem(tmp_path):
    spec = spec_in(tmp_path, objectives=("f_aeb",), sampler="random", evaluations=5)
    other = dataclasses.replace(spec, name="other", faeb=FAEBSettings(form="linear"))
    for one in (spec, other):
        run_study(one, problem_of(one), progress=False)
    assert [study.study_name for study in studies_of(spec)] == ["formula"]
    assert [study.study_name for study in studies_of(other)] == ["other"]
    same = dataclasses.replace(spec, faeb=FAEBSettings(weight=0.07))
    assert [study.study_name for study in studies_of(same)] == ["formula"]


def test_a_run_with_another_f_aeb_is_told_that_reports_keep_the_studys(tmp_path, caplog):
    spec = spec_in(tmp_path, sampler="random", evaluations=5)
    other = dataclasses.replace(spec, name="other", faeb=FAEBSettings(form="linear"))
    first, second = (run_study(one, problem_of(one), progress=False).study for one in (spec, other))
    caplog.clear()
    assert "F_AEB is not the same function" in compare_text([summarise(first), summarise(second)])
    changed = dataclasses.replace(spec, faeb=FAEBSettings(form="linear", weight=0.07))
    run_study(changed, problem_of(changed), progress=False)
    (told,) = [record.message for record in caplog.records if record.name.startswith("aspk")]
    assert 'faeb.form: the study has "product", this run brings "linear"' in told


def test_a_run_with_another_sampler_is_told_that_reports_keep_the_studys(tmp_path, caplog):
    spec = spec_in(tmp_path, sampler="random", evaluations=5)
    for one in (spec, dataclasses.replace(spec, evaluations=10, sampler="nsga2")):
        caplog.clear()
        run_study(one, problem_of(one), progress=False)
    (told,) = [record.message for record in caplog.records if record.name.startswith("aspk")]
    assert 'reports keep what it has: sampler: the study has "random", this run brings "nsga2"' in told


class Slow(FormulaEvaluator):
    def evaluate(self, configs):
        time.sleep(0.3)
        return super().evaluate(configs)


def search_slowly(spec):
    run_study(spec, problem_of(spec, Slow(SPACE)), progress=False)


@pytest.mark.parametrize("storage", ["study.db", "study.log"])
def test_kill_9_during_a_search_loses_no_finished_trial(tmp_path, storage):
    url = f"sqlite:///{tmp_path / storage}" if storage.endswith("db") else str(tmp_path / storage)
    spec = spec_in(tmp_path, storage=url, seed=1)
    process = launch(search_slowly, spec)
    deadline, finished = time.monotonic() + 60, []
    while len(finished) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
        try:
            finished = complete(open_study(spec))
        except (AspkError, optuna.exceptions.OptunaError):  # not yet created
            continue
    process.kill()
    assert completed(process) == -signal.SIGKILL
    before = {trial.number: trial.values for trial in complete(open_study(spec))}
    assert 5 <= len(before) < 20
    assert completed(launch(search_slowly, spec)) == 0
    study = open_study(spec)
    after = {trial.number: trial.values for trial in complete(study)}
    assert before.items() <= after.items()
    assert len(after) == 20
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))


# ---------------------------------------------------------------------- study files


def test_shipped_studies_are_valid():
    spec = load_study_file("digits")
    assert (spec.space, spec.objectives) == ("tiny", ("accuracy", "energy"))
    assert spec.weights_file == spec.folder / "supernet.safetensors"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"evaluation": {"calibration": 3}},
            r"evaluation\.calibration = 3: unknown key \(did you mean calibration_images\?\)",
        ),
        ({"objectives": ["beauty"]}, r"objectives\[0\] = 'beauty': expected \"accuracy\""),
        ({"objectives": []}, "at least one"),
        ({"objectives": ["energy", "energy"]}, "different names"),
        ({"evaluations": 0}, "evaluations = 0"),
        ({"evaluations": "many"}, "evaluations = 'many': expected a whole number from 1"),
        ({"evaluations": True}, "evaluations = True"),
        ({"sampler": {"name": "magic"}}, "sampler.name = 'magic'"),
        ({"sampler": "nsga2"}, r"expected a table \[sampler\]"),
        ({"constraints": {"accuracy": 0.5}}, "constraints.accuracy = 0.5: unknown key; expected energy, "),
        ({"constraints": {"energy": "low"}}, "constraints.energy = 'low'"),
        ({"constraints": {"energy": 0}}, "constraints.energy = 0: expected a finite number above 0"),
        ({"energy": {"preset": "mine"}}, "energy.preset = 'mine'"),
        ({"energy": {"residual": "odd"}}, "residual = 'odd'"),
        ({"faeb": {"form": "cubic"}}, "faeb.form = 'cubic'"),
        ({"train": {"updates": 0}}, "updates = 0"),
        ({"seed": -1}, "seed = -1: expected a whole number from 0 to 9223372036854775807"),
        ({"seed": 2**63}, "expected a whole number from 0 to 9223372036854775807"),
        ({"folder": "a\0b"}, "expected a string without null characters"),
        ({"colour": "red"}, "colour = 'red': unknown key"),
        ({"data": 3}, r"data = 3: expected a name, or a table \[data\]"),
        ({"data": {}}, "data.name is missing"),
        ({"data": {"name": "digits", "colour": 1}}, r"data\.colour = 1: unknown key"),
        ({"data": {"name": "digits", "search": 0}}, "search = 0"),
    ],
)
def test_bad_study_files_name_key_and_value(change, message):
    with pytest.raises(AspkError, match=message):
        study_from_dict({"name": "x", "space": "tiny", "data": "digits", **change})


def test_missing_keys_and_files(tmp_path):
    with pytest.raises(StudyError, match="space is missing"):
        study_from_dict({"name": "x", "data": "digits"})
    with pytest.raises(StudyError, match="name is missing"):
        study_from_dict({"space": "tiny", "data": "digits"})
    with pytest.raises(StudyError, match="give a TOML file or one of"):
        load_study_file(tmp_path / "nothing.toml")
    (tmp_path / "bad.toml").write_text("= 3")
    with pytest.raises(StudyError, match="not a TOML file"):
        load_study_file(tmp_path / "bad.toml")


def test_data_is_a_name_or_a_table(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text("space = 'tiny'\ndata = 'digits'\n")
    assert load_study_file(file).data == DATA
    file.write_text("space = 'tiny'\n[data]\nname = 'cifar10'\nfolder = 'c'\ntrain = 0.5\nsearch = 100\n")
    spec = load_study_file(file)
    assert spec.data == DataSettings(name="cifar10", folder=str(tmp_path / "c"), train=0.5, search=100)
    assert spec.to_json()["data"] == {
        "name": "cifar10",
        "folder": str(tmp_path / "c"),
        "train": 0.5,
        "search": 100,
    }
    assert DataSettings.from_json(json.loads(json.dumps(spec.to_json()))["data"]) == spec.data


def test_a_space_beside_the_study_file_is_found(tmp_path):
    text = (tmp_path / "own.toml").write_text
    text("name = 'own'")
    (tmp_path / "study.toml").write_text("space = 'own.toml'\ndata = 'digits'\n")
    assert load_study_file(tmp_path / "study.toml").space == str(tmp_path / "own.toml")


def test_sampler_options_reach_the_sampler(tmp_path):
    spec = spec_in(tmp_path, sampler_options={"population_size": 1})
    with pytest.raises(AspkError, match="population_size"):
        run_study(spec, problem_of(spec), progress=False)
    spec = spec_in(tmp_path, sampler_options={"colour": 1})
    with pytest.raises(StudyError, match="colour"):
        run_study(spec, problem_of(spec), progress=False)


def test_storages_that_cannot_be_opened(tmp_path):
    (tmp_path / "file").write_text("")
    for url in ("nonsense://", f"sqlite:///{tmp_path / 'file' / 'study.db'}"):
        with pytest.raises(StudyError, match="cannot open the storage"):
            open_storage(url)


def test_objectives_that_need_no_evaluation_are_known_to_the_surrogate(study_file):
    objectives = ("parameters", "accuracy", "operations")
    spec = dataclasses.replace(load_study_file(study_file), objectives=objectives, sampler="surrogate")
    problem = load_problem(spec, device="cpu")
    (metrics,) = problem.evaluator.evaluate([SPACE.smallest])
    assert {k: of(SPACE.smallest) for k, of in problem.known.items()} == {
        0: metrics.parameters,
        2: metrics.operations,
    }
    assert make_sampler(spec, problem)._known.keys() == {0, 2}
    assert make_sampler(dataclasses.replace(spec, sampler_options={"known": {}}), problem)._known == {}
    assert dataclasses.replace(problem, shape=None).known == {}  # a stranger's evaluator may count otherwise


def test_the_supernets_question(study_file):
    spec = load_study_file(study_file)
    problem = load_problem(spec, device="cpu")
    study = run_study(spec, problem, progress=False).study
    parts = {"space", "weights", "data", "objectives", "constraints", "energy", "evaluation"}
    assert set(study_record(study)[attributes.CONTEXT]["fingerprints"]) == parts
    assert all(attributes.LAYERS in trial.system_attrs for trial in complete(study))
    with pytest.raises(CheckpointError, match="no such file"):
        load_problem(dataclasses.replace(spec, weights=spec.folder / "none"), device="cpu")
    with pytest.raises(StudyError, match="another search space"):
        load_problem(dataclasses.replace(spec, space="auto_spikformer"), device="cpu")
