"""Wrong options fail when a sampler is made, with what was expected; right ones can be read back."""

from __future__ import annotations

import copy
import pickle

import pytest
from sampler_cases import TINY, create

from aspk import Composite, load_space
from aspk.errors import SamplerError, SpaceError
from aspk.samplers import EvolutionarySampler, NSGA2Sampler, RandomSampler, SurrogateSampler

KINDS = [EvolutionarySampler, NSGA2Sampler, RandomSampler, SurrogateSampler]


@pytest.mark.parametrize("kind", KINDS)
def test_constraints_belong_to_trials(kind):
    with pytest.raises(SamplerError, match=r"trial\.set_constraint\(name, value\)"):
        kind(constraints_func=lambda trial: trial.user_attrs["c"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": "a"}, "seed='a': expected a whole number"),
        ({"seed": 1.5}, "seed=1.5: expected a whole number"),
        ({"space": 3}, "space=3: expected a SearchSpace"),
        (
            {"space": TINY, "known_constraints": {"c": 3}},
            "known_constraints=.*expected a mapping",
        ),
        ({"known_constraints": {"c": len}}, "expected space= beside them"),
        ({"space": TINY, "defaults": {"x": 5}}, "a search space knows its genes"),
    ],
)
def test_what_all_samplers_refuse(kind, options, message):
    with pytest.raises(SamplerError, match=message):
        kind(**options)
    with pytest.raises(SpaceError, match="no search space 'none'"):
        kind(space="none")


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (
            NSGA2Sampler,
            {"population_size": 2.5},
            "population_size=2.5: expected a whole number",
        ),
        (EvolutionarySampler, {"top_k": True}, "top_k=True"),
        (EvolutionarySampler, {"fitness": "accuracy"}, "fitness='accuracy': expected a function of a trial"),
        (SurrogateSampler, {"n_startup_trials": "4"}, "n_startup_trials='4'"),
        (SurrogateSampler, {"pool_size": 9}, "pool_size=9: expected a whole number of at least 10"),
        (
            SurrogateSampler,
            {"model": "forest"},
            "model='forest': expected None",
        ),
        (SurrogateSampler, {"space": TINY, "known": {0: 1.0}}, "known=.*mapping to functions"),
        (SurrogateSampler, {"composites": {0: len}}, "composites=.*expected a mapping to aspk.Composite"),
    ],
)
def test_what_one_sampler_refuses(kind, options, message):
    with pytest.raises(SamplerError, match=message):
        kind(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"known": {2: len}},
        {"known": {-1: len}},
        {"composites": {2: Composite(parts={"accuracy": "maximize"}, of=abs)}},
    ],
)
def test_functions_of_objectives_that_the_study_does_not_have(options):
    sampler = SurrogateSampler(space=TINY, **options)
    with pytest.raises(SamplerError, match="number of an objective of the study, from 0 to 1"):
        sampler.ask_batch(create(sampler), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_space_by_its_name_is_the_space(kind):
    first, second = (kind(space=space, seed=0) for space in ("tiny", load_space("tiny")))
    assert first._space == second._space


def test_a_sampler_is_read_back():
    sampler = SurrogateSampler(space=TINY, seed=3, known={1: len}, pool_size=50)
    said = f"SurrogateSampler(space={TINY.name!r}, known={{1: len}}, pool_size=50, seed=3)"
    assert repr(sampler) == repr(copy.deepcopy(sampler)) == repr(pickle.loads(pickle.dumps(sampler))) == said
    assert repr(NSGA2Sampler()).startswith("NSGA2Sampler(seed=")


@pytest.mark.parametrize("kind", KINDS)
def test_a_space_that_the_objective_does_not_use_is_said(kind, caplog):
    """The search was at random, and learnt from networks that nobody had evaluated."""
    study = create(kind(space=TINY, seed=0), ["minimize"])
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=6)
    assert [record.message for record in caplog.records] == [
        f"not learnt from: 1 trials, whose parameters are no network of space {TINY.name!r}"
    ]
