import math
import os
import signal
import warnings

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize
from scipy.stats import lognorm, norm
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import check_estimator

from aspk.errors import SamplerError, WorkerError
from aspk.surrogate import AccuracySurrogate, features, learning_curve, rank_correlation
from aspk.surrogate.features import Features
from aspk.surrogate.hyperparameters import most_probable, negative_log_posterior
from aspk.surrogate.posterior import Posterior
from aspk.surrogate.priors import weak_priors
from aspk.surrogate.process import Process
from aspk.tables import TabularEvaluator
from aspk.testing import FormulaEvaluator, tiny_space

TINY = tiny_space()


def evaluated(count, seed=0, noise=0.0):
    """Genotypes, and their accuracy and energy."""
    X = TINY.sample_choices(count, np.random.default_rng(seed))
    metrics = FormulaEvaluator(TINY, noise=noise).evaluate([TINY.decode(x) for x in X])
    return X, np.array([[m.accuracy, m.energy_mj] for m in metrics])


class Flat:
    """An ordered gene, an unordered one, a real coordinate, a single choice."""

    cardinalities = np.array([5, 3, 0, 1])
    ordered = np.array([True, False, True, True])

    def active(self, X):
        return np.ones(np.shape(X), dtype=bool)

    def canonical(self, X):
        return np.asarray(X)


# ------------------------------------------------------------------ features


def test_features_by_hand():
    rows = features(Flat(), np.array([[0, 2, 0.25, 0], [4, 0, 1.0, 0]]))
    half = 0.5**0.5
    assert rows == pytest.approx(np.array([[-0.5, 0, 0, half, -0.25], [0.5, half, 0, 0, 0.5]]))


def test_genes_of_a_space_stand_at_their_logarithms_and_blocks_are_averaged():
    x = TINY.encode(TINY.reference)
    row = features(TINY, x[None])[0]
    names = [gene.parameter for gene in TINY.genes]
    logs = np.log(TINY.network["embed_dim"])
    expected = (math.log(TINY.reference.embed_dim) - logs.mean()) / (logs[-1] - logs[0])
    assert row[names.index("embed_dim")] == pytest.approx(expected)
    thresholds = [row[names.index(f"blocks.{b}.v_threshold")] for b in range(2)]
    assert len(row) == len(names) + len(TINY.block)
    mean = row[len(names) + list(TINY.block).index("v_threshold")]
    assert mean == pytest.approx(np.mean(thresholds))
    shallow = x.copy()
    shallow[names.index("depth")] = 0
    mean = features(TINY, shallow[None])[0, len(names) + list(TINY.block).index("v_threshold")]
    assert mean == pytest.approx(thresholds[0])


def test_genes_that_a_network_does_not_use_are_no_features():
    x = TINY.encode(TINY.smallest)
    twin = x.copy()
    twin[~TINY.active(x)] = 1
    assert (x != twin).any()
    assert np.array_equal(features(TINY, x[None]), features(TINY, twin[None]))


# ------------------------------------------------------------------ the Gaussian process


def process(count=40, noise=0.02, trended=0):
    X, y = evaluated(count, noise=noise)
    targets = (y[:, 0] - y[:, 0].mean()) / y[:, 0].std()
    inputs = features(TINY, X)
    return Process(inputs, targets, most_probable(inputs, targets, trended), trended=trended), targets


def covariance(found, A, B, trended):
    h = found.hyperparameters
    r = np.sqrt(5) * np.linalg.norm((A[:, None] - B[None]) / h.lengths, axis=2)
    trend = sum(h.trend * np.outer(A[:, -column], B[:, -column]) for column in range(1, trended + 1))
    return h.signal * (1 + r + r**2 / 3) * np.exp(-r) + trend


