"""Workers of a study: who evaluates which trial, who is gone, and whose networks have to run again.

Optuna has heartbeats only on databases and only under ``optimize``. The rules here need nothing but trial
attributes, so they are the same on every storage:

- A worker signs its trials. While it lives, a number on one of them grows every few seconds.
- A worker is gone if its process was on this machine and has ended, or if its trials and numbers did not
  change for a grace period *while somebody watched*: clocks of different machines are never compared.
- The trials of a worker that is gone fail, and their networks run again under new numbers.
- Of two trials with the same network, the one with the lower number counts. That settles every race: trial
  numbers are the only order on which all storages and all workers agree.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from aspk.samplers import GenotypeSampler
from aspk.trials import attributes
from aspk.util.process import place, start_time

_LOGGER = logging.getLogger(__name__)
_STANDING = (TrialState.RUNNING, TrialState.WAITING, TrialState.COMPLETE)
_MOST_REPEATS = 10  # of a network whose workers are lost every time


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """A worker's intervals and timeouts, all in seconds and above 0.

    Attributes:
        beat_s: time between two signs of life.
        grace_s: time without a sign after which another worker counts as gone; several beats.
        poll_s: time between two checks of the other workers, when nothing is left to evaluate.
        patience_s: time that the storage may be unreachable.
    """

    beat_s: float = 15.0
    grace_s: float = 120.0
    poll_s: float = 2.0
    patience_s: float = 600.0


class Worker:
    """One worker of a study. It holds the trials that it asked for and has not told."""

    def __init__(self, study: optuna.Study, settings: WorkerSettings) -> None:
        self._study = study
        self._settings = settings
        self._watch = Watch(settings.grace_s)
        self._stream = int(np.random.SeedSequence().generate_state(1)[0])
        self._alone = True
        self._hand: list[Trial] = []
        process = f"{os.getpid()}:{start_time(os.getpid())}"
        self.name = " ".join((socket.gethostname(), place(), process, uuid.uuid4().hex[:8]))

    # ------------------------------------------------------------------ signs of life

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Give signs of life while the block runs; trials still held at its end are left to the others."""
        stop = threading.Event()
        thread = threading.Thread(target=self._beat, args=(stop,), name="aspk beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            try:
                for trial in self._hand:
                    _fail(self._study, trial.number)
            except Exception as error:  # the storage is unreachable: others will miss the beats
                _LOGGER.debug("trials are left running: %s", error)
            self._hand = []

    def _beat(self, stop: threading.Event) -> None:
        count = 0
        while not stop.wait(self._settings.beat_s):
            hand = self._hand
            if hand:
                count += 1
                try:
                    hand[-1].set_user_attr(attributes.BEAT, count)  # the last one to be told
                except Exception as error:  # just told, or storage unreachable: the next beat shows
                    _LOGGER.debug("no sign of life: %s", error)

    # ------------------------------------------------------------------ the others

    def fail_abandoned(self) -> int:
        """Fail the running trials of workers that are gone, and those of this worker that it does not hold.

        Returns:
            How many trials of other, living workers are running.
        """
        running: dict[str, list[FrozenTrial]] = {}
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if attributes.WORKER in trial.user_attrs:  # else foreign, from 'optuna ask' say
                running.setdefault(str(trial.user_attrs[attributes.WORKER]), []).append(trial)
        held = {trial.number for trial in self._hand}
        lost = [trial for trial in running.pop(self.name, []) if trial.number not in held]
        for name in self._watch.gone({name: _sign(trials) for name, trials in running.items()}):
            lost += running.pop(name)
        for trial in lost:
            _fail(self._study, trial.number)
        others = sum(map(len, running.values()))
        self._alone = self._alone and not others
        return others

    def abandoned(self) -> list[FrozenTrial]:
        """Trials that failed because their worker was gone, and that no other trial repeats yet.

        A network that was abandoned again and again is left out: it may be what kills the workers.
        """
        trials = self._study.get_trials(deepcopy=False)
        failed = {trial.number: trial for trial in trials if _was_abandoned(trial)}
        done = {_repeated(trial) for trial in trials} if failed else set()
        return [t for t in failed.values() if t.number not in done and _repeats(failed, t) < _MOST_REPEATS]

    # ------------------------------------------------------------------ asking

    def ask(self, sampler: GenotypeSampler, count: int, *, budget: int) -> list[Trial]:
        """Up to ``count`` running trials of networks that nobody else evaluates.

        Networks of abandoned trials come first, then enqueued ones, then new ones.

        Args:
            sampler: proposes networks.
            count: how many.
            budget: number of evaluations of the whole study, which several workers might exceed together.

        Returns:
            The trials; they are this worker's until :meth:`release`.
        """
        first = len(self._study.get_trials(deepcopy=False))
        stream = () if self._alone else (self._stream,)
        signature = {attributes.WORKER: self.name, attributes.BATCH: [first, *stream]}
        trials = [
            sampler.ask_again(self._study, trial, {**signature, attributes.AGAIN: trial.number})
            for trial in self.abandoned()[:count]
        ]
        if len(trials) < count:
            missing = count - len(trials)
            trials += sampler.ask_batch(self._study, missing, user_attributes=signature, stream=stream)
        self._hand = self._give_way(trials, first, budget)
        return list(self._hand)

    def _give_way(self, trials: Sequence[Trial], first: int, budget: int) -> list[Trial]:
        """Drop the trials whose network has a trial with a lower number, and those beyond the budget."""
        others = self._study.get_trials(deepcopy=False)
        ahead = np.cumsum([_counts(trial) for trial in others])
        kept = []
        for trial in trials:
            twin = _twin(others, trial, first)
            # A repeat of an abandoned trial was within the budget when its network was first asked for.
            surplus = ahead[trial.number] > budget and attributes.AGAIN not in trial.user_attrs
            if twin is not None:
                self._alone = False
                self._withdraw(trial, f"trial {twin} has the same network")
            elif surplus:
                self._withdraw(trial, f"others complete the {budget} evaluations")
            else:
                kept.append(trial)
        return kept

    def _withdraw(self, trial: Trial, why: str) -> None:
        trial.set_user_attr(attributes.FAILURE, why)
        _fail(self._study, trial.number)

    def release(self, trial: Trial) -> None:
        """Let go of a trial that was told."""
        self._hand = [other for other in self._hand if other.number != trial.number]


class Watch:
    """Finds out which workers are gone, from what they leave in the study."""

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._seen: dict[str, tuple[object, float]] = {}

    def gone(self, signs: Mapping[str, object], now: float | None = None) -> list[str]:
        """The workers that are gone.

        Args:
            signs: worker's name to anything that changes while the worker lives.
            now: time in seconds on a clock that only this process reads; None is now.
        """
        now = time.monotonic() if now is None else now
        self._seen = {
            name: self._seen[name] if name in self._seen and self._seen[name][0] == sign else (sign, now)
            for name, sign in signs.items()
        }
        return [
            name for name, (_, since) in self._seen.items() if now - since > self._grace_s or _died_here(name)
        ]


def _sign(trials: Sequence[FrozenTrial]) -> object:
    return [(trial.number, trial.user_attrs.get(attributes.BEAT)) for trial in trials]


def _counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of the study's evaluations, or will be: a running foreign trial may not."""
    signed = attributes.WORKER in trial.user_attrs
    return trial.state in _STANDING and (trial.state != TrialState.RUNNING or signed)


def _was_abandoned(trial: FrozenTrial) -> bool:
    """Whether a trial failed only because its worker was gone."""
    held = trial.user_attrs
    return (
        trial.state == TrialState.FAIL
        and bool(trial.params)
        and attributes.WORKER in held
        and attributes.FAILURE not in held
    )


def _twin(others: Sequence[FrozenTrial], trial: Trial, first: int) -> int | None:
    """The lowest-numbered trial that precedes ``trial`` and has the same network.

    Trials before ``first`` were known to the sampler, which does not repeat them; but an abandoned trial's
    network may have been taken up by another worker in the meantime.
    """
    parameters = trial.params
    start = 0 if attributes.AGAIN in trial.user_attrs else first
    for other in others[start : trial.number]:
        if other.state in _STANDING and _parameters(other) == parameters:
            return other.number
    return None


def _parameters(trial: FrozenTrial) -> Mapping[str, Any]:
    fixed: Mapping[str, Any] = trial.system_attrs.get("fixed_params", {})
    return trial.params or fixed


def _repeats(failed: Mapping[int, FrozenTrial], trial: FrozenTrial) -> int:
    """How many abandoned trials of the same network precede this one."""
    count = 0
    while (number := _repeated(trial)) is not None and number in failed:
        trial, count = failed[number], count + 1
    return count


def _repeated(trial: FrozenTrial) -> int | None:
    return attributes.repeated_trial(trial.user_attrs, trial.number)


def _fail(study: optuna.Study, number: int) -> None:
    """Fail a trial, unless somebody finished it already."""
    with suppress(optuna.exceptions.UpdateFinishedTrialError):
        study.tell(number, state=TrialState.FAIL, skip_if_finished=True)


# ---------------------------------------------------------------------- processes of this machine


def _died_here(name: str) -> bool:
    """Whether a worker's process was on this machine and has ended."""
    parts = name.split(" ")
    if len(parts) != 4 or parts[1] != place():
        return False
    pid, _, started = parts[2].partition(":")
    return pid.isdecimal() and start_time(int(pid)) != started
