"""Genotypes, networks, parameters and JSON: all views of the same thing."""

from __future__ import annotations

import itertools
import json
import math
import warnings
from collections import Counter
from dataclasses import replace

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spaces import FIXED, NEURONS, PAPER, POOLED_ONE_WAY, SMALL, SPACES, STEMS, SWITCHES

from aspk.errors import GenotypeError, SpaceError
from aspk.space import Gene, SearchSpace
from aspk.space.file import space_from_dict
from aspk.space.genes import BlockConfig, SubnetConfig


@st.composite
def genotypes(draw: st.DrawFn) -> tuple[SearchSpace, np.ndarray]:
    space = draw(st.sampled_from(SPACES))
    return space, np.array([draw(st.integers(0, len(gene.choices) - 1)) for gene in space.genes])


def described(space: SearchSpace, x: np.ndarray) -> SubnetConfig:
    """A slow twin of decode: genes looked up by their printed names only."""
    value = {gene.parameter: gene.choices[i] for gene, i in zip(space.genes, x, strict=True)}

    def of(block: int, name: str, default: float | str | None = None) -> float | str:
        return value.get(f"blocks.{block}.{name}", value.get(name, default))

    def heads(block: int) -> float | str:
        """Spike-driven attention has none, unless they make its width."""
        meaningless = without_attention if space.settings.head_dim else without_attention | {"sdsa"}
        if of(block, "mixer", "ssa") in meaningless:
            return own(block).num_heads
        return of(block, "num_heads")

    def own(block: int) -> BlockConfig:
        return reference.blocks[min(block, len(reference.blocks) - 1)]

    without_attention = {"none", "dwc3", "dwc5", "dwc7"}
    reference, stem_neuron = space.reference, value.get("stem_neuron", "lif")
    convs, poolings = value.get("stem_convs", 4), int(math.log2(space.settings.patch_size))
    return SubnetConfig(
        stem_convs=convs,
        stem_fraction=value.get("stem_fraction", 0.125),
        stem_pooling=value.get("stem_pooling", "late") if 0 < poolings < convs else reference.stem_pooling,
        embedding=value.get("embedding", "max"),
        embed_dim=value["embed_dim"],
        time_steps=value["time_steps"],
        stem_neuron=stem_neuron,
        stem_v_threshold=value.get("stem_v_threshold", space.settings.stem_v_threshold),
        stem_tau=reference.stem_tau
        if stem_neuron == "plif"
        else value.get("stem_tau", space.settings.stem_tau),
        blocks=tuple(
            BlockConfig(
                mlp_ratio=of(block, "mlp_ratio"),
                num_heads=heads(block),
                mixer=of(block, "mixer", "ssa"),
                v_threshold=of(block, "v_threshold"),
                stage_blocks=of(block, "stage_blocks", 1),
                tau=own(block).tau if of(block, "neuron", "lif") == "plif" else of(block, "tau"),
                neuron=of(block, "neuron", "lif"),
                attention_v_threshold=own(block).attention_v_threshold
                if of(block, "mixer", "ssa") in without_attention
                else of(block, "attention_v_threshold", 0.5),
            )
            for block in range(value["depth"])
        ),
    )


# ---------------------------------------------------------------------- encode, decode, parameters, JSON


@given(genotypes())
def test_round_trips(case: tuple[SearchSpace, np.ndarray]) -> None:
    space, x = case
    network = space.decode(x)
    assert network == described(space, x)
    canonical = space.canonical(x)
    assert space.encode(network).tolist() == canonical.tolist()
    assert space.canonical(canonical).tolist() == canonical.tolist()
    assert space.key(x) == tuple(canonical.tolist())
    parameters = json.loads(json.dumps(space.parameters(x)))
    assert space.from_parameters(parameters).tolist() == canonical.tolist()
    assert SubnetConfig.from_json(json.loads(json.dumps(network.to_json()))) == network