@pytest.mark.parametrize("trended", [0, 2])
def test_predictions_are_the_posterior_of_a_matern_process_with_a_trend(trended):
    """The textbook formulas with an explicit inverse."""
    found, targets = process(trended=trended)
    assert (found.hyperparameters.trend > 0) == (trended > 0)
    A, B = found._inputs, features(TINY, evaluated(15, seed=1)[0])
    inverse = np.linalg.inv(covariance(found, A, A, trended) + found.hyperparameters.noise * np.eye(len(A)))
    mean, std = found.marginals(B)
    cross = covariance(found, B, A, trended)
    prior = np.diag(covariance(found, B, B, trended))
    variance = prior - np.einsum("ij,jk,ik->i", cross, inverse, cross)
    assert mean == pytest.approx(cross @ inverse @ targets, rel=1e-4, abs=1e-6)
    assert std == pytest.approx(np.sqrt(variance), rel=1e-3)
    assert found.mean(B) == pytest.approx(mean)
    joint = covariance(found, B, B, trended) - cross @ inverse @ cross.T
    assert found.covariance(B) == pytest.approx(joint, rel=1e-3, abs=1e-6)
    sign, log_determinant = np.linalg.slogdet(
        2 * np.pi * (covariance(found, A, A, trended) + found.hyperparameters.noise * np.eye(len(A)))
    )
    assert sign == 1
    assert found.log_likelihood == pytest.approx(
        -0.5 * (targets @ inverse @ targets + log_determinant), rel=1e-4
    )


def test_what_is_left_out_is_predicted_by_the_others():
    found, targets = process(count=25)
    mean, std = found.leave_one_out
    for row in (0, 7, 24):
        rest = np.arange(25) != row
        others = Process(found._inputs[rest], targets[rest], found.hyperparameters)
        expected, deviation = others.marginals(found._inputs[[row]])
        assert mean[row] == pytest.approx(expected[0], rel=1e-4, abs=1e-6)
        assert std[row] == pytest.approx(np.sqrt(deviation[0] ** 2 + found.hyperparameters.noise), rel=1e-4)


class Cell:
    """Six unordered genes of three choices, an ordered one, and an unordered one of two."""

    cardinalities = np.array([3, 3, 3, 3, 3, 3, 5, 2])
    ordered = np.array([False] * 6 + [True, False])

    def active(self, X):
        return np.ones(np.shape(X), dtype=bool)

    def canonical(self, X):
        return np.asarray(X)


def test_how_often_a_choice_occurs_among_places_alike_is_a_feature():
    X = np.random.default_rng(0).integers(0, Cell.cardinalities, size=(40, 8))
    rows = features(Cell(), X)
    assert rows.shape == (40, 6 * 3 + 1 + 2 + 3)
    counted = np.array([[(x[:6] == choice).sum() for choice in range(3)] for x in X])
    assert rows[:, -3:] * np.sqrt(2) * 6 == pytest.approx(counted)


def test_the_choices_of_one_of_several_places_share_one_length():
    X = np.random.default_rng(1).integers(0, Cell.cardinalities, size=(60, 8))
    target = (X[:, 0] == 1) + 0.5 * (X[:, 3] == 2) + 0.1 * X[:, 6]
    encoder = Features(Cell())
    found = most_probable(encoder(X), (target - target.mean()) / target.std(), scales=encoder.scales)
    genes = np.repeat(np.arange(10), [3, 3, 3, 3, 3, 3, 1, 1, 1, 3])
    assert encoder.scales.tolist() == genes.tolist()
    for gene in range(10):
        assert len(np.unique(found.lengths[genes == gene])) == 1
    assert found.lengths[genes == 0][0] < found.lengths[genes == 3][0] < found.lengths[genes == 1][0]


def test_columns_of_a_space_have_a_length_each():
    assert Features(TINY).scales.tolist() == list(range(len(TINY.genes) + len(TINY.block)))


