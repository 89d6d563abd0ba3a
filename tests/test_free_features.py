"""What is known of a network before it is evaluated."""

import math
from dataclasses import replace

import numpy as np
import pytest
from sampler_cases import PAPER, TINY, create, networks, search

from aspk.costs.cost import layer_shapes
from aspk.costs.features import FreeFeatures, LogOperations
from aspk.costs.known import COSTS, Cost
from aspk.errors import SamplerError
from aspk.samplers import SurrogateSampler, _model
from aspk.samplers._start import hypercube, start
from aspk.space.file import space_from_dict
from aspk.surrogate import AccuracySurrogate
from aspk.tables import TabularEvaluator
from aspk.testing import FormulaEvaluator

WIDE_HEADS = space_from_dict(
    {
        "name": "wide_heads",
        "settings": {"heads": "fixed_head_dim", "head_dim": 8, "patch_size": 4},
        "network": {"embed_dim": [16, 32], "depth": [1, 3], "time_steps": [1, 4], "tau": [2.0]},
        "block": {"mlp_ratio": [1, 2], "num_heads": [2, 4], "v_threshold": [0.5, 1.0]},
        "reference": {
            "embed_dim": 16,
            "depth": 1,
            "time_steps": 4,
            "tau": 2.0,
            "mlp_ratio": 1,
            "num_heads": 2,
            "v_threshold": 1.0,
        },
    },
    where="here",
)


@pytest.mark.parametrize("space", [TINY, PAPER, WIDE_HEADS], ids=lambda space: space.name)
def test_many_networks_at_once_are_each_network(space):
    X = space.sample_choices(200, np.random.default_rng(0))
    feature = LogOperations(space, shape=(1, 20, 12), classes=7)
    assert feature.of(X) == pytest.approx(np.array([feature(space.decode(x)) for x in X]))


@pytest.mark.parametrize("space", [TINY, PAPER, WIDE_HEADS], ids=lambda space: space.name)
@pytest.mark.parametrize("name", COSTS)
def test_costs_of_many_networks_are_those_of_their_layers(space, name):
    X = space.sample_choices(200, np.random.default_rng(0))
    cost = Cost(name, space, shape=(2, 20, 12), classes=7)
    counted = [
        sum(
            layer.parameters if name == "parameters" else layer.operations * layer.repeats
            for layer in layer_shapes(space.decode(x), space.settings, (2, 20, 12), 7)
        )
        for x in X
    ]
    assert cost.of(X).tolist() == counted == [cost(space.decode(x)) for x in X]


def test_operations_are_those_that_the_evaluator_counted():
    """The shipped table's column was counted on the layers themselves."""
    table = TabularEvaluator("fashion_shared")
    rows = slice(None, None, 97)
    counted = np.log(table.table.splits["search"]["operations"][rows])
    found = LogOperations(table.space, shape=(1, 28, 28)).of(table.networks[rows])
    assert found[:, 0] == pytest.approx(counted)
    other = LogOperations(table.space).of(table.networks[rows])[:, 0] - counted
    assert np.ptp(other) < 0.05 * np.ptp(counted)  # another image: nearly the same number more everywhere


def test_operations_of_another_space_are_those_of_the_same_networks():
    other = replace(TINY, network={**TINY.network, "embed_dim": tuple(reversed(TINY.network["embed_dim"]))})
    X = TINY.sample_choices(20, np.random.default_rng(0))
    own, elsewhere = (FreeFeatures(TINY, [LogOperations(space)]).of(X) for space in (TINY, other))
    assert elsewhere == pytest.approx(own)


def test_a_function_is_called_once_for_each_network():
    calls = []

    def width(config):
        calls.append(config)
        return config.embed_dim, config.depth

    features = FreeFeatures(TINY, ("operations", width))
    X = TINY.sample_choices(20, np.random.default_rng(0))
    table = features.of(np.concatenate([X, X]))
    assert features.of(X).tolist() == table[:20].tolist() == table[20:].tolist()
    assert table[:, 1:].tolist() == [[c.embed_dim, c.depth] for c in map(TINY.decode, [*X, *X])]
    assert table[:, :1].tolist() == LogOperations(TINY).of(np.concatenate([X, X])).tolist()
    assert len(calls) == len(set(calls)) > 10
    assert FreeFeatures(TINY, ()).of(X).shape == (20, 0)


@pytest.mark.parametrize("wrong", [lambda config: [math.nan], lambda config: [1.0] * config.depth])
def test_features_are_as_many_finite_numbers_for_each_network(wrong):
    X = TINY.sample_choices(20, np.random.default_rng(0))
    with pytest.raises(SamplerError, match=r"features\[0\] gave .*expected finite numbers"):
        FreeFeatures(TINY, (wrong,)).of(X)