@given(genotypes(), st.data())
def test_canonical_is_equal_exactly_for_equal_networks(
    case: tuple[SearchSpace, np.ndarray], data: st.DataObject
) -> None:
    space, x = case
    other = x.copy()
    for column in data.draw(st.lists(st.integers(0, len(x) - 1), max_size=3)):
        other[column] = data.draw(st.integers(0, len(space.genes[column].choices) - 1))
    same = space.decode(x) == space.decode(other)
    assert same == (space.key(x) == space.key(other))


def test_parameters_show_only_active_genes_with_readable_values() -> None:
    x = FIXED.from_parameters({**FIXED.parameters(FIXED.encode(FIXED.smallest))})
    names = set(FIXED.parameters(x))
    assert "blocks.0.tau" in names
    assert not any(name.startswith("blocks.1.") for name in names)
    assert FIXED.parameters(FIXED.encode(FIXED.reference))["embed_dim"] == 64


@given(genotypes(), st.floats(-9e-7, 9e-7))
def test_parameters_tolerate_the_rounding_of_steps(
    case: tuple[SearchSpace, np.ndarray], drift: float
) -> None:
    space, x = case
    blurred = {
        name: value if isinstance(value, str) else value * (1 + drift)
        for name, value in space.parameters(x).items()
    }
    assert space.from_parameters(blurred).tolist() == space.canonical(x).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embed_dim": 25}, r"embed_dim=25 is not one of \[24, 32, 48, 64\]"),
        ({"blocks.1.tau": True}, "blocks.1.tau=True is not one of"),
        ({"blocks.1.tau": "2"}, "blocks.1.tau='2' is not one of"),
        ({"depth": math.nan}, "depth=nan is not one of"),
        ({"depth": 10**400}, "is not one of"),
        ({"blocks.2.tau": 2}, "has no parameter 'blocks.2.tau'"),
        ({"depth": None}, "'depth' is missing"),
        ({"blocks.1.tau": None}, "'blocks.1.tau' is missing"),
    ],
)
def test_wrong_parameters_are_named(change: dict[str, object], message: str) -> None:
    parameters: dict[str, object] = dict(FIXED.parameters(FIXED.encode(FIXED.reference))) | change
    given_ones = {name: value for name, value in parameters.items() if value is not None}
    with pytest.raises(GenotypeError, match=message):
        FIXED.from_parameters(given_ones)


@pytest.mark.parametrize(
    "x",
    [
        [0],
        None,
        ["a"] * 11,
        [True] * 11,
        [[0] * 11],
        [[1], [1, 2]],
        *([wrong] + [0] * 10 for wrong in (0.5, -1, 4, math.nan, 1e300, 10**30)),
    ],
)
def test_what_is_no_genotype_is_refused(x: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(GenotypeError):
            FIXED.decode(x)  # type: ignore[arg-type]


def test_a_stranger_network_is_refused() -> None:
    stranger = SubnetConfig(embed_dim=64, time_steps=4, blocks=FIXED.reference.blocks, stem_tau=3.0)
    with pytest.raises(GenotypeError, match="not in space 'fixed'"):
        FIXED.encode(stranger)
    mixed = (*SWITCHES.reference.blocks[:2], BlockConfig(mlp_ratio=2, num_heads=5, v_threshold=1, tau=3))
    with pytest.raises(GenotypeError, match="not in space 'switches'"):
        SWITCHES.encode(SubnetConfig(embed_dim=24, time_steps=2, blocks=mixed))
    with pytest.raises(GenotypeError, match="depth=0"):
        FIXED.encode(SubnetConfig(embed_dim=64, time_steps=4, blocks=()))


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"blocks": 3},
        {"blocks": [3]},
        {"blocks": [], "embed_dim": 8},
        {"blocks": [], "embed_dim": True, "time_steps": 1},
        {"blocks": [], "embed_dim": 8, "time_steps": 1, "colour": 2},
        {"blocks": [{"tau": 0.5}], "embed_dim": 8, "time_steps": 1},
        {"blocks": [{"tau": 2}], "embed_dim": 8, "time_steps": 1},
        {"blocks": [], "embed_dim": 8, "time_steps": math.inf},
        {"blocks": [], "embed_dim": 10**400, "time_steps": 1},
    ],
)
def test_damaged_network_json_is_refused(data: object) -> None:
    with pytest.raises(GenotypeError):
        SubnetConfig.from_json(data)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- size, members


