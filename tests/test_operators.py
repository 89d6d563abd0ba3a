import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aspk.space import operators
from aspk.space.file import load_space

TINY = load_space("tiny")
PAPER = load_space("auto_spikformer")


class Toy:
    """Three index genes, the last one used only where the first is 1."""

    cardinalities = np.array([2, 3, 4])
    ordered = np.array([True, False, True])

    def active(self, X):
        X = np.asarray(X)
        mask = np.ones(X.shape, dtype=bool)
        mask[..., 2] = X[..., 0] == 1
        return mask

    def canonical(self, X):
        return np.where(self.active(X), X, 0)


TOY_DESIGNS = {(0, b, 0) for b in range(3)} | {(1, b, c) for b in range(3) for c in range(4)}


class Mixed:
    """A real coordinate beside a categorical and a single choice."""

    cardinalities = np.array([0, 4, 1])
    ordered = np.array([True, False, True])

    def active(self, X):
        return np.ones(np.shape(X), dtype=bool)

    def canonical(self, X):
        return np.asarray(X, dtype=float)


def uses(space, x, gene):
    """Whether the network of ``x`` has the gene, told by its decoded form."""
    return gene.block is None or gene.block < space.decode(x).depth


def design(space, x):
    return space.decode(x)


@pytest.mark.parametrize("space", [TINY, PAPER], ids=["tiny", "paper"])
def test_children_inherit_conditional_genes_from_the_parent_that_uses_them(space):
    rng = np.random.default_rng(0)
    A, B = operators.sample(space, 60, rng), operators.sample(space, 60, rng)
    children = operators.crossover(space, A, B, rng)
    conditional = 0
    for a, b, child in zip(A, B, children, strict=True):
        for column, gene in enumerate(space.genes):
            assert child[column] in (a[column], b[column])
            if uses(space, a, gene) and not uses(space, b, gene):
                assert child[column] == a[column]
                conditional += 1
            elif uses(space, b, gene) and not uses(space, a, gene):
                assert child[column] == b[column]
                conditional += 1
    assert conditional > 50


def test_crossover_is_uniform_where_both_parents_use_a_gene():
    A, B = np.ones((4000, 3), dtype=int), np.array([[1, 2, 3]] * 4000)
    children = operators.crossover(Toy(), A, B, np.random.default_rng(1))
    assert (children[:, 1:] == A[:, 1:]).mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.04)


@pytest.mark.parametrize("space", [TINY, PAPER], ids=["tiny", "paper"])
def test_mutation_changes_one_active_gene_on_average(space):
    rng = np.random.default_rng(2)
    X = operators.sample(space, 3000, rng)
    mutants = operators.mutate(space, X, rng)
    changed = mutants != X
    assert not (changed & ~space.active(X)).any()
    # Counted only where the child still uses the gene: a change that a smaller depth hides has no effect.
    effective = changed & space.active(mutants)
    assert effective.sum(axis=1).mean() == pytest.approx(1.0, abs=0.08)


def test_mutation_hits_as_many_genes_as_it_is_told():
    rng = np.random.default_rng(3)
    X = operators.sample(PAPER, 2000, rng)
    changed = operators.mutate(PAPER, X, rng, changes=3.0) != X
    assert changed.sum(axis=1).mean() == pytest.approx(3.0, abs=0.15)


def test_a_hit_gene_always_changes_and_an_unordered_one_to_any_other_choice():
    rng = np.random.default_rng(4)
    X = np.tile([[1, 1, 0]], (6000, 1))
    mutants = operators.mutate(Toy(), X, rng, changes=3.0)  # rate 1 in every gene
    assert (mutants != X).all()
    assert (mutants[:, 1] == 0).mean() == pytest.approx(0.5, abs=0.03)
    # The ordered gene at its lower end: half of the changes creep to 1, the others go anywhere.
    assert (mutants[:, 2] == 1).mean() == pytest.approx(0.5 + 0.5 / 3, abs=0.03)


def test_real_coordinates_stay_in_range_and_move_little_when_creeping():
    rng = np.random.default_rng(5)
    X = operators.sample(Mixed(), 2000, rng)
    assert X.dtype == float
    assert 0 <= X[:, 0].min() < 0.05 < 0.95 < X[:, 0].max() <= 1
    mutants = operators.mutate(Mixed(), X, rng, changes=2.0, creep=1.0)
    assert (mutants[:, 0] >= 0).all()
    assert (mutants[:, 0] <= 1).all()
    assert (mutants[:, 2] == 0).all()
    assert 0.03 < np.abs(mutants[:, 0] - X[:, 0]).mean() < 0.12
    assert set(mutants[:, 1]) == {0.0, 1.0, 2.0, 3.0}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([TINY, PAPER]))