# ------------------------------------------------------------------ in a prediction


def energies(count, seed):
    X = TINY.sample_choices(count, np.random.default_rng(seed))
    return X, np.array([m.energy_mj for m in FormulaEvaluator(TINY).evaluate([TINY.decode(x) for x in X])])


def error(features, seed, count=8):
    X, y = energies(count, seed)
    U, truth = energies(200, 99)
    predicted = AccuracySurrogate(TINY, features=features).fit(X, y).predict(U)
    return float(np.abs(np.log(predicted / truth)).mean())


def test_eight_networks_suffice_for_energies_if_operations_are_known():
    without, default, told = (
        np.median([error(features, seed) for seed in range(5)])
        for features in ((), None, [lambda config: (10.0 + energy_of(config),)])
    )
    assert default < 0.7 * without
    assert told < 0.3 * default


def energy_of(config):
    return math.log(FormulaEvaluator(TINY).evaluate([config])[0].energy_mj)


def test_a_feature_that_is_the_same_everywhere_changes_nothing():
    X, y = energies(20, 0)
    U, _ = energies(50, 1)
    plain = AccuracySurrogate(TINY).fit(X, y).predict(U)
    same = AccuracySurrogate(TINY, features=("operations", lambda config: [1e6])).fit(X, y).predict(U)
    assert same.tolist() == plain.tolist()


def test_features_need_a_search_space():
    X, y = energies(20, 0)
    with pytest.raises(SamplerError, match="expected a SearchSpace"):
        AccuracySurrogate(features=("operations",)).fit(X, y)
    with pytest.raises(SamplerError, match="features= are functions of a network: expected space="):
        SurrogateSampler(features=("operations",))
    assert AccuracySurrogate(features=()).fit(X, y).n_features_in_ == X.shape[1]


# ------------------------------------------------------------------ in a search


def test_the_start_is_the_hypercube_that_tells_most_of_operations():
    feature = FreeFeatures(PAPER, ("operations",))
    spreads = [
        np.std(feature.of(hypercube(PAPER, 6, np.random.default_rng(seed))), axis=0)[0] for seed in range(50)
    ]
    X = start(PAPER, 6, np.random.default_rng(0), feature)
    assert feature.of(X).std() > np.quantile(spreads, 0.95)
    for column, cardinality in enumerate(PAPER.cardinalities):
        counts = np.bincount(X[:, column], minlength=cardinality)
        assert counts.max() - counts.min() <= 1
    assert start(PAPER, 6, np.random.default_rng(0), feature).tolist() == X.tolist()


def test_by_default_the_start_is_chosen_by_the_operations():
    samplers = [SurrogateSampler(space=TINY, seed=0, features=f) for f in (None, ("operations",), ())]
    default, told, without = (networks(search(create(sampler), sampler, 6)) for sampler in samplers)
    assert default == told != without


@pytest.mark.parametrize(("features", "trended"), [(None, 0), (("operations",), 1), ((), 0)])
def test_surrogates_learn_from_the_features_that_are_given(features, trended):
    sampler = SurrogateSampler(space=TINY, seed=0, features=features)
    search(create(sampler), sampler, 7, batch=1)
    assert sampler._fits[0, ""][1].encode.trended == trended


def test_a_search_with_own_features_and_without_any():
    def depth(config):
        return [config.depth]

    for features in ((), ("operations", depth)):
        sampler = SurrogateSampler(space=TINY, seed=0, features=features)
        study = search(create(sampler), sampler, 15)
        assert len(set(networks(study))) == 15


def test_hyperparameters_are_fitted_to_one_objective_at_a_time(monkeypatch):
    fitted, original = [], _model.fit

    def counting(*arguments, **options):
        fitted[-1] += 1
        return original(*arguments, **options)

    monkeypatch.setattr(_model, "fit", counting)
    sampler = SurrogateSampler(space=TINY, seed=0)
    study = search(create(sampler), SurrogateSampler(space=TINY, seed=1, n_startup_trials=60), 60)
    for _ in range(20):
        fitted.append(0)
        search(study, sampler, 1)
    assert fitted[0] == 2  # a new sampler knows nothing yet
    assert max(fitted[1:]) == 1
    assert sum(fitted[1:]) <= 6


def test_no_networks_have_no_rows_of_as_many_features():
    features = FreeFeatures(TINY, (lambda config: [config.depth, config.embed_dim], "operations"))
    assert features.of(np.zeros((0, len(TINY.genes)), dtype=np.int64)).shape == (0, 3)