def test_size_of_the_papers_space() -> None:
    blocks = 3 * 2 * 8 * 3
    assert PAPER.size == 4 * 5 * (blocks**2 + blocks**3 + blocks**4) == 8_659_768_320


def _narrowed_switches() -> SearchSpace:
    """SWITCHES with fewer choices, so that all its genotypes can be listed."""
    data = SWITCHES.to_json()
    data["network"] |= {"stem_tau": [2], "tau": [2, 3], "embed_dim": [24]}
    data["block"] |= {"mlp_ratio": [2], "attention_v_threshold": [0.5]}
    return space_from_dict(data)


@pytest.mark.parametrize(
    "space",
    [SMALL, _narrowed_switches(), *NEURONS, *STEMS, *POOLED_ONE_WAY],
    ids=lambda space: space.name or "small",
)
def test_enumeration_agrees_with_size(space: SearchSpace) -> None:
    listed = [tuple(x.tolist()) for x in space.networks()]
    assert len(listed) == len(set(listed)) == space.size
    everything = list(itertools.product(*(range(n) for n in space.cardinalities)))
    assert len(everything) > space.size
    assert len({space.decode(x) for x in everything}) == space.size
    assert {space.key(x) for x in everything} == set(listed)


def test_named_members() -> None:
    reference = PAPER.reference
    assert (reference.embed_dim, reference.depth, reference.time_steps) == (384, 4, 4)
    assert {(b.mlp_ratio, b.num_heads, b.v_threshold, b.tau) for b in reference.blocks} == {(4, 12, 1.0, 2)}
    assert (PAPER.largest.time_steps, PAPER.smallest.time_steps) == (6, 2)
    assert PAPER.smallest.depth == 2
    for space in SPACES:
        for member in (space.reference, space.largest, space.smallest):
            assert space.decode(space.encode(member)) == member
            assert {block.tau for block in member.blocks} == {space.reference.blocks[0].tau}
        assert space.largest.embed_dim == max(space.network["embed_dim"])
        assert space.smallest.embed_dim == min(space.network["embed_dim"])


def test_active_works_on_any_batch_shape() -> None:
    X = np.zeros((2, 3, len(FIXED.genes)), dtype=int)
    X[1, :, 1] = 1  # depth 2
    mask = FIXED.active(X)
    assert mask.shape == X.shape
    assert mask[1].all()
    assert (mask[0].sum(axis=-1) == 3 + 4).all()


# ---------------------------------------------------------------------- switches of the space


def test_a_block_gene_of_the_network_holds_for_all_blocks() -> None:
    assert [gene.parameter for gene in SWITCHES.genes if gene.name == "tau"] == ["tau"]
    x = SWITCHES.encode(SWITCHES.reference)
    taus = {}
    for index in range(3):
        x[[gene.name for gene in SWITCHES.genes].index("tau")] = index
        taus[index] = [block.tau for block in SWITCHES.decode(x).blocks]
    assert taus == {0: [2.0] * 3, 1: [3.0] * 3, 2: [4.5] * 3}


def test_optional_genes_reach_the_network() -> None:
    parameters = SWITCHES.parameters(SWITCHES.encode(SWITCHES.reference))
    parameters |= {"stem_v_threshold": 0.5, "stem_tau": 8, "blocks.1.attention_v_threshold": 0.75}
    network = SWITCHES.decode(SWITCHES.from_parameters(parameters))
    assert (network.stem_v_threshold, network.stem_tau) == (0.5, 8.0)
    assert [block.attention_v_threshold for block in network.blocks] == [0.5, 0.75, 0.5]
    assert FIXED.reference.stem_tau == FIXED.settings.stem_tau


