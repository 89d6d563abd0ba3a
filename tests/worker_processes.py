"""Workers in processes of their own, which tests kill; no torch is loaded anew for each of them."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import time
from pathlib import Path

from aspk.space.file import load_space
from aspk.spec.settings import DataSettings
from aspk.spec.study import StudySpec
from aspk.study import run_study, study_problem
from aspk.study.workers import WorkerSettings
from aspk.testing import FormulaEvaluator

SPACE = load_space("tiny")
QUICK = WorkerSettings(beat_s=0.1, grace_s=60, poll_s=0.05, patience_s=20)
HASTY = dataclasses.replace(QUICK, grace_s=3.0)  # a worker that gets no processor for so long counts as gone
# A server process imports the libraries once and forks the workers.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["worker_processes", "aspk.standalone.retraining"])


def spec_in(folder, **changes):
    base = StudySpec(
        name="formula", space="tiny", data=DataSettings(name="digits"), folder=folder, evaluations=20, batch=5
    )
    return dataclasses.replace(base, sampler=changes.pop("sampler", "nsga2"), **changes)


class Slow(FormulaEvaluator):
    """Takes some seconds for each network, and writes down in a file which ones it evaluated."""

    def __init__(self, space, seconds, diary=None):
        super().__init__(space)
        self._seconds = seconds
        self._diary = diary

    def evaluate(self, configs):
        for config in configs:
            time.sleep(self._seconds)
            if self._diary is not None:
                with self._diary.open("a") as file:
                    file.write(f"{os.getpid()} {SPACE.key(SPACE.encode(config))}\n")
        return super().evaluate(configs)


def problem_of(spec, evaluator=None):
    return study_problem(spec, evaluator or FormulaEvaluator(SPACE), classes=10)


def search(spec, seconds=0.0, settings=QUICK, diary=None, elsewhere=False, folder=None):
    """A worker's whole life; ``elsewhere`` hides from it which processes of this machine live."""
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
    if elsewhere:
        from aspk.study import workers

        workers._died_here = lambda name: False
    problem = problem_of(spec)
    problem = dataclasses.replace(problem, evaluator=Slow(SPACE, seconds, diary))
    run_study(spec, problem, progress=False, settings=settings)


def start(*arguments, **options):
    return launch(search, *arguments, **options)


def launch(function, *arguments, **options):
    """A function of a test module as a process; what it prints is lost."""
    process = PROCESSES.Process(target=_quietly, args=(function, arguments, options))
    process.start()
    return process


def _quietly(function, arguments, options):
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    raise SystemExit(function(*arguments, **options))


def completed(process):
    """The exit code of a process that is over within two minutes."""
    process.join(120)
    return process.exitcode
