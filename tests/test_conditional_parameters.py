"""Studies without a space whose objective suggests some parameters only with certain values of others."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from sampler_cases import create, every_sampler
from study_models import study_model

from aspk.samplers import SurrogateSampler
from aspk.samplers._codec import Condition, ParameterCodec
from aspk.samplers._history import History
from aspk.samplers._inferred import Inference
from aspk.space.operators import keys, sample
from aspk.surrogate.encoder import Encoder
from aspk.surrogate.features import features
from aspk.surrogate.priors import weak_priors

DEPTH = IntDistribution(1, 3)
WIDTH = IntDistribution(8, 64, step=8)


def trial(*, state=TrialState.COMPLETE, distributions=None, **parameters):
    of = {"depth": DEPTH, "kind": CategoricalDistribution(["a", "b", "c"]), "rate": FloatDistribution(0, 1)}
    of |= distributions or {}
    return create_trial(
        state=state,
        value=1.0 if state == TrialState.COMPLETE else None,
        params=parameters,
        distributions={name: of.get(name, WIDTH) for name in parameters},
    )


def inferred(*trials):
    """From so many trials of each kind that conditions are inferred."""
    return Inference().codec([copy.deepcopy(one) for one in trials for _ in range(12)])


def deep(depth, **others):
    return trial(depth=depth, **{f"width_{block}": 8 * (block + 1) for block in range(depth)}, **others)


# ------------------------------------------------------------------ what is inferred


def test_blocks_are_there_where_the_depth_has_them():
    codec = inferred(deep(1), deep(3), deep(2))
    assert list(codec.distributions) == ["depth", "width_0", "width_1", "width_2"]
    assert dict(codec.conditions) == {
        "width_1": Condition("depth", (False, True, True)),
        "width_2": Condition("depth", (False, False, True)),
    }
    active = codec.active(np.array([[0, 1, 1, 1], [1, 1, 1, 1], [2, 1, 1, 1]]))
    assert active.sum(axis=1).tolist() == [2, 3, 4]


def test_conditions_of_conditional_parameters():
    codec = inferred(
        trial(kind="a"),
        trial(kind="b", depth=1),
        trial(kind="b", depth=2, width_1=8),
        trial(kind="b", depth=3, width_1=16),
        trial(kind="c"),
    )
    assert dict(codec.conditions) == {
        "depth": Condition("kind", (False, True, False)),
        "width_1": Condition("depth", (False, True, True)),
    }
    place = {name: column for column, name in enumerate(codec.distributions)}
    x = np.zeros(3)
    x[place["kind"]], x[place["depth"]], x[place["width_1"]] = 0, 2, 4
    assert codec.active(x).sum() == 1  # the kind alone
    assert codec.canonical(x)[place["depth"]] == codec.canonical(x)[place["width_1"]] == 0


@pytest.mark.parametrize(
    ("seen", "expected"),
    [((1, 3), (False, False, True)), ((1, 2), (False, True, True)), ((2, 3), (False, False, True))],
)
def test_a_number_that_was_not_seen_is_like_the_nearest_one(seen, expected):
    few, many = seen
    codec = inferred(trial(depth=few), trial(depth=many, width_1=8))
    assert codec.conditions["width_1"] == Condition("depth", expected)


def test_with_a_category_that_was_not_seen_everything_is_tried():
    codec = inferred(trial(kind="a"), trial(kind="b", width_1=8))
    assert codec.conditions["width_1"] == Condition("kind", (False, True, True))


def test_of_two_explanations_the_one_with_fewer_values_counts():
    of = {"switch": CategoricalDistribution([True, False]), "many": IntDistribution(0, 20)}
    trials = [
        trial(distributions=of, switch=on, many=many, **({"width_1": 8} if on else {}))
        for many, on in enumerate([True, True, False, False, False])
    ]
    assert inferred(*trials).conditions["width_1"].parent == "switch"


def test_an_explanation_that_winds_counts_less():
    of = {"odd": IntDistribution(0, 3), "kind": CategoricalDistribution(list("abcdefgh"))}
    trials = [
        trial(distributions=of, odd=odd, kind=kind, **({"width_1": 8} if odd % 2 else {}))
        for odd, kind in zip([0, 1, 2, 3, 0, 1], "abcdef", strict=True)
    ]
    assert inferred(*trials).conditions["width_1"].parent == "kind"


@pytest.mark.parametrize(
    "trials",
    [
        [trial(depth=1), trial(depth=1, width_1=8)],  # sometimes so, sometimes so
        [trial(rate=0.1), trial(rate=0.9, width_1=8)],  # by a real number
        [
            trial(depth=1, width_1=8),
            trial(depth=2, width_1=4, distributions={"width_1": IntDistribution(4, 8)}),
        ],
        [trial(depth=1, width_1=8, distributions={"width_1": IntDistribution(8, 8)}), trial(depth=2)],
    ],
    ids=["chance", "real", "changing", "one value"],
)
def test_what_no_condition_explains_is_left_to_independent_sampling(trials):
    codec = inferred(*trials)
    assert "width_1" not in codec.distributions
    assert not codec.conditions


def test_only_complete_trials_say_what_is_suggested():
    found = inferred(deep(1), deep(3), trial(state=TrialState.FAIL, depth=3), trial(state=TrialState.PRUNED))
    assert found == inferred(deep(1), deep(3))


def test_few_trials_show_no_conditions():
    trials = [deep(1 + number % 3) for number in range(12)]
    assert not Inference().codec(trials[:11]).conditions
    assert list(Inference().codec(trials[:11]).distributions) == ["depth", "width_0"]
    assert Inference().codec(trials) == inferred(deep(1), deep(3), deep(2))


def test_a_memory_of_another_study_is_forgotten():
    memory, first = Inference(), [deep(1 + number % 3) for number in range(12)]
    second = [trial(kind="ab"[number % 2], **{"rate": 0.5} if number % 2 else {}) for number in range(12)]
    memory.codec(first)
    assert memory.codec(second) == Inference().codec(second)
    copies = [copy.deepcopy(done) for done in [*second, trial(kind="c")]]  # as a storage may give them
    assert memory.codec(copies) == Inference().codec(copies)


@st.composite
def objectives(draw):
    """Names of parameters with their number of values, and of each the parent and the values that show it."""
    parameters = {"root": (3, None, ())}
    for place in range(draw(st.integers(1, 6))):
        parent = draw(st.sampled_from(sorted(parameters)))
        top = parameters[parent][0]
        shown = draw(st.sets(st.integers(0, top - 1), min_size=1, max_size=top))
        parameters[f"p{place}"] = (draw(st.integers(2, 4)), parent, tuple(sorted(shown)))
    return parameters


def suggested(parameters, study):
    """A trial of the objective, all values random."""
    asked, values = study.ask(), {}
    for name, (count, parent, shown) in parameters.items():
        if parent is None or values.get(parent) in shown:
            values[name] = asked.suggest_categorical(name, list(range(count)))
    study.tell(asked, float(sum(values.values())))


@settings(max_examples=40, deadline=None)
@given(parameters=objectives(), seed=st.integers(0, 99), count=st.integers(1, 40))
def test_each_trial_has_exactly_the_parameters_that_its_genotype_uses(parameters, seed, count):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    memory = Inference()
    for _ in range(count):
        suggested(parameters, study)
        codec = memory.codec(study.get_trials(deepcopy=False))
    assert codec == Inference().codec(study.trials)  # read one by one, or all at once
    for done in study.trials:
        x = codec.read(done.params, {}, (0,))
        assert x is not None
        used = {name for name, on in zip(codec.distributions, codec.active(x), strict=True) if on}
        assert used == done.params.keys() & codec.distributions.keys()
        assert codec.parameters(x).items() >= {name: done.params[name] for name in used}.items()
    found = set.intersection if count < 12 else set.union
    assert codec.distributions.keys() == found(*(set(done.params) for done in study.trials))


def test_two_designs_are_equal_if_they_differ_in_what_they_do_not_use():
    codec = inferred(deep(1), deep(3), deep(2))
    X = np.array([[0, 1, 2, 3], [0, 1, 5, 6], [1, 1, 2, 3], [1, 1, 5, 3]])
    first, second, third, fourth = keys(codec, X)
    assert first == second
    assert len({first, third, fourth}) == 3


def test_a_trial_that_lacks_what_it_should_have_says_nothing():
    codec = inferred(deep(1), deep(3), deep(2))
    assert codec.read({"depth": 3, "width_0": 8}, {}, (0,)) is None
    assert codec.read({"depth": 1, "width_0": 9}, {}, (0,)) is not None  # Optuna rounds to the grid
    found = codec.read({"depth": 1, "width_0": 8}, {}, (3, 4, 1))
    again = codec.read({"depth": 1, "width_0": 8}, {}, (3, 4, 1))
    assert np.array_equal(found, again)


def test_other_parameters_than_the_inferred_ones():
    codec = inferred(deep(1), deep(3), deep(2))
    part = {name: codec.distributions[name] for name in ("depth", "width_2")}
    assert dict(codec.of(part).conditions) == {"width_2": codec.conditions["width_2"]}
    assert not codec.of({"width_2": WIDTH}).conditions  # without its parent
    assert codec.of(dict(codec.distributions)) is codec


def test_what_only_some_designs_have_is_thought_to_matter_less():
    codec = inferred(deep(1, kind="a"), deep(3, kind="b"), deep(2, kind="c"))
    X = sample(codec, 20, np.random.default_rng(0))
    columns = features(codec, X).shape[1]  # depth, one for each kind, three widths
    (priors,) = Encoder.of(codec, None, X).priors(columns, logarithm=False)
    medians = np.exp(priors[3:, 0])
    assert medians.tolist() == pytest.approx([3, 3, 3, 3, 3, 10, 10])
    (priors,) = Encoder.of(codec, None, X[codec.active(X).all(axis=1)]).priors(columns, logarithm=False)
    assert priors.tolist() == weak_priors(columns).tolist()  # in these trials all of them are there


def test_surrogates_of_other_conditions_are_forgotten():
    conditional = inferred(deep(1), deep(3), deep(2))
    plain = ParameterCodec(conditional.distributions)
    X = sample(conditional, 20, np.random.default_rng(0))
    history = History(
        X=X,
        values=X.sum(axis=1)[:, None],
        directions=("minimize",),
        violation=np.zeros(20),
        pending=X[:0],
        discarded=X[:0],
    )

    def predicted(genome, fits):
        return study_model(history, genome=genome, fits=fits).predict(X)

    fits = {}
    predicted(plain, fits)
    assert np.array_equal(predicted(conditional, fits), predicted(conditional, {}))
    assert not np.array_equal(predicted(conditional, fits), predicted(plain, {}))


# ------------------------------------------------------------------ searches


def define_by_run(trial):
    """A network of one to four blocks: the third block's width and the kind of head decide the most."""
    depth = trial.suggest_int("depth", 1, 4)
    widths = [trial.suggest_int(f"width_{block}", 1, 8) for block in range(depth)]
    loss = 4.0 - depth + sum(abs(width - 6) for width in widths) / 4
    if trial.suggest_categorical("head", ["pool", "attention"]) == "attention":
        loss += abs(trial.suggest_int("heads", 1, 8) - 5) / 4 - 1
    return loss


