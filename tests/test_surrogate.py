import math
import os
import signal
import warnings

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import check_estimator

from aspk.errors import SamplerError, WorkerError
from aspk.surrogate import AccuracySurrogate, features, learning_curve, rank_correlation
from aspk.surrogate.features import Features
from aspk.surrogate.models import MODELS, LinearModel, TreesModel
from aspk.surrogate.process import Process, _Posterior, most_probable, weak_priors
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
    return Process(features(TINY, X), targets, trended=trended), targets


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
    inverse = np.linalg.inv(covariance(found, A, A, trended) + found.noise * np.eye(len(A)))
    mean, std = found.predict(B)
    cross = covariance(found, B, A, trended)
    prior = np.diag(covariance(found, B, B, trended))
    variance = prior - np.einsum("ij,jk,ik->i", cross, inverse, cross)
    assert mean == pytest.approx(cross @ inverse @ targets, rel=1e-4, abs=1e-6)
    assert std == pytest.approx(np.sqrt(variance), rel=1e-3)
    assert found.mean(B) == pytest.approx(mean)
    sign, log_determinant = np.linalg.slogdet(
        2 * np.pi * (covariance(found, A, A, trended) + found.noise * np.eye(len(A)))
    )
    assert sign == 1
    assert found.log_likelihood == pytest.approx(
        -0.5 * (targets @ inverse @ targets + log_determinant), rel=1e-4
    )


def test_what_is_left_out_is_predicted_by_the_others():
    found, targets = process(count=25)
    mean, std = found.left_out
    for row in (0, 7, 24):
        rest = np.arange(25) != row
        others = Process(found._inputs[rest], targets[rest], found.hyperparameters)
        expected, doubt = others.predict(found._inputs[[row]])
        assert mean[row] == pytest.approx(expected[0], rel=1e-4, abs=1e-6)
        assert std[row] == pytest.approx(np.sqrt(doubt[0] ** 2 + found.noise), rel=1e-4)


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
    shared = _Posterior(inputs, targets, weak_priors(3), 1, scales=scales)
    each = _Posterior(inputs, targets, weak_priors(5), 1)
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
    posterior = _Posterior(inputs, targets, priors, trended)
    for seed in range(2):
        point = np.random.default_rng(seed).normal(0, 0.5, size=3 + inputs.shape[1])
        difference = check_grad(lambda p: posterior(p)[0], lambda p: posterior(p)[1], point)
        assert difference < 1e-3 * np.linalg.norm(posterior(point)[1])


def test_a_trend_goes_on_where_there_are_no_observations():
    x = np.linspace(-0.5, 0.5, 12)[:, None]
    far = np.array([[1.5]])
    flat, straight = (Process(x, 3 * x[:, 0], trended=trended).mean(far)[0] for trended in (0, 1))
    assert straight == pytest.approx(4.5, rel=0.05)
    assert abs(flat - 4.5) > 10 * abs(straight - 4.5)


def test_many_rows_give_nearly_the_hyperparameters_of_a_full_fit():
    """Rounds on few and then on more rows end where plain L-BFGS on all rows ends."""
    X, y = evaluated(140, noise=0.02)
    inputs, targets = features(TINY, X), (y[:, 0] - y[:, 0].mean()) / y[:, 0].std()
    priors = weak_priors(inputs.shape[1])
    posterior = _Posterior(inputs, targets, priors)
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


@pytest.mark.parametrize("model", ["auto", *MODELS])
def test_it_keeps_the_conventions_of_scikit_learn(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(
            AccuracySurrogate(model=model, folds=5 if model == "process" else 2), on_fail=None
        )
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] not in ("passed", "skipped")}
    assert failed == {}
    assert sum(r["status"] == "passed" for r in results) > 40


@pytest.mark.parametrize("model", ["auto", *MODELS])
def test_unseen_networks_are_ordered_well_and_doubt_is_honest(model):
    X, y = evaluated(120)
    U, truth = evaluated(300, seed=1)
    for k in range(2):
        surrogate = AccuracySurrogate(TINY, model=model).fit(X, y[:, k])
        mean, std = surrogate.predict(U, return_std=True, include_noise=True)
        assert mean.shape == std.shape == (300,)
        assert np.corrcoef(mean, truth[:, k])[0, 1] > 0.85
        assert (np.abs(mean - truth[:, k]) < 2 * std).mean() > 0.8
        assert np.abs(mean - truth[:, k]).mean() > 0.05 * std.mean()  # and it does not doubt everything


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
    assert noisy._predictor.regression.noise > 5 * clean._predictor.regression.noise
    value, evaluation = (noisy.predict(X, True, include_noise=flag)[1] for flag in (False, True))
    assert (evaluation > value).all()


def test_auto_takes_the_model_that_orders_best():
    X, y = evaluated(60)
    surrogate = AccuracySurrogate(TINY, model="auto").fit(X, y[:, 0])
    assert set(surrogate.tau_) == set(MODELS)
    assert surrogate.tau_[surrogate.model_] == max(surrogate.tau_.values())
    # A rule that only trees can see: two genes' parity decides.
    rng = np.random.default_rng(0)
    U = rng.integers(0, 2, size=(400, 6)).astype(float)
    parity = (U[:, 0] + U[:, 1] + U[:, 2]) % 2 + 0.01 * rng.normal(size=400)
    tau = AccuracySurrogate(model="auto").fit(U, parity).tau_
    assert tau["linear"] < 0.2 < min(tau["process"], tau["trees"])