@pytest.mark.parametrize("scales", [[0, 1, 1, 0, 2], [1, 0, 2, 2, 2], [2, 0, 1, 1, 0]])
def test_features_that_share_a_length_have_the_posterior_of_all_of_them_at_this_length(scales):
    rng, scales = np.random.default_rng(2), np.array(scales)
    inputs, targets = rng.normal(size=(20, 5)), rng.normal(size=20)
    shared = negative_log_posterior(inputs, targets, weak_priors(3), 1, scales=scales)
    each = negative_log_posterior(inputs, targets, weak_priors(5), 1)
    for point in rng.normal(0, 0.5, size=(3, 6)):
        spread_out = np.concatenate([point[:3], point[3:][scales]])
        prior = [
            0.5 * np.square((p - q[:, 0]) / q[:, 1]).sum()
            for p, q in ((point, weak_priors(3)), (spread_out, weak_priors(5)))
        ]
        assert shared(point)[0] - prior[0] == pytest.approx(each(spread_out)[0] - prior[1])
        assert check_grad(lambda p: shared(p)[0], lambda p: shared(p)[1], point) < 1e-4


@pytest.mark.parametrize("trended", [0, 1, 3])
def test_the_gradient_is_that_of_the_posterior(trended):
    X, y = evaluated(30, noise=0.02)
    inputs = features(TINY, X)
    targets, priors = (y[:, 0] - y[:, 0].mean()) / y[:, 0].std(), weak_priors(inputs.shape[1])
    posterior = negative_log_posterior(inputs, targets, priors, trended)
    for seed in range(2):
        point = np.random.default_rng(seed).normal(0, 0.5, size=3 + inputs.shape[1])
        difference = check_grad(lambda p: posterior(p)[0], lambda p: posterior(p)[1], point)
        assert difference < 1e-3 * np.linalg.norm(posterior(point)[1])


def test_a_trend_goes_on_where_there_are_no_observations():
    x = np.linspace(-0.5, 0.5, 12)[:, None]
    far = np.array([[1.5]])
    y = 3 * x[:, 0]
    flat, straight = (
        Process(x, y, most_probable(x, y, trended), trended=trended).mean(far)[0] for trended in (0, 1)
    )
    assert straight == pytest.approx(4.5, rel=0.05)
    assert abs(flat - 4.5) > 10 * abs(straight - 4.5)


def test_many_rows_give_nearly_the_hyperparameters_of_a_full_fit():
    """Rounds on few and then on more rows end where plain L-BFGS on all rows ends."""
    X, y = evaluated(140, noise=0.02)
    inputs, targets = features(TINY, X), (y[:, 0] - y[:, 0].mean()) / y[:, 0].std()
    priors = weak_priors(inputs.shape[1])
    posterior = negative_log_posterior(inputs, targets, priors)
    h = most_probable(inputs, targets)
    found = posterior(np.log([h.signal, h.noise, 1.0, *h.lengths]))[0]
    start = posterior(priors[:, 0])[0]
    best = minimize(posterior, priors[:, 0], jac=True, method="L-BFGS-B", bounds=priors[:, 2:].tolist()).fun
    assert best < start - 5
    assert found - best < 0.1 * (start - best)


def test_a_feature_that_does_not_matter_gets_a_long_length():
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-0.5, 0.5, size=(80, 3))
    targets = np.sin(6 * inputs[:, 0])
    lengths = most_probable(inputs, (targets - targets.mean()) / targets.std()).lengths
    assert min(lengths[1:]) > 3 * lengths[0]


# ------------------------------------------------------------------ the estimator


def test_it_keeps_the_conventions_of_scikit_learn():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(AccuracySurrogate(), on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] not in ("passed", "skipped")}
    assert failed == {}
    assert sum(r["status"] == "passed" for r in results) > 40


def test_unseen_networks_are_ordered_well_and_standard_deviations_are_honest():
    X, y = evaluated(120)
    U, truth = evaluated(300, seed=1)
    for k in range(2):
        surrogate = AccuracySurrogate(TINY).fit(X, y[:, k])
        mean, std = surrogate.predict(U, return_std=True, include_noise=True)
        assert mean.shape == std.shape == (300,)
        assert np.corrcoef(mean, truth[:, k])[0, 1] > 0.85
        assert (np.abs(mean - truth[:, k]) < 2 * std).mean() > 0.8
        assert np.abs(mean - truth[:, k]).mean() > 0.05 * std.mean()  # which are not just large