@every_sampler
def test_conditional_parameters_are_optimised_and_no_design_comes_twice(make):
    losses, chosen = {}, []
    for name, sampler in (("ours", make), ("random", lambda seed: optuna.samplers.RandomSampler(seed=seed))):
        losses[name] = []
        for seed in range(3):
            study = create(sampler(seed=seed), ["minimize"])
            study.optimize(define_by_run, n_trials=80)
            losses[name].append(study.best_value)
            if name == "ours":
                designs = [tuple(sorted(t.params.items())) for t in study.trials]
                assert len(set(designs)) == len(designs)
                chosen += [abs(t.params["width_2"] - 6) for t in study.trials[40:] if "width_2" in t.params]
    assert np.mean(losses["ours"]) < np.mean(losses["random"]) - 0.5
    assert np.mean(chosen) < 1.5  # 2.5 where it is sampled by itself, all values equally often


@every_sampler
def test_a_new_sampler_goes_on_with_the_same_suggestion(make):
    study = create(make(seed=4), ["minimize"])
    study.optimize(define_by_run, n_trials=25)
    suggestions = []
    for sampler in (study.sampler, pickle.loads(pickle.dumps(study.sampler)), make(seed=4)):
        again = optuna.create_study(sampler=sampler)
        again.add_trials(study.trials)
        asked = again.ask()
        define_by_run(asked)
        suggestions.append(asked.params)
    assert suggestions[0] == suggestions[1] == suggestions[2]


def test_threads_and_failures_and_enqueued_trials():
    def objective(trial):
        value = define_by_run(trial)
        if trial.number % 5 == 0:
            raise RuntimeError("out of memory")
        return value

    study = create(SurrogateSampler(seed=0), ["minimize"])
    study.enqueue_trial({"depth": 4, "width_3": 6})
    study.enqueue_trial({"depth": 99})
    study.optimize(objective, n_trials=40, n_jobs=4, catch=(RuntimeError,))
    assert len(study.trials) == 40
    assert sum(t.state == TrialState.COMPLETE for t in study.trials) >= 30
    assert study.trials[0].params["width_3"] == 6


def test_a_codec_without_conditions_is_as_before():
    codec = ParameterCodec({"depth": DEPTH, "width_0": WIDTH})
    assert codec.active(np.zeros((2, 2))).all()
    assert codec.read({"depth": 1}, {}, (0,)) is None
    assert dataclasses.replace(codec, conditions={}) == codec