def test_heads_of_fixed_width_are_a_cost_gene() -> None:
    network = SWITCHES.reference
    assert SWITCHES.settings.attention_width(network, network.blocks[0]) == 5 * 8
    assert FIXED.settings.attention_width(FIXED.reference, FIXED.reference.blocks[0]) == 64


# ---------------------------------------------------------------------- sampling


def chi_square(observed: np.ndarray, expected: np.ndarray) -> float:
    return float(((observed - expected) ** 2 / expected).sum())


def test_sampled_choices_are_uniform_in_every_gene() -> None:
    X = PAPER.sample_choices(6000, np.random.default_rng(1))
    for column, gene in enumerate(PAPER.genes):
        observed = np.bincount(X[:, column], minlength=len(gene.choices))
        degrees = len(gene.choices) - 1
        # mean + 5 standard deviations of chi-square: false alarm well below 1e-3
        assert chi_square(observed, np.full(degrees + 1, 6000 / (degrees + 1))) < degrees + 5 * math.sqrt(
            2 * degrees
        )


def test_sampled_networks_are_uniform_over_networks() -> None:
    count = 8000
    X = SMALL.sample_networks(count, np.random.default_rng(2))
    seen = Counter(SMALL.key(x) for x in X)
    assert SMALL.size == 2 * (4 + 16) == len(seen)
    degrees = SMALL.size - 1
    observed = np.array(list(seen.values()))
    assert chi_square(observed, np.full(SMALL.size, count / SMALL.size)) < degrees + 5 * math.sqrt(
        2 * degrees
    )


@pytest.mark.parametrize("space", NEURONS, ids=lambda space: space.name)
def test_a_network_that_many_genotypes_describe_is_sampled_no_more_often(space: SearchSpace) -> None:
    count = 20 * space.size
    observed = Counter(space.key(x) for x in space.sample_networks(count, np.random.default_rng(2)))
    listed = np.array([observed[space.key(x)] for x in space.networks()])
    degrees = space.size - 1
    assert chi_square(listed, np.full(space.size, 20.0)) < degrees + 5 * math.sqrt(2 * degrees)


def test_a_learnt_time_constant_is_no_gene() -> None:
    """With PLIF tau is what training starts from: the reference's, whatever the genotype says."""
    space = NEURONS[0]
    x = space.encode(replace(space.reference, stem_neuron="lif"))
    parameters = space.parameters(x)
    assert parameters["blocks.1.tau"] == 2
    learnt = {name: value for name, value in parameters.items() if name != "blocks.1.tau"}
    network = space.decode(space.from_parameters(learnt | {"blocks.1.neuron": "plif"}))
    assert [block.neuron for block in network.blocks] == ["lif", "plif", "lif"]
    assert network.blocks[1].tau == space.reference.blocks[0].tau
    assert "blocks.1.tau" not in space.parameters(space.encode(network))
    with pytest.raises(GenotypeError, match=r"blocks.1.neuron='alif' is not one of \['plif', 'lif'\]"):
        space.from_parameters(parameters | {"blocks.1.neuron": "alif"})


def test_files_of_networks_without_the_gene_do_not_mention_it() -> None:
    """Trials, checkpoints and exports that were written before there was the gene stay what they are."""
    assert "neuron" not in json.dumps([PAPER.to_json(), PAPER.reference.to_json()])
    written = NEURONS[0].reference.to_json()
    assert written["stem_neuron"] == "plif"
    assert SubnetConfig.from_json(written) == NEURONS[0].reference