@pytest.mark.parametrize("kind", [LinearModel, lambda A, y: TreesModel(A, y, 0)])
def test_other_models_also_say_what_they_predict_for_observations_left_out(kind):
    X, y = evaluated(100, noise=0.05)
    inputs, targets = features(TINY, X), (y[:, 0] - y[:, 0].mean()) / y[:, 0].std()
    model = kind(inputs, targets)
    inside = np.abs(targets - model.predict(inputs)[0]).mean()
    outside = np.abs(targets - model.left_out[0]).mean()
    honest = np.mean(
        [
            abs(
                targets[row]
                - kind(np.delete(inputs, row, 0), np.delete(targets, row)).predict(inputs[[row]])[0][0]
            )
            for row in range(0, 100, 5)
        ]
    )
    assert inside < outside
    assert outside == pytest.approx(honest, rel=0.35)


@pytest.mark.parametrize("model", MODELS)
def test_an_update_takes_other_data_and_keeps_what_was_chosen(model):
    X, y = evaluated(60)
    U, truth = evaluated(200, seed=1)
    surrogate = AccuracySurrogate(TINY, model=model).fit(X[:30], y[:30, 1])
    before = np.abs(np.log(surrogate.predict(U) / truth[:, 1])).mean()
    surrogate.update(X, y[:, 1])
    assert np.abs(np.log(surrogate.predict(U) / truth[:, 1])).mean() < before
    if model == "process":
        hyperparameters = surrogate._predictor.regression.hyperparameters
        fresh = AccuracySurrogate(TINY, model=model).fit(X[:30], y[:30, 1])
        assert np.array_equal(hyperparameters.lengths, fresh._predictor.regression.hyperparameters.lengths)


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda X, y: AccuracySurrogate(TINY).predict(X), NotFittedError),
        (lambda X, y: AccuracySurrogate(TINY).update(X, y), NotFittedError),
        (lambda X, y: AccuracySurrogate(TINY).fit(X[:1], y[:1]), ValueError),
        (lambda X, y: AccuracySurrogate(TINY).fit(X[:, :3], y), ValueError),
        (lambda X, y: AccuracySurrogate(TINY, model="oracle").fit(X, y), ValueError),
        (lambda X, y: AccuracySurrogate(TINY).fit(X, np.where(y > 0.7, np.nan, y)), ValueError),
    ],
)
def test_what_cannot_be_learnt_is_an_error(use, error):
    X, y = evaluated(20)
    with pytest.raises(error):
        use(X, y[:, 0])


def test_it_can_be_cloned_with_its_space():
    surrogate = clone(AccuracySurrogate(TINY, model="linear"))
    assert surrogate.get_params()["model"] == "linear"
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
def test_doubts_are_calibrated_by_what_is_left_out(column):
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


def test_doubts_of_few_networks_are_left_alone():
    X, y = evaluated(40, noise=0.02)
    few, none, some = (
        AccuracySurrogate(TINY, folds=folds).fit(X[:count], y[:count, 0])
        for folds, count in ((5, 9), (0, 40), (5, 40))
    )
    assert few.doubt_ == none.doubt_ == 1.0
    assert some.doubt_ > 1.0
    U, _ = evaluated(20, seed=1)
    (mean, std), (same, smaller) = (one.predict(U, return_std=True) for one in (some, none))
    assert mean == pytest.approx(same)
    assert std == pytest.approx(some.doubt_ * smaller)
    doubt = some.doubt_
    some.update(X[:20], y[:20, 0])
    assert some.predict(U, return_std=True)[1] == pytest.approx(
        doubt * none.update(X[:20], y[:20, 0]).predict(U, return_std=True)[1]
    )
    for folds in (1, -1):
        with pytest.raises(ValueError, match=f"folds={folds}: expected 0, or at least 2"):
            AccuracySurrogate(TINY, folds=folds).fit(X, y[:, 0])


def test_a_joint_prediction_is_the_prediction_and_expecting_is_learning():
    X, y = evaluated(50, noise=0.02)
    U, _ = evaluated(20, seed=1)
    surrogate = AccuracySurrogate(TINY, features=()).fit(X, y[:, 0])
    joint = surrogate.joint(U)
    mean, std = surrogate.predict(U, return_std=True)
    assert joint.moments()[0] == pytest.approx(mean)
    assert joint.moments()[1] == pytest.approx(std, rel=1e-4)
    joint.expect(3)
    old, scale = surrogate._predictor.regression, surrogate._predictor.scale
    inputs = np.vstack([old._inputs, features(TINY, U[3:4])])
    targets = np.append(old._targets, old.predict(inputs[-1:])[0])
    expected, doubt = Process(inputs, targets, old.hyperparameters).predict(features(TINY, U))
    assert joint.moments()[0] == pytest.approx(scale.original(expected, doubt)[0])
    assert joint.moments()[1] == pytest.approx(
        scale.original(expected, surrogate.doubt_ * doubt)[1], rel=1e-3
    )
    lower, middle, upper = joint.at(np.array([-1.0, 0.0, 1.0])).T
    assert middle == pytest.approx(joint.moments()[0])
    assert (upper - lower) / 2 == pytest.approx(joint.moments()[1])
    trees = AccuracySurrogate(TINY, model="trees").fit(X, y[:, 0]).joint(U)
    before = trees.moments()[1]
    trees.expect(3)
    assert trees.moments()[1][3] < before[3]
    assert np.delete(trees.moments()[1], 3) == pytest.approx(np.delete(before, 3))