def test_operators_stay_inside_the_space(seed, space):
    rng = np.random.default_rng(seed)
    A, B = operators.sample(space, 8, rng), operators.sample(space, 8, rng)
    for x in operators.mutate(space, operators.crossover(space, A, B, rng), rng, changes=5.0):
        space.decode(x)  # raises outside


def test_wide_genes_creep_within_their_range():
    class Wide(Mixed):
        cardinalities = np.array([2, 3, 64])
        ordered = np.array([True, True, True])

    rng = np.random.default_rng(6)
    X = operators.sample(Wide(), 5000, rng)
    mutants = operators.mutate(Wide(), X, rng, changes=3.0, creep=1.0)
    assert ((mutants >= 0) & (mutants < Wide.cardinalities)).all()
    assert (mutants != X).all()
    assert np.abs(mutants - X)[:, 2].max() > 5


def test_keys_are_equal_exactly_for_equal_networks():
    rng = np.random.default_rng(7)
    X = operators.sample(TINY, 300, rng)
    twins = X.copy()
    hidden = ~TINY.active(X)
    twins[hidden] = (twins[hidden] + 1) % np.broadcast_to(TINY.cardinalities, X.shape)[hidden]
    assert (twins != X).any()
    assert operators.keys(TINY, X) == operators.keys(TINY, twins)
    assert len(set(operators.keys(TINY, X))) == len({design(TINY, x) for x in X})


@pytest.mark.parametrize("seed", range(3))
def test_sampling_reaches_every_design_once_before_it_repeats(seed):
    rng = np.random.default_rng(seed)
    X = operators.sample_distinct(Toy(), len(TOY_DESIGNS), rng)
    assert {tuple(x) for x in Toy().canonical(X)} == TOY_DESIGNS
    assert operators.sample_distinct(Toy(), 20, rng).shape == (20, 3)


def test_the_last_unseen_network_of_a_small_space_is_found():
    everything = list(TINY.networks())
    missing = everything.pop(12345)
    seen = set(operators.keys(TINY, np.array(everything)))
    rng = np.random.default_rng(0)
    stubborn = np.array(everything[:1])
    found = operators.fill(TINY, 1, lambda n: np.repeat(stubborn, n, axis=0), rng, seen=seen)
    assert TINY.decode(found[0]) == TINY.decode(missing)


def test_fill_keeps_the_order_of_new_proposals_and_replaces_known_ones():
    rows = np.array([[0, 0, 1], [0, 0, 2], [1, 2, 3], [0, 1, 0]])
    batches = itertools.cycle([rows])
    seen = operators.keys(Toy(), rows[2:3])
    chosen = operators.fill(
        Toy(), 3, lambda n: next(batches), np.random.default_rng(0), seen=seen, attempts=1
    )
    assert chosen[0].tolist() == [0, 0, 1]  # the second row is the same design
    assert chosen[1].tolist() == [0, 1, 0]
    assert tuple(Toy().canonical(chosen)[2]) not in {(0, 0, 0), (0, 1, 0), (1, 2, 3)}


def test_fill_prefers_what_is_wanted_and_takes_the_rest_in_the_order_found():
    rng = np.random.default_rng(0)
    some = operators.sample_distinct(TINY, 8, rng)

    def proposed(count):
        return some

    def even(X):
        return X.sum(axis=1) % 2 == 0

    wanted = operators.fill(TINY, 8, proposed, rng, keeps=even)
    assert even(wanted).all()
    assert wanted[: even(some).sum()].tolist() == some[even(some)].tolist()
    nothing = operators.fill(TINY, 8, proposed, rng, keeps=lambda X: np.zeros(len(X), dtype=bool))
    assert nothing.tolist() == some.tolist()


def test_fill_does_not_list_a_space_for_designs_that_are_not_wanted():
    looked_at = []

    def none(X):
        looked_at.append(len(X))
        return np.zeros(len(X), dtype=bool)

    rng = np.random.default_rng(0)
    operators.fill(TINY, 1, lambda n: operators.sample(TINY, n, rng), rng, keeps=none)
    assert sum(looked_at) <= 16 * (1 + 64)


def test_no_rows_asked_no_rows_given():
    assert operators.sample_distinct(TINY, 0, np.random.default_rng(0)).shape == (0, len(TINY.genes))
