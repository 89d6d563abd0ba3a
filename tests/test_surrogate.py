import logging

import numpy as np
import optuna
import pytest

from aspk.errors import SamplerError
from aspk.samplers import SurrogateSampler
from aspk.samplers._history import History
from aspk.samplers.surrogate_assisted import _Model
from aspk.surrogate import AccuracySurrogate, features, rank_correlation
from aspk.testing import FormulaEvaluator, tiny_space

TINY = tiny_space()


def evaluated(count, seed=0, noise=0.0):
    X = TINY.sample_choices(count, np.random.default_rng(seed))
    metrics = FormulaEvaluator(TINY, noise=noise).evaluate([TINY.decode(x) for x in X])
    return X, np.array([[m.accuracy, np.log10(m.energy_mj)] for m in metrics])


class Flat:
    """An ordered gene, an unordered one, a real coordinate, a single choice."""

    cardinalities = np.array([5, 3, 0, 1])
    ordered = np.array([True, False, True, True])

    def active(self, X):
        return np.ones(np.shape(X), dtype=bool)

    def canonical(self, X):
        return np.asarray(X)


def test_features_by_hand():
    rows = features(Flat(), np.array([[0, 2, 0.25, 0], [4, 0, 1.0, 0]]))
    half = 0.5**0.5
    assert rows == pytest.approx(np.array([[-0.5, 0, 0, half, -0.25], [0.5, half, 0, 0, 0.5]]))


def test_genes_that_a_network_does_not_use_are_no_features():
    x = TINY.encode(TINY.smallest)
    twin = x.copy()
    twin[~TINY.active(x)] = 1
    assert (x != twin).any()
    assert np.array_equal(features(TINY, x[None]), features(TINY, twin[None]))


def test_predictions_are_the_posterior_of_a_matern_process():
    """The textbook formulas with an explicit inverse, for the kernel that was chosen."""
    X, y = evaluated(40)
    U, _ = evaluated(15, seed=1)
    surrogate = AccuracySurrogate(TINY).fit(X, y[:, 0])
    mean, std = surrogate.predict(U, return_std=True)
    kernel = surrogate._process.kernel_
    length, noise = kernel.k1.length_scale, kernel.k2.noise_level

    def matern(A, B):
        r = np.sqrt(5) * np.linalg.norm(A[:, None] - B[None], axis=2) / length
        return (1 + r + r**2 / 3) * np.exp(-r)

    A, B = features(TINY, X), features(TINY, U)
    inverse = np.linalg.inv(matern(A, A) + noise * np.eye(len(A)))
    normal = (y[:, 0] - y[:, 0].mean()) / y[:, 0].std()
    expected = matern(B, A) @ inverse @ normal * y[:, 0].std() + y[:, 0].mean()
    variance = 1 - np.einsum("ij,jk,ik->i", matern(B, A), inverse, matern(B, A))
    assert mean[:, 0] == pytest.approx(expected, rel=1e-4)
    assert std[:, 0] == pytest.approx(np.sqrt(variance) * y[:, 0].std(), rel=1e-3)
    assert np.array_equal(surrogate.predict(U), mean)


def test_unseen_networks_are_ordered_well_and_doubt_is_honest():
    X, y = evaluated(120)
    U, truth = evaluated(300, seed=1)
    mean, std = AccuracySurrogate(TINY).fit(X, y).predict(U, return_std=True)
    assert mean.shape == std.shape == (300, 2)
    for k in range(2):
        assert np.corrcoef(mean[:, k], truth[:, k])[0, 1] > 0.9
    inside = np.abs(mean - truth) < 2 * std
    assert (inside.mean(axis=0) > 0.8).all()
    assert np.abs(mean - truth).mean() > 0.05 * std.mean()  # and it does not doubt everything


def test_noise_is_told_from_signal():
    rng = np.random.default_rng(0)
    X, y = evaluated(80)
    clean = AccuracySurrogate(TINY).fit(X, y[:, 0])
    noisy = AccuracySurrogate(TINY).fit(X, y[:, 0] + rng.normal(0, y[:, 0].std(), size=80))
    assert noisy._process.kernel_.k2.noise_level > clean._process.kernel_.k2.noise_level


