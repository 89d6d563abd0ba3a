"""The evaluator protocol: one bad network costs only itself, equal networks are evaluated once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from spaces import FIXED, SMALL

from aspk.errors import EvaluationError, GenotypeError
from aspk.evaluation import CachedEvaluator, Result, evaluate_all
from aspk.metrics import Metrics
from aspk.space.genes import SubnetConfig

NETWORKS = [SMALL.decode(x) for x in SMALL.networks()]


class Recorder:
    """Accuracy 1 / width; raises or fails for the networks it is told to; keeps its calls."""

    def __init__(self, raises: Sequence[SubnetConfig] = (), fails: Sequence[SubnetConfig] = ()) -> None:
        self.calls: list[list[SubnetConfig]] = []
        self.raises, self.fails = list(raises), list(fails)

    def evaluate(self, configs: Sequence[SubnetConfig]) -> list[Result]:
        self.calls.append(list(configs))
        if any(config in self.raises for config in configs):
            raise ZeroDivisionError("spikes")
        return [EvaluationError("dead") if config in self.fails else metrics_of(config) for config in configs]


def metrics_of(config: SubnetConfig) -> Metrics:
    return Metrics(accuracy=1 / config.embed_dim, energy_mj=float(config.depth))


def test_a_whole_population_arrives_at_once() -> None:
    recorder = Recorder()
    assert evaluate_all(recorder, NETWORKS) == [metrics_of(config) for config in NETWORKS]
    assert recorder.calls == [NETWORKS]


def test_nothing_to_evaluate_calls_nobody() -> None:
    recorder = Recorder()
    assert evaluate_all(recorder, []) == []
    assert recorder.calls == []


def test_one_bad_network_costs_only_itself() -> None:
    bad = NETWORKS[2]
    recorder = Recorder(raises=[bad])
    results = evaluate_all(recorder, NETWORKS[:5])
    assert [isinstance(result, EvaluationError) for result in results] == [False, False, True, False, False]
    assert str(results[2]) == "ZeroDivisionError: spikes"
    assert recorder.calls == [NETWORKS[:5], *([config] for config in NETWORKS[:5])]
    assert [results[i] for i in (0, 1, 3, 4)] == [metrics_of(NETWORKS[i]) for i in (0, 1, 3, 4)]


def test_an_evaluation_error_keeps_its_words() -> None:
    class Failing:
        def evaluate(self, configs: Sequence[SubnetConfig]) -> list[Result]:
            raise EvaluationError("out of memory")

    assert [str(result) for result in evaluate_all(Failing(), NETWORKS[:2])] == ["out of memory"] * 2


def test_interruption_is_no_failed_network() -> None:
    class Interrupted:
        def evaluate(self, configs: Sequence[SubnetConfig]) -> list[Result]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate_all(Interrupted(), NETWORKS[:2])


@pytest.mark.parametrize("extra", [-1, 1])
def test_a_wrong_number_of_results_is_an_error(extra: int) -> None:
    class Miscounting:
        def evaluate(self, configs: Sequence[SubnetConfig]) -> list[Result]:
            return [metrics_of(configs[0])] * (len(configs) + extra)

    with pytest.raises(EvaluationError, match=rf"Miscounting returned {3 + extra} results for 3 networks"):
        evaluate_all(Miscounting(), NETWORKS[:3])


def test_equal_networks_are_evaluated_once() -> None:
    recorder = Recorder()
    cached = CachedEvaluator(recorder, SMALL)
    first, second = NETWORKS[0], NETWORKS[5]
    assert cached.evaluate([first, second, first]) == [metrics_of(c) for c in (first, second, first)]
    assert cached.evaluate([second, NETWORKS[7]]) == [metrics_of(second), metrics_of(NETWORKS[7])]
    assert cached.evaluate([first]) == [metrics_of(first)]
    assert recorder.calls == [[first, second], [NETWORKS[7]]]


def test_inactive_genes_do_not_matter_to_the_cache() -> None:
    recorder = Recorder()
    cached = CachedEvaluator(recorder, FIXED)
    x = FIXED.encode(FIXED.smallest)
    other = x.copy()
    other[-1] = 2  # a gene of the second block, which a network of depth 1 has not
    cached.evaluate([FIXED.decode(x), FIXED.decode(other)])
    assert [len(call) for call in recorder.calls] == [1]


def test_failures_are_tried_again() -> None:
    good, bad = NETWORKS[0], NETWORKS[1]
    recorder = Recorder(fails=[bad])
    cached = CachedEvaluator(recorder, SMALL)
    assert [str(result) for result in cached.evaluate([bad, good, bad])[::2]] == ["dead", "dead"]
    recorder.fails.clear()
    assert cached.evaluate([bad, good]) == [metrics_of(bad), metrics_of(good)]
    assert recorder.calls == [[bad, good], [bad]]


def test_a_stranger_network_is_refused_before_anything_is_evaluated() -> None:
    recorder = Recorder()
    with pytest.raises(GenotypeError):
        CachedEvaluator(recorder, SMALL).evaluate([NETWORKS[0], FIXED.reference])
    assert recorder.calls == []
