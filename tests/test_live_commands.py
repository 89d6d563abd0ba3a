"""Commands for studies that live: reproduce, optuna, and a trial evaluated from a shell."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import json_to_distribution
from optuna.study import StudyDirection
from optuna.trial import TrialState
from worker_processes import SPACE, problem_of, spec_in, start

from aspk.cli import main
from aspk.cli.stock import SAMPLERS, optuna_search_space, run_optuna
from aspk.errors import StudyError
from aspk.spec.study import load_study_file, with_sampler
from aspk.study import reproduce, run_study
from aspk.study.storage import open_storage, open_study
from aspk.testing import FormulaEvaluator
from aspk.trials import attributes, study_record

# ------------------------------------------------------------------ reproduce


class Drifting(FormulaEvaluator):
    """Gives other numbers than before for one kind of network."""

    def evaluate(self, configs):
        results = super().evaluate(configs)
        return [
            dataclasses.replace(result, accuracy=np.nextafter(result.accuracy, 0)) if c.depth == 2 else result
            for c, result in zip(configs, results, strict=True)
        ]


@pytest.mark.parametrize("sampler", ["surrogate", "nsga2", "evolutionary"])
def test_a_study_is_reproduced_whatever_its_batches(tmp_path, sampler):
    for evaluations in (7, 40):
        spec = spec_in(tmp_path, sampler=sampler, evaluations=evaluations, batch=6)
        study = run_study(spec, problem_of(spec), progress=False).study
    again = reproduce(study, spec, problem_of(spec), progress=False)
    assert (again.trials, again.difference, again.versions) == (40, None, ())


def test_the_first_difference_is_reported(tmp_path):
    spec = spec_in(tmp_path)
    study = run_study(spec, problem_of(spec), progress=False).study
    problem = dataclasses.replace(problem_of(spec), evaluator=Drifting(SPACE))
    again = reproduce(study, spec, problem, progress=False)
    first = next(trial for trial in study.trials if trial.params["depth"] == 2)
    assert again.trials == first.number
    assert re.match(rf"trial {first.number}: objective.0: the study has 0\.\d+, this run", again.difference)


def test_failed_networks_are_reproduced_as_failures(tmp_path):
    class Failing(FormulaEvaluator):
        def evaluate(self, configs):
            if any(config.depth == 2 for config in configs):
                raise RuntimeError("too deep")
            return super().evaluate(configs)

    spec = spec_in(tmp_path)
    problem = dataclasses.replace(problem_of(spec), evaluator=Failing(SPACE))
    study = run_study(spec, problem, progress=False).study
    assert reproduce(study, spec, problem, progress=False).difference is None
    again = reproduce(study, spec, problem_of(spec), progress=False)
    assert 'state: the study has "fail", this run brings "complete"' in again.difference


def test_other_versions_are_named(tmp_path):
    spec = spec_in(tmp_path, evaluations=5)
    study = run_study(spec, problem_of(spec), progress=False).study
    context = study_record(study)[attributes.CONTEXT]
    context["versions"]["torch"] = "1.0"
    study.set_user_attr(attributes.CONTEXT, context)
    (change,) = reproduce(study, spec, problem_of(spec), progress=False).versions
    assert re.match(r'version.torch: the study has "1.0", this run brings "2', change)


def test_only_the_undisturbed_search_of_one_worker_can_be_repeated(tmp_path):
    spec = spec_in(tmp_path)
    problem = problem_of(spec)
    study = run_study(spec, problem, progress=False).study
    with pytest.raises(StudyError, match=r"used another search: seed: the study has 0, this run brings 3"):
        reproduce(study, dataclasses.replace(spec, seed=3), problem, progress=False)
    with pytest.raises(StudyError, match=r'used another search: prior_studies: .*, this run brings \["x"\]'):
        reproduce(study, dataclasses.replace(spec, prior_studies=("x",)), problem, progress=False)
    other = dataclasses.replace(spec, constraints={"energy": 1.0})
    with pytest.raises(StudyError, match="has another problem"):
        reproduce(study, other, problem_of(other), progress=False)
    study.enqueue_trial(study.trials[0].params)
    with pytest.raises(StudyError, match="trial 20 is waiting: finish the study first"):
        reproduce(study, spec, problem, progress=False)
    two = spec_in(tmp_path, name="two", evaluations=40)
    workers = [start(two, 0.02) for _ in range(2)]
    for worker in workers:
        worker.join(60)
    with pytest.raises(StudyError, match="only the undisturbed search of a single worker"):
        reproduce(open_study(two), two, problem_of(two), progress=False)


def test_aspk_reproduce(study_file, capsys):
    assert main(["search", str(study_file), "--device", "cpu"]) == 0
    assert main(["reproduce", str(study_file), "--device", "cpu"]) == 0
    assert "all 6 trials are the same" in capsys.readouterr().out
    study_file.write_text(
        study_file.read_text().replace("calibration_images = 32", "calibration_images = 31")
    )
    assert main(["reproduce", str(study_file), "--device", "cpu"]) == 1
    assert "calibration_images: the study has 32, this run brings 31" in capsys.readouterr().err


# ------------------------------------------------------------------ Optuna's command line


def test_all_arguments_are_optunas(capsys):
    command = [sys.executable, "-m", "aspk", "optuna", "trials", "-f", "json", "-h"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert shown.startswith("usage: optuna")
    for arguments in (["--help"], ["ask", "--help"], ["--version"]):
        with pytest.raises(SystemExit):
            main(["optuna", *arguments])
        assert capsys.readouterr().out.startswith(("usage: optuna", f"optuna {optuna.__version__}"))


def test_optunas_samplers_are_as_before_when_its_command_is_over(capsys):
    before = set(vars(optuna.samplers))
    with pytest.raises(SystemExit):
        run_optuna(["ask", "--help"])
    assert set(vars(optuna.samplers)) == before
    assert not set(SAMPLERS) & before  # none of Optuna's own is hidden


def test_an_address_that_begins_with_journal_is_the_same_file_for_optuna(tmp_path, monkeypatch, capsys):
    """It was a new journal in a file called "journal:study.log", without a study in it."""
    monkeypatch.chdir(tmp_path)
    open_storage("journal:study.log").create_new_study([StudyDirection.MINIMIZE], "found")
    for arguments in (["--storage", "journal:study.log"], ["--storage=journal:study.log"], []):
        monkeypatch.setenv("OPTUNA_STORAGE", "" if arguments else "journal:study.log")
        assert main(["optuna", "study-names", *arguments]) == 0
        assert capsys.readouterr().out == "found\n"
    assert [file.name for file in tmp_path.iterdir()] == ["study.log"]


def test_the_flat_space_is_what_trials_hold():
    flat = {name: json_to_distribution(json.dumps(d)) for name, d in optuna_search_space(SPACE).items()}
    assert list(flat) == [gene.parameter for gene in SPACE.genes]
    trial = optuna.create_study(directions=["maximize", "minimize"]).ask(fixed_distributions=flat)
    assert SPACE.decode(SPACE.from_parameters(trial.params)).depth == trial.params["depth"]


def test_space_prints_or_writes_the_flat_space(tmp_path, capsys):
    assert main(["space", "tiny", "--optuna-json", "-"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == optuna_search_space(SPACE)
    assert main(["space", "tiny", "--optuna-json", str(tmp_path / "space.json")]) == 0
    assert (tmp_path / "space.json").read_text() == printed


DOCS = (Path(__file__).parent.parent / "docs" / "studies.md").read_text()


def test_the_loop_of_the_documentation_runs_in_a_shell(study_file, tmp_path):
    (loop,) = re.findall(r"```sh\n(# ask, evaluate, tell.*?)```", DOCS, re.DOTALL)
    assert main(["search", str(study_file), "--sampler", "nsga2", "--device", "cpu"]) == 0
    spec = with_sampler(load_study_file(study_file), "nsga2")
    loop = loop.replace("sqlite:///runs/digits/study.db", spec.storage_url).replace("1 2 3", "1 2")
    loop = re.sub(r"\bSTUDY=digits\b", f"STUDY={study_file}", loop).replace(
        "NAME=digits-nsga2", f"NAME={spec.name}"
    )
    (tmp_path / "aspk").write_text(f'#!/bin/sh\nexec {sys.executable} -m aspk "$@"\n')
    (tmp_path / "aspk").chmod(0o755)
    (tmp_path / "python").symlink_to(sys.executable)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    shell = ["bash", "-eu", "-o", "pipefail", "-c", loop]
    done = subprocess.run(
        shell, capture_output=True, text=True, timeout=250, check=False, cwd=tmp_path, env=os.environ | path
    )
    assert done.returncode == 0, done.stderr
    study = open_study(spec)
    trials = study.get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 8
    told = trials[6:]
    for trial in told:
        assert trial.values == [trial.user_attrs["accuracy"], trial.user_attrs["energy_mj"]]
        assert attributes.GENOTYPE in trial.system_attrs  # our sampler chose it
        assert attributes.LAYERS in trial.system_attrs
    networks = {SPACE.key(SPACE.from_parameters(trial.params)) for trial in trials}
    assert len(networks) == 8
    assert f"{told[-1].values[0]}" in done.stdout or "number" in done.stdout
    assert {"number", "values", "params"} <= set(json.loads(done.stdout.splitlines()[-1])[0])


def test_a_trial_that_is_not_running_is_not_evaluated(study_file, capsys):
    assert main(["search", str(study_file), "--device", "cpu"]) == 0
    for number, message in ((0, "trial 0 of study 'small' is complete"), (77, "trial 77 .* does not exist")):
        assert main(["evaluate", "--study", str(study_file), "--trial", str(number)]) == 1
        assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    "arguments",
    [[], ["--study", "digits"], ["--trial", "3"], ["folder", "--study", "digits", "--trial", "3"]],
)
def test_a_model_or_a_trial_but_not_both(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", *arguments])
    assert "give an exported model, or --study and --trial" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--study", "digits", "--trial", "3", "--split", "test"], "a study's file says where to measure"),
        (["--study", "digits", "--trial", "3", "--data-folder", "d"], "a study's file says where to measure"),
        (["folder", "--sampler", "random"], "--sampler belongs to --study"),
    ],
)
def test_evaluate_ignores_no_option(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", *arguments])
    assert message in capsys.readouterr().err