def test_costs_are_learnt_by_their_logarithm_and_predictions_stay_positive():
    X, y = evaluated(60)
    energy = AccuracySurrogate(TINY).fit(X, y[:, 1])
    assert energy.logarithm_
    assert (energy.predict(evaluated(300, seed=1)[0]) > 0).all()
    sums = features(TINY, X).sum(axis=1)
    assert not AccuracySurrogate(TINY).fit(X, sums - sums.min() + 0.1).logarithm_
    assert not AccuracySurrogate(TINY).fit(X, -y[:, 1]).logarithm_
    assert not AccuracySurrogate(TINY, logarithm=False).fit(X, y[:, 1]).logarithm_


def test_noise_is_told_from_signal():
    rng = np.random.default_rng(0)
    X, y = evaluated(80)
    clean = AccuracySurrogate(TINY).fit(X, y[:, 0])
    noisy = AccuracySurrogate(TINY).fit(X, y[:, 0] + rng.normal(0, y[:, 0].std(), size=80))
    assert noisy._model.process.hyperparameters.noise > 5 * clean._model.process.hyperparameters.noise
    value, evaluation = (noisy.predict(X, True, include_noise=flag)[1] for flag in (False, True))
    assert (evaluation > value).all()


def test_an_update_takes_other_data_and_keeps_what_was_chosen():
    X, y = evaluated(60)
    U, truth = evaluated(200, seed=1)
    surrogate = AccuracySurrogate(TINY).fit(X[:30], y[:30, 1])
    before = np.abs(np.log(surrogate.predict(U) / truth[:, 1])).mean()
    surrogate.update(X, y[:, 1])
    assert np.abs(np.log(surrogate.predict(U) / truth[:, 1])).mean() < before
    fresh = AccuracySurrogate(TINY).fit(X[:30], y[:30, 1])
    lengths = (one._model.process.hyperparameters.lengths for one in (surrogate, fresh))
    assert np.array_equal(*lengths)


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda X, y: AccuracySurrogate(TINY).predict(X), NotFittedError),
        (lambda X, y: AccuracySurrogate(TINY).update(X, y), NotFittedError),
        (lambda X, y: AccuracySurrogate(TINY).fit(X[:1], y[:1]), ValueError),
        (lambda X, y: AccuracySurrogate(TINY).fit(X[:, :3], y), ValueError),
        (lambda X, y: AccuracySurrogate(TINY, model="trees").fit(X, y), ValueError),
        (lambda X, y: AccuracySurrogate(TINY).fit(X, np.where(y > 0.7, np.nan, y)), ValueError),
    ],
)
def test_what_cannot_be_learnt_is_an_error(use, error):
    X, y = evaluated(20)
    with pytest.raises(error):
        use(X, y[:, 0])


def test_targets_without_the_logarithm_that_is_learnt_are_an_error():
    """All predictions were NaN."""
    X, y = evaluated(20)
    surrogate, energies = AccuracySurrogate(TINY, folds=0), y[:, 1]
    assert surrogate.fit(X, energies).logarithm_
    with pytest.raises(ValueError, match=r"y has -1, and its logarithm is learnt: expected numbers above 0"):
        surrogate.update(X, np.where(energies == energies.max(), -1.0, energies))
    with pytest.raises(ValueError, match="y has 0, and its logarithm is learnt"):
        AccuracySurrogate(TINY, logarithm=True).fit(X, energies - energies.min())


def test_it_can_be_cloned_with_its_space():
    surrogate = clone(AccuracySurrogate(TINY, logarithm=False))
    assert surrogate.get_params()["logarithm"] is False
    assert surrogate.genome.name == TINY.name


# ------------------------------------------------------------------ validation


