"""Priors from other spiking transformers: which feature gets which, and what they are good for."""

from __future__ import annotations

import numpy as np
import pytest

from aspk.space.file import load_space
from aspk.space.operators import sample_distinct
from aspk.surrogate import AccuracySurrogate
from aspk.surrogate.features import Feature, columns, features
from aspk.surrogate.priors import (
    COST,
    ROUGH_ACCURACY,
    SMOOTH_ACCURACY,
    medians,
    transfer_priors,
    weak_priors,
)
from aspk.tables import TabularEvaluator, shipped_tables
from aspk.testing import tiny_space

TINY = tiny_space()


@pytest.mark.parametrize("name", [*shipped_tables(), "tiny"])
def test_every_column_of_the_features_has_a_name(name):
    space = TINY if name == "tiny" else TabularEvaluator(name).space
    X = sample_distinct(space, 20, np.random.default_rng(0))
    known = columns(space)
    table = features(space, X)
    assert len(known) == len(set(known)) == table.shape[1]
    for column, feature in zip(table.T, known, strict=True):
        gene = next((g for g in space.genes if (g.name, g.block) == (feature.gene, feature.block)), None)
        if feature.mean:
            assert feature.gene in space.block
        else:  # one number for each choice of its own gene, 0 where that gene is not in use
            place = space.genes.index(gene)
            used = space.active(X)[:, place]
            assert len(set(column[used])) == len(set(X[used, place]))
            assert not column[~used].any()


def test_priors_of_a_space_with_words_stand_at_their_columns():
    space = load_space("tiny_genes")
    known = columns(space)
    assert len(known) == features(space, space.sample_choices(5, np.random.default_rng(0))).shape[1]
    assert sum(feature == Feature("stem_neuron") for feature in known) == 2  # a column for each word
    (priors,) = transfer_priors(space, len(known), logarithm=True)
    assert np.exp(priors[3:, 0]) == pytest.approx([COST.of(feature)[0] for feature in known])


def test_later_blocks_matter_less():
    first, second = (ROUGH_ACCURACY.of(Feature("v_threshold", block))[0] for block in (0, 1))
    assert second == pytest.approx(2 * first, rel=0.01)
    assert COST.of(Feature("tau", 2)) == COST.of(Feature("tau", 0)) == COST.others
    assert SMOOTH_ACCURACY.of(Feature("tau", mean=True)) == SMOOTH_ACCURACY.mean


def test_priors_stand_at_their_features():
    known = columns(TINY)
    rough, smooth = transfer_priors(TINY, len(known) + 2, logarithm=False)
    (cost,) = transfer_priors(TINY, len(known) + 2, logarithm=True)
    for case, priors in ((ROUGH_ACCURACY, rough), (SMOOTH_ACCURACY, smooth), (COST, cost)):
        middle = medians(priors)
        assert (middle.signal, middle.noise) == pytest.approx((case.signal[0], case.noise[0]))
        assert middle.lengths[: len(known)] == pytest.approx([case.of(feature)[0] for feature in known])
        assert priors[-2:].tolist() == weak_priors(2)[3:].tolist()  # free features: nothing is known
        assert (priors[:, 2] < priors[:, 0]).all()
        assert (priors[:, 0] < priors[:, 3]).all()


def test_other_spaces_get_weak_priors():
    for genome in (None, object()):
        (priors,) = transfer_priors(genome, 3, logarithm=True)
        assert priors.tolist() == weak_priors(3).tolist()


def test_data_overrule_transfer_priors():
    """Heads and MLP ratios hardly matter to other supernets; here nothing else does."""
    space = TabularEvaluator("fashion_sizes").space
    X = sample_distinct(space, 240, np.random.default_rng(0))
    known = [feature.gene in ("num_heads", "mlp_ratio") and feature.mean for feature in columns(space)]
    targets = np.sin(4 * features(space, X)[:, known]).sum(axis=1)
    surrogate = AccuracySurrogate(space, features=(), logarithm=False).fit(X[:40], targets[:40])
    error = surrogate.predict(X[40:]) - targets[40:]
    assert error.std() < 0.2 * targets.std()


@pytest.mark.parametrize(("metric", "networks"), [("accuracy", 6), ("accuracy", 12), ("energy_mj", 30)])
@pytest.mark.parametrize("name", ["fashion_blocks", "mnist_mixed"])
def test_transfer_priors_predict_better_from_few_evaluations(name, metric, networks, monkeypatch):
    """``mnist_mixed`` is of a data set and a supernet that the priors are not from."""
    table = TabularEvaluator(name)
    values = table.table.splits["search"][metric] * (1 if metric == "energy_mj" else -1)

    def mean_error():
        errors = []
        for seed in range(12):
            rows = np.random.default_rng(seed).permutation(len(values))[: 400 + networks]
            known, others = rows[:networks], rows[networks:]
            surrogate = AccuracySurrogate(table.space, features=()).fit(table.networks[known], values[known])
            predicted = surrogate.predict(table.networks[others])
            scale = values[others] if metric == "energy_mj" else 1.0
            errors.append(np.abs((predicted - values[others]) / scale).mean())
        return np.mean(errors)

    with_transfer = mean_error()
    monkeypatch.setattr(
        "aspk.surrogate.encoder.transfer_priors", lambda genome, features, **options: [weak_priors(features)]
    )
    assert with_transfer < mean_error()
