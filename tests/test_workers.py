"""Several workers of one study: killed, restarted, and never in each other's way."""

from __future__ import annotations

import dataclasses
import random
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from postgres_server import free_port
from worker_processes import HASTY, QUICK, SPACE, problem_of, spec_in, start

from aspk.errors import StudyError
from aspk.report import summarise
from aspk.study import create_or_resume, run_study
from aspk.study.storage import open_study
from aspk.study.workers import Watch, Worker, WorkerSettings
from aspk.testing import FormulaEvaluator
from aspk.trials import attributes
from aspk.util.pareto import nondominated

storages = pytest.mark.parametrize(
    "storage", ["sqlite", "journal", pytest.param("postgresql", marks=pytest.mark.postgres)]
)


@pytest.fixture
def address(request, tmp_path, storage):
    """A storage's address, its database empty."""
    if storage == "postgresql":
        return request.getfixturevalue("postgres").url
    return f"sqlite:///{tmp_path / 'study.db'}" if storage == "sqlite" else str(tmp_path / "study.log")


def key(trial):
    return SPACE.key(SPACE.from_parameters(trial.params))


def complete(study):
    return study.get_trials(states=(TrialState.COMPLETE,))


def finished(study):
    return {trial.number: (key(trial), trial.values) for trial in complete(study)}


def wait_for(spec, state):
    """Wait until the study has a trial in this state."""
    for _ in range(600):
        try:
            if open_study(spec).get_trials(states=(state,)):
                return
        except StudyError:
            pass  # not yet created
        time.sleep(0.05)
    raise AssertionError(f"no {state.name} trial after 30 s")


def check_whole(study, evaluations):
    """Every network once, none lost, and the front of an undisturbed run with the same networks."""
    trials = study.get_trials()
    networks = {key(trial) for trial in complete(study)}
    assert len(complete(study)) == len(networks) == evaluations
    assert {trial.state for trial in trials} <= {TrialState.COMPLETE, TrialState.FAIL}
    abandoned = [t for t in trials if t.state == TrialState.FAIL and attributes.FAILURE not in t.user_attrs]
    assert {key(trial) for trial in abandoned} <= networks
    metrics = FormulaEvaluator(SPACE).evaluate([SPACE.decode(network) for network in sorted(networks)])
    F = np.array([[-m.accuracy, m.energy_mj] for m in metrics])
    front = {network for network, best in zip(sorted(networks), nondominated(F), strict=True) if best}
    assert {key(trial) for trial in study.best_trials} == front
    return abandoned


def kill_again_and_again(spec, kills, seconds, rng):
    """Four workers; at random moments one is killed and another starts, once all four at once."""
    workers = [start(spec, seconds) for _ in range(4)]
    wait_for(spec, TrialState.COMPLETE)
    known = {}
    for number in range(kills):
        time.sleep(rng.uniform(0.1, 0.4))
        if number == kills // 2:  # once for certain while a network is evaluated, not between two batches
            wait_for(spec, TrialState.RUNNING)
        victims = workers if number == kills // 2 else [rng.choice(workers)]
        for victim in victims:
            victim.kill()
        for victim in victims:
            victim.join()
            assert victim.exitcode == -9, "the study was finished before it could be disturbed"
        workers = [worker for worker in workers if worker not in victims]
        found = finished(open_study(spec))
        assert known.items() <= found.items()
        known = found
        workers += [start(spec, seconds) for _ in victims]
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    assert known.items() <= finished(open_study(spec)).items()


@storages
@pytest.mark.parametrize(
    ("kills", "evaluations", "seconds"), [(5, 125, 0.15), pytest.param(50, 250, 0.4, marks=pytest.mark.slow)]
)
def test_kill_9_at_random_moments(tmp_path, address, storage, kills, evaluations, seconds):
    spec = spec_in(tmp_path, name=f"killed {kills}", storage=address, evaluations=evaluations, batch=4)
    kill_again_and_again(spec, kills, seconds, random.Random(kills))
    assert check_whole(open_study(spec), evaluations)  # something was abandoned


@storages
def test_workers_of_other_machines_are_gone_when_nothing_moves(tmp_path, address, storage):
    spec = spec_in(tmp_path, name="elsewhere", storage=address, evaluations=12, batch=4)
    victim = start(spec, 0.5)
    wait_for(spec, TrialState.RUNNING)
    victim.kill()
    victim.join()
    before = time.monotonic()
    successor = start(spec, settings=HASTY, elsewhere=True)
    successor.join(120)
    assert successor.exitcode == 0
    assert time.monotonic() - before > HASTY.grace_s
    assert 1 <= len(check_whole(open_study(spec), 12)) <= 4