def test_rank_correlation_is_high_for_a_formula_and_none_for_chance():
    X, y = evaluated(80)
    surrogate = AccuracySurrogate(TINY)
    assert rank_correlation(surrogate, X, y[:, 1], np.random.default_rng(0)) > 0.8
    chance = np.random.default_rng(1).normal(size=80)
    assert abs(rank_correlation(surrogate, X, chance, np.random.default_rng(0))) < 0.3


def test_a_learning_curve_rises_and_its_doubt_is_calibrated():
    X, y = evaluated(160, noise=0.02)
    rng = np.random.default_rng(0)
    curve = learning_curve(AccuracySurrogate(TINY), X, y[:, 0], rng, sizes=[15, 100], draws=12)
    small, large = curve
    assert (small.size, large.size) == (15, 100)
    assert large.tau > small.tau + 0.05
    assert large.error < small.error
    assert small.low <= small.tau <= small.high
    assert large.within_1 == pytest.approx(0.68, abs=0.15)
    assert large.within_2 == pytest.approx(0.95, abs=0.08)


def test_processes_side_by_side_change_no_skill():
    X, y = evaluated(40, noise=0.02)
    alone, together = (
        learning_curve(
            AccuracySurrogate(TINY),
            X,
            y[:, 0],
            np.random.default_rng(3),
            sizes=[10, 20],
            draws=3,
            workers=count,
        )
        for count in (1, 2)
    )
    assert alone == together


class Killed(AccuracySurrogate):
    """Ends the process that fits it, as a system without memory does."""

    def fit(self, X, y, **options):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_an_error():
    X, y = evaluated(40)
    with pytest.raises(WorkerError, match="fewer workers than 2"):
        learning_curve(Killed(TINY), X, y[:, 0], np.random.default_rng(3), sizes=[10], draws=2, workers=2)


@pytest.mark.parametrize("options", [{"sizes": [1]}, {"sizes": [18]}, {"sizes": [5], "draws": 0}])
def test_impossible_training_sets_are_refused(options):
    X, y = evaluated(20)
    with pytest.raises(SamplerError, match="expected"):
        learning_curve(AccuracySurrogate(TINY), X, y[:, 0], np.random.default_rng(0), **options)
    with pytest.raises(SamplerError, match="expected"):
        rank_correlation(AccuracySurrogate(TINY), X[:5], y[:5, 0], np.random.default_rng(0))


@pytest.mark.parametrize("column", [0, 1], ids=["accuracy", "energy"])
def test_standard_deviations_are_calibrated_by_what_is_left_out(column):
    """Tables of real supernets; fitted to few networks, a process believes in it too much."""
    within = {0: [], 5: []}
    for name in ("mnist_mixed", "fashion_blocks", "digits_heads"):
        table = TabularEvaluator(name)
        y, order = table.values()[:, column], np.random.default_rng(0).permutation(len(table.networks))[:400]
        for folds, shares in within.items():
            surrogate = AccuracySurrogate(table.space, folds=folds)
            (skill,) = learning_curve(
                surrogate, table.networks[order], y[order], np.random.default_rng(1), sizes=[25], draws=8
            )
            shares.append(skill.within_2)
    assert np.mean(within[5]) == pytest.approx(0.95, abs=0.07)
    assert np.mean(within[0]) < np.mean(within[5]) - 0.04


def test_standard_deviations_of_few_networks_are_left_alone():
    X, y = evaluated(40, noise=0.02)
    few, none, some = (
        AccuracySurrogate(TINY, folds=folds).fit(X[:count], y[:count, 0])
        for folds, count in ((5, 9), (0, 40), (5, 40))
    )
    assert few.std_factor_ == none.std_factor_ == 1.0
    assert some.std_factor_ > 1.0
    U, _ = evaluated(20, seed=1)
    (mean, std), (same, smaller) = (one.predict(U, return_std=True) for one in (some, none))
    assert mean == pytest.approx(same)
    assert std == pytest.approx(some.std_factor_ * smaller)
    factor = some.std_factor_
    some.update(X[:20], y[:20, 0])
    assert some.predict(U, return_std=True)[1] == pytest.approx(
        factor * none.update(X[:20], y[:20, 0]).predict(U, return_std=True)[1]
    )
    for folds in (1, -1):
        with pytest.raises(ValueError, match=f"folds={folds}: expected 0, or at least 2"):
            AccuracySurrogate(TINY, folds=folds).fit(X, y[:, 0])