def test_rank_correlation_is_high_for_a_formula_and_none_for_chance():
    X, y = evaluated(80)
    assert rank_correlation(TINY, X, y[:, 1], np.random.default_rng(0)) > 0.8
    chance = np.random.default_rng(1).normal(size=80)
    assert abs(rank_correlation(TINY, X, chance, np.random.default_rng(0))) < 0.3


@pytest.mark.parametrize(
    "use",
    [
        lambda X, y: AccuracySurrogate(TINY).predict(X),
        lambda X, y: AccuracySurrogate(TINY).fit(X[:1], y[:1]),
        lambda X, y: AccuracySurrogate(TINY).fit(X, np.where(y > 0.7, np.nan, y)),
        lambda X, y: rank_correlation(TINY, X[:5], y[:5, 0], np.random.default_rng(0)),
    ],
)
def test_what_cannot_be_learnt_is_an_error(use):
    with pytest.raises(SamplerError):
        use(*evaluated(20))


# ------------------------------------------------------------------ acquisition


def model(values, X, **options):
    history = History(
        X=X,
        values=values,
        violation=options.get("violation", np.zeros(len(X))),
        pending=X[:0],
        discarded=X[:0],
    )
    return _Model(TINY, history, np.random.default_rng(0))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_random_scalarisations_estimate_the_hypervolume(k):
    """For points on a line in k dimensions the improvement must order as the exact volume does."""
    X, y = evaluated(40)
    values = np.column_stack([y, y[:, 0] ** 2])[:, :k]
    fitted = model(values, X)
    fitted._directions = np.abs(np.random.default_rng(0).normal(size=(40000, k)))
    fitted._directions /= np.linalg.norm(fitted._directions, axis=1, keepdims=True)
    fitted._low, fitted._span = np.zeros(k), np.ones(k)
    boxes = np.array([np.full(k, 0.1), np.linspace(0.2, 0.6, k), np.full(k, 0.7)])
    estimated = fitted._scalarised(boxes).mean(axis=1)
    exact = np.prod(1.1 - boxes, axis=1)
    assert estimated / estimated[0] == pytest.approx(exact / exact[0], rel=0.05)


def test_a_batch_spreads_over_the_front():
    sampler = SurrogateSampler(space=TINY, seed=0, n_startup_trials=30)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    evaluator = FormulaEvaluator(TINY)
    for size in (30, 12):
        trials = sampler.ask_batch(study, size)
        metrics = evaluator.evaluate([TINY.suggest(trial) for trial in trials])
        for trial, m in zip(trials, metrics, strict=True):
            study.tell(trial, [m.accuracy, np.log10(m.energy_mj)])
    energies = [m.energy_mj for m in metrics]
    assert max(energies) > 3 * min(energies)
    assert len({TINY.suggest(trial) for trial in trials}) == 12
    on_front = {trial.number for trial in study.best_trials}
    assert len(on_front & {trial.number for trial in trials}) >= 4  # a random batch adds one or two


def test_while_nothing_is_feasible_the_least_violation_is_sought():
    X, y = evaluated(60)
    violation = 10.0 ** y[:, 1] * 1e4  # all violate, by their energy
    fitted = model(y, X, violation=violation)
    pool, truth = evaluated(200, seed=1)
    chosen = fitted.choose(pool, X[:0], 5)
    assert truth[chosen, 1].mean() < np.quantile(truth[:, 1], 0.2)


def test_without_a_surrogate_it_is_nsga2_and_says_so(caplog):
    sampler = SurrogateSampler(space=TINY, seed=0, n_startup_trials=4)
    study = optuna.create_study(sampler=sampler)
    for trial in sampler.ask_batch(study, 4):
        study.tell(trial, 1.0)
    with caplog.at_level(logging.INFO, logger="aspk"):
        assert len(sampler.ask_batch(study, 3)) == 3
    assert "NSGA-II instead: all trials have the same values" in caplog.text