def test_a_slow_worker_that_beats_is_left_alone(tmp_path):
    spec = spec_in(tmp_path, evaluations=8, batch=4)
    slow = start(spec, 1.2, settings=HASTY, elsewhere=True)  # 4.8 s for a batch, more than the others' grace
    wait_for(spec, TrialState.RUNNING)
    quick = start(spec, settings=HASTY, elsewhere=True)
    for worker in (slow, quick):
        worker.join(120)
        assert worker.exitcode == 0
    assert check_whole(open_study(spec), 8) == []
    assert {t.user_attrs.get(attributes.BEAT, 0) > 5 for t in complete(open_study(spec))} == {True, False}


@pytest.mark.parametrize("storage", ["journal", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_eight_workers_evaluate_no_network_twice_and_lose_none(tmp_path, address, storage):
    diary = tmp_path / "diary"
    spec = spec_in(tmp_path, name="eight", storage=address, evaluations=96, batch=3)
    folders = [tmp_path / f"machine {number}" for number in range(8)]
    workers = [start(spec, 0.01, diary=diary, folder=folder) for folder in folders]
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 8
    study = open_study(spec)
    assert check_whole(study, 96) == []
    evaluated = [line.split(" ", 1) for line in diary.read_text().splitlines()]
    assert len({process for process, _ in evaluated}) > 4
    assert len({network for _, network in evaluated}) == len(evaluated) == 96
    assert [folder for folder in folders if any(folder.iterdir())] == []
    volumes = []
    for seed in range(
        20
    ):  # a single worker's quality, and how far chance moves it; five runs know that badly
        spec = spec_in(tmp_path, seed=seed, evaluations=96, batch=3, storage=str(tmp_path / f"{seed}.log"))
        volumes.append(summarise(run_study(spec, problem_of(spec), progress=False).study).hypervolume)
    assert summarise(study).hypervolume > np.mean(volumes) - 3.5 * np.std(volumes, ddof=1)


def proxy_of_the_documentation(address, port):
    """The proxy that docs/studies.md starts, in front of this database."""
    text = (Path(__file__).parent.parent / "docs" / "studies.md").read_text()
    (code,) = re.findall(r'python -c "(.*?)"\n```', text, re.DOTALL)
    code = code.replace("postgresql+psycopg://user@host/database", address).replace("13000", str(port))
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("storage", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_workers_behind_a_grpc_proxy(tmp_path, address, storage):
    port = free_port()
    server = proxy_of_the_documentation(address, port)
    try:
        spec = spec_in(tmp_path, name="proxied", storage=f"grpc://127.0.0.1:{port}", evaluations=60, batch=4)
        workers = [start(spec, 0.05) for _ in range(3)]
        wait_for(spec, TrialState.COMPLETE)
        workers[0].kill()
        for worker in workers[1:]:
            worker.join(120)
            assert worker.exitcode == 0
        check_whole(open_study(spec), 60)
    finally:
        server.kill()
        server.wait()
    direct = dataclasses.replace(spec, storage=address)
    assert finished(open_study(direct))


# ------------------------------------------------------------------ one worker's rules


def in_memory(tmp_path, **changes):
    spec = spec_in(tmp_path, **changes)
    asked = problem_of(spec)
    return spec, create_or_resume(spec, asked, optuna.storages.InMemoryStorage())


def test_a_watch_compares_no_clocks():
    watch = Watch(10.0)
    assert watch.gone({"far": 1, "still": 7}, now=0.0) == []
    assert watch.gone({"far": 2, "still": 7}, now=9.0) == []
    assert watch.gone({"far": 2, "still": 7}, now=11.0) == ["still"]
    assert watch.gone({"far": 3, "new": 0}, now=30.0) == []
    assert watch.gone({"far": 3, "new": 0}, now=39.0) == []


def test_a_process_of_this_machine_is_known_to_be_gone_and_another_machines_is_not(tmp_path):
    _, study = in_memory(tmp_path)
    worker = Worker(study, QUICK)
    host, place, process, token = worker.name.split(" ")
    pid, started = process.split(":")
    names = {
        "living": worker.name.replace(token, "another"),
        "dead": f"{host} {place} {2**22 + 1}:1 {token}",
        "reused": f"{host} {place} {pid}:{int(started) - 1} {token}",
        "elsewhere": f"{host} 00000000 {2**22 + 1}:1 {token}",
        "unreadable": "whatever",
    }
    assert set(Watch(10.0).gone(dict.fromkeys(names.values(), 0))) == {names["dead"], names["reused"]}


def test_two_workers_that_ask_at_the_same_moment_get_different_networks(tmp_path):
    _, study = in_memory(tmp_path)
    one, two = (Worker(study, WorkerSettings()) for _ in range(2))

    class Simultaneous(type(study.sampler)):
        """Asks for the other worker while this one is about to create its trials."""

        other = None

        def propose(self, genome, history, count, rng):
            rows = super().propose(genome, history, count, rng)
            if self.other is not None:
                ask, self.other = self.other, None
                ask()
            return rows

    sampler = Simultaneous(space=SPACE, seed=0)
    asked = []
    sampler.other = lambda: asked.extend(two.ask(type(study.sampler)(space=SPACE, seed=0), 5, budget=50))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aspk.samplers._base.PROPOSING", threading.RLock())
        mine = one.ask(sampler, 5, budget=50)
    assert len(asked) == 5
    assert mine == []  # the same seed, the same study: all five were the other's
    assert all("has the same network" in t.user_attrs[attributes.FAILURE] for t in study.trials[5:])
    mine = one.ask(sampler, 5, budget=50)
    assert len({SPACE.key(SPACE.from_parameters(trial.params)) for trial in [*mine, *asked]}) == 10


def test_workers_together_stay_within_the_budget(tmp_path):
    _, study = in_memory(tmp_path)
    one, two = (Worker(study, WorkerSettings()) for _ in range(2))
    study.ask()  # a stranger's trial that may never end
    assert len(one.ask(study.sampler, 5, budget=8)) == 5
    assert len(two.ask(study.sampler, 5, budget=8)) == 3


def test_abandoned_networks_that_two_workers_take_up_run_once_and_within_the_budget(tmp_path):
    _, study = in_memory(tmp_path)
    gone, one, two = (Worker(study, WorkerSettings()) for _ in range(3))
    left = [trial.number for trial in gone.ask(study.sampler, 4, budget=4)]
    for number in left:
        study.tell(number, state=TrialState.FAIL)

    class Simultaneous(type(study.sampler)):
        """Lets the other worker ask after the first trial of this one."""

        def ask_again(self, study, trial, user_attributes):
            created = super().ask_again(study, trial, user_attributes)
            if trial.number == left[0]:
                others.extend(two.ask(study.sampler, 4, budget=4))
            return created

    others = []
    mine = one.ask(Simultaneous(space=SPACE, seed=0), 4, budget=4)
    taken = sorted(trial.user_attrs[attributes.AGAIN] for trial in [*mine, *others])
    assert taken == left
    assert mine
    assert others


def test_an_abandoned_network_keeps_its_genotype_and_is_given_up_after_many_deaths(tmp_path):
    _, study = in_memory(tmp_path)
    worker = Worker(study, QUICK)
    (trial,) = worker.ask(study.sampler, 1, budget=50)
    genotypes = []
    for _ in range(11):
        genotypes.append(study.trials[trial.number].system_attrs[attributes.GENOTYPE])
        study.tell(trial.number, state=TrialState.FAIL)
        trial = worker.ask(study.sampler, 1, budget=50)[0]
    assert len({tuple(genotype) for genotype in genotypes}) == 1
    assert attributes.AGAIN not in trial.user_attrs
    assert trial.params != study.trials[0].params


def test_a_worker_that_raises_leaves_its_networks_to_the_others(tmp_path):
    spec = spec_in(tmp_path)

    class Broken(FormulaEvaluator):
        def evaluate(self, configs):
            raise KeyboardInterrupt

    asked = dataclasses.replace(problem_of(spec), evaluator=Broken(SPACE))
    with pytest.raises(KeyboardInterrupt):
        run_study(spec, asked, progress=False)
    left = {key(trial) for trial in open_study(spec).trials}
    assert len(left) == 5
    study = run_study(spec, problem_of(spec), progress=False).study
    assert left <= {key(trial) for trial in complete(study)}
    assert len(complete(study)) == 20


def test_a_result_that_comes_after_another_worker_took_over_is_dropped(tmp_path):
    spec = spec_in(tmp_path, evaluations=5)
    asked = problem_of(spec)

    class Overtaken(FormulaEvaluator):
        """While it evaluates, somebody believes it gone."""

        def evaluate(self, configs):
            study = open_study(spec)
            for trial in study.get_trials(states=(TrialState.RUNNING,)):
                study.tell(trial.number, state=TrialState.FAIL)
            return super().evaluate(configs)

    with pytest.raises(StudyError, match="all networks of 3 batches failed"):
        run_study(spec, dataclasses.replace(asked, evaluator=Overtaken(SPACE)), progress=False)
    assert run_study(spec, asked, progress=False).evaluations == 5