def test_a_posterior_is_the_prediction_and_conditioning_is_learning():
    X, y = evaluated(50, noise=0.02)
    U, _ = evaluated(20, seed=1)
    surrogate = AccuracySurrogate(TINY, features=()).fit(X, y[:, 0])
    posterior = surrogate.posterior(U)
    mean, std = surrogate.predict(U, return_std=True)
    assert posterior.mean == pytest.approx(mean)
    assert posterior.std == pytest.approx(std, rel=1e-4)
    conditioned = posterior.condition_on(3)
    old, scale = surrogate._model.process, surrogate._model.scale
    inputs = np.vstack([old._inputs, features(TINY, U[3:4])])
    targets = np.append(old._targets, old.mean(inputs[-1:]))
    mean, std = Process(inputs, targets, old.hyperparameters).marginals(features(TINY, U))
    assert conditioned.mean == pytest.approx(scale.original(mean, std)[0])
    assert conditioned.std == pytest.approx(scale.original(mean, surrogate.std_factor_ * std)[1], rel=1e-3)
    assert posterior.std == pytest.approx(surrogate.predict(U, return_std=True)[1])  # it stays as it was
    lower, middle, upper = conditioned.at(np.array([-1.0, 0.0, 1.0])).T
    assert middle == pytest.approx(conditioned.mean)
    assert (upper - lower) / 2 == pytest.approx(conditioned.std)


def test_probabilities_are_those_of_an_evaluation():
    """The oracle: SciPy's normal and log-normal distributions with the deviation of a noisy evaluation."""
    X, y = evaluated(50, noise=0.02)
    U, _ = evaluated(20, seed=1)
    for k, logarithm in ((0, False), (1, True)):
        surrogate = AccuracySurrogate(TINY, logarithm=logarithm).fit(X, y[:, k])
        posterior, bound = surrogate.posterior(U), float(np.median(y[:, k]))
        noisy = posterior.with_noise
        if logarithm:
            oracle = lognorm.logcdf(bound, np.arcsinh(noisy.std / noisy.mean), scale=noisy.mean)
        else:
            oracle = norm.logcdf(bound, noisy.mean, noisy.std)
        assert posterior.log_probability(bound) == pytest.approx(oracle, rel=1e-6, abs=1e-9)
        assert (noisy.std > posterior.std).all()


def test_what_is_known_does_not_change():
    known = Posterior(np.array([1.0, 2.0]), np.zeros(2))
    assert known.condition_on(1) is known
    assert known.at(np.array([-1.0, 1.0])).tolist() == [[1.0, 1.0], [2.0, 2.0]]


# ------------------------------------------------------------------ names of the last release


def test_old_names_warn_and_do_what_the_new_ones_do():
    X, y = evaluated(20)
    surrogate = AccuracySurrogate(TINY).fit(X, y[:, 0])
    for old, new in (("doubt_", "std_factor_"), ("left_out", "leave_one_out")):
        with pytest.warns(FutureWarning, match=f"AccuracySurrogate.{old} is now {new}"):
            assert np.array_equal(getattr(surrogate, old), getattr(surrogate, new))
    with pytest.warns(FutureWarning, match="joint is now posterior"):
        assert np.array_equal(surrogate.joint(X).std, surrogate.posterior(X).std)
    with pytest.warns(FutureWarning, match="all models are Gaussian processes"):
        assert np.array_equal(
            AccuracySurrogate(TINY, model="process").fit(X, y[:, 0]).predict(X), surrogate.predict(X)
        )
