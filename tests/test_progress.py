"""What a search shows while it runs, and what Ctrl-C says."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import threading
from functools import partial

import pytest
from tqdm import tqdm
from worker_processes import SPACE, problem_of, spec_in

from aspk.data import Split
from aspk.evaluation import CachedEvaluator, evaluate_all
from aspk.evaluation.supernet import SupernetEvaluator
from aspk.spec.settings import EvaluationSettings
from aspk.study import run_study
from aspk.study.loop import _move, _Scores
from aspk.study.problem import f_aeb_of
from aspk.testing import FormulaEvaluator
from aspk.training.checkpoint import load_supernet
from aspk.util.interrupt import graceful_interruption

# ------------------------------------------------------------------ within a batch


@pytest.fixture(scope="module")
def evaluator(trained_folder, digits):
    small = dataclasses.replace(digits, search=Split(digits.search.images[:150], digits.search.labels[:150]))
    settings = EvaluationSettings(calibration_images=50, batch_size=50)
    supernet = load_supernet(trained_folder / "supernet.safetensors").supernet
    return partial(SupernetEvaluator, supernet, small, settings=settings)


def test_a_supernets_evaluator_tells_what_share_of_the_images_is_done(evaluator):
    shares = []
    found = evaluator().evaluate([SPACE.smallest, SPACE.reference], shares.append)
    assert shares == [0.25, 0.5, 0.75, 1.0]  # 50 images of calibration, then three times 50
    assert found == evaluator().evaluate([SPACE.smallest, SPACE.reference])


def test_networks_of_different_t_that_run_one_after_the_other_share_the_progress(evaluator, monkeypatch):
    own, shares = evaluator(), []

    def told(configs, steps, progress):
        progress(0.5)
        progress(1.0)
        return dict.fromkeys(configs, 0)

    monkeypatch.setattr(own, "_measure_together", told)
    monkeypatch.setattr(own, "_calibration", own._calibration[None].repeat(3, 1, 1, 1, 1))  # sequences
    own._measure(
        [
            dataclasses.replace(SPACE.smallest, time_steps=steps, stem_tau=tau)
            for tau in (1.5, 2.0)
            for steps in (1, 3)
        ],
        shares.append,
    )
    assert shares == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_progress_reaches_evaluators_that_take_it_and_no_others():
    class Telling(FormulaEvaluator):
        def evaluate(self, configs, progress=None):
            progress(1.0)
            return super().evaluate(configs)

    shares, configs = [], [SPACE.smallest]
    plain = evaluate_all(FormulaEvaluator(SPACE), configs, shares.append)
    assert shares == []
    assert evaluate_all(CachedEvaluator(Telling(SPACE), SPACE), configs, shares.append) == plain
    assert shares == [1.0]


def test_the_bar_moves_within_a_batch():
    with tqdm(total=100, initial=20, file=io.StringIO()) as bar:
        seen = []
        for share in (0.1, 0.5, 0.99, 1.0):
            _move(bar, share, start=20, size=25)
            seen.append(bar.n)
    assert seen == [22, 32, 44, 45]


# ------------------------------------------------------------------ figures


def test_the_best_f_aeb_heeds_constraints(tmp_path):
    free = spec_in(tmp_path, name="free", evaluations=10)
    problem = problem_of(free)
    trials = run_study(free, problem, progress=False).study.trials
    bound = 0.999 * max(trials, key=lambda trial: f_aeb_of(trial, problem.faeb)).user_attrs["energy_mj"]
    spec = spec_in(tmp_path, name="bound", evaluations=10, constraints={"energy": bound})
    problem = problem_of(spec)
    study = run_study(spec, problem, progress=False).study
    scores = _Scores(problem)
    assert scores.figures() == ""
    scores.read(study)
    best = {
        kept: max(f_aeb_of(trial, problem.faeb) for trial in study.trials if within(trial, bound) or not kept)
        for kept in (True, False)
    }
    assert best[True] < best[False]  # or the test would tell nothing
    assert scores.figures().startswith(f"F_AEB {best[True]:.4f}, front ")


def within(trial, bound):
    return trial.user_attrs["energy_mj"] <= bound


def test_where_nothing_is_feasible_the_bar_says_so(tmp_path):
    spec = spec_in(tmp_path, constraints={"energy": 1e-9})
    problem = problem_of(spec)
    scores = _Scores(problem)
    scores.read(run_study(spec, problem, progress=False).study)
    assert scores.figures() == "nothing feasible yet"


# ------------------------------------------------------------------ Ctrl-C


class Stopped(FormulaEvaluator):
    """Ctrl-C comes in the middle of the second batch, once or twice."""

    def __init__(self, signals):
        super().__init__(SPACE)
        self.signals, self.calls = signals, 0

    def evaluate(self, configs):
        self.calls += len(configs) > 1
        if self.calls == 2:
            for number in self.signals:
                os.kill(os.getpid(), number)
        return super().evaluate(configs)


def test_ctrl_c_says_that_the_batch_is_finished_and_what_a_second_one_does(tmp_path, capfd):
    spec = spec_in(tmp_path)
    result = run_study(spec, problem_of(spec, Stopped([signal.SIGINT])), progress=False)
    assert (result.finished, result.evaluations) == (False, 10)
    told = "aspk: finishing the batch; Ctrl-C again stops at once, and its networks are evaluated again\n"
    assert capfd.readouterr().err.count(told) == 1


def test_a_second_ctrl_c_does_what_was_said(tmp_path, capfd):
    spec = spec_in(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_study(spec, problem_of(spec, Stopped([signal.SIGINT, signal.SIGINT])), progress=False)
    assert "its networks are evaluated again" in capfd.readouterr().err
    result = run_study(spec, problem_of(spec), progress=False)
    assert result.finished
    assert len({str(trial.params) for trial in result.study.trials if trial.values}) == 20


def test_nothing_is_said_where_nobody_listens_and_outside_the_main_thread(capfd):
    with graceful_interruption(finishing="it", lost="all is lost") as interruption:
        assert not interruption.requested
    assert capfd.readouterr().err == ""
    seen = []

    def elsewhere():
        with graceful_interruption(finishing="it", lost="all is lost") as interruption:
            seen.append(interruption.requested)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [False]