def test_the_two_samplings_differ_in_depth() -> None:
    by_choice = SMALL.sample_choices(4000, np.random.default_rng(3))
    by_network = SMALL.sample_networks(4000, np.random.default_rng(3))
    column = [gene.name for gene in SMALL.genes].index("depth")
    assert abs(by_choice[:, column].mean() - 1 / 2) < 0.03  # 4 standard errors
    assert abs(by_network[:, column].mean() - 16 / 20) < 0.03
    inactive = by_network[by_network[:, column] == 0][:, -2:]
    assert inactive.any()  # inactive genes are drawn, not zeroed


def test_sampling_depends_on_the_generator_alone() -> None:
    first, second = (FIXED.sample_networks(9, np.random.default_rng(4)) for _ in range(2))
    assert first.tolist() == second.tolist()


def test_sampling_a_space_larger_than_a_float_can_count() -> None:
    data = PAPER.to_json()
    data["network"]["depth"] = [1, 4, 300]
    space = space_from_dict(data)
    assert space.size > 10**308
    X = space.sample_networks(5, np.random.default_rng(0))
    assert (X[:, 1] == 2).all()


# ---------------------------------------------------------------------- Optuna


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name or "small")
def test_suggest_agrees_with_what_the_trial_shows(space: SearchSpace) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    depths = set()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Optuna warns where a range does not fit its step
        for _ in range(30):
            trial = study.ask()
            network = space.suggest(trial)
            assert set(trial.params) == set(space.parameters(space.encode(network)))
            assert space.decode(space.from_parameters(trial.params)) == network
            depths.add(network.depth)
    assert len(depths) > 1 or len(space.network["depth"]) == 1


def test_suggest_of_a_fixed_trial() -> None:
    for network in (PAPER.reference, PAPER.smallest, PAPER.largest):
        fixed = optuna.trial.FixedTrial(PAPER.parameters(PAPER.encode(network)))
        assert PAPER.suggest(fixed) == network


def test_evenly_spaced_choices_become_ranges_and_others_categories() -> None:
    study = optuna.create_study()
    trial = study.ask()
    PAPER.suggest(trial)
    kinds = {name: type(distribution).__name__ for name, distribution in trial.distributions.items()}
    assert kinds["depth"] == kinds["time_steps"] == "IntDistribution"
    assert kinds["blocks.0.v_threshold"] == kinds["blocks.0.mlp_ratio"] == "FloatDistribution"
    assert kinds["embed_dim"] == kinds["blocks.0.tau"] == "CategoricalDistribution"


@pytest.mark.parametrize(
    ("choices", "step"),
    [
        ((1.001, 9.352605070152501), None),  # the gap has more digits than a float: Optuna would drop the end
        ((0.6, 0.8, 1.0, 1.2), 0.2),
        ((6, 12), 6),
        ((2, 4, 7), None),
        ((3,), None),
        ((1e-9, 2e-9, 5e-9), None),
        ((0.1, 0.2, 0.3 + 1e-10), None),
    ],
)
def test_step(choices: tuple[float, ...], step: float | None) -> None:
    found = Gene("tau", choices).step
    assert found == (None if step is None else pytest.approx(step, rel=1e-12))


@given(st.lists(st.floats(1.001, 100), min_size=2, max_size=5, unique=True))
def test_every_choice_can_be_suggested(values: list[float]) -> None:
    gene = Gene("tau", tuple(sorted(values)))
    if gene.step is not None:
        distribution = optuna.distributions.FloatDistribution(
            gene.choices[0], gene.choices[-1], step=gene.step
        )
        assert distribution.high == gene.choices[-1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"patch_size": 3}, "settings.patch_size = 3: expected 1, 2, 4, 8 or 16"),
        ({"stem_tau": 1.0}, "settings.stem_tau = 1.0: expected a number above 1"),
        ({"reset": "firm"}, 'settings.reset = .firm.: expected "hard" or "soft"'),
    ],
)
def test_settings_made_in_python_are_checked_like_those_of_files(change, said):
    with pytest.raises(SpaceError, match=said):
        replace(FIXED.settings, **change)
