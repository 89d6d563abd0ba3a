"""Every broken space file ends in one SpaceError that names file, key and value."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spaces import FIXED, PAPER, SPACES, TINY

from aspk.errors import SpaceError
from aspk.space import SearchSpace
from aspk.space.file import load_space, space_from_dict
from aspk.space.genes import GENES
from aspk.util.shipped import shipped_files


def broken(path: str, value: object) -> dict[str, Any]:
    """The fixed space with one entry replaced, or removed where value is None."""
    data = copy.deepcopy(FIXED.to_json())
    *tables, key = path.split(".")
    place: dict[str, Any] = data
    for table in tables:
        place = place[table]
    if value is None:
        del place[key]
    else:
        place[key] = value
    return data


def read(make: Callable[[], SearchSpace]) -> str:
    """The message of the SpaceError, "" for a good space; any other error fails the test."""
    try:
        space = make()
    except SpaceError as error:
        return str(error)
    for member in (space.reference, space.largest, space.smallest):
        assert space.decode(space.encode(member)) == member
    return ""


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("network.colour", [1], r"network.colour = \[1\]: unknown key; expected embed_dim, "),
        ("block.depth", [1], r"block.depth = \[1\]: unknown key; expected "),
        ("reference.stem_tau", 2, r"reference.stem_tau = 2: unknown key; expected embed_dim, "),
        ("settings.beta", 2, r"settings.beta = 2: unknown key"),
        (
            "extra",
            {},
            r"extra = {}: unknown key; expected name, settings, network, block, reference, networks",
        ),
        ("network", [1], r"network = \[1\]: expected a table"),
        ("name", 5, r"name = 5: expected a string"),
        (
            "network.depth",
            [],
            r"network.depth = \[\]: expected a list of whole numbers above 0 and at most 1000, at least one",
        ),
        ("network.depth", 2, r"network.depth = 2: expected a list of whole numbers"),
        (
            "network.depth",
            [0, 1],
            r"network.depth\[0\] = 0: expected a whole number above 0 and at most 1000",
        ),
        ("network.depth", [1, 1001], r"network.depth.*at most 1000"),
        ("network.depth", [1, 10**400], r"network.depth.*at most 1000"),
        ("network.depth", [1.0, 2.0], r"network.depth\[0\] = 1.0: expected a whole number"),
        ("network.depth", [True], r"network.depth\[0\] = True: expected a whole number"),
        ("network.depth", ["2"], r"network.depth\[0\] = '2': expected a whole number"),
        ("network.time_steps", [1, 1, 2], r"network.time_steps = \[1, 1, 2\]: a choice is listed twice"),
        ("network.time_steps", [4, 2], r"network.time_steps = \[4, 2\]: choices must be in ascending order"),
        ("network.embed_dim", [-8, 8], r"network.embed_dim\[0\] = -8: expected a whole number above 0"),
        ("network.embed_dim", [24, 36, 64], r"embed_dim=36: must be a multiple of 8"),
        ("block.num_heads", [2, 4, 5], r"num_heads=5 does not divide embed_dim=24"),
        ("block.mlp_ratio", [1.3, 2], r"mlp_ratio=1.3 times embed_dim=24 is not a whole width"),
        ("block.tau", [1, 2], r"block.tau\[0\] = 1: expected a number above 1 and at most 1000000"),
        ("block.tau", [2, math.nan], r"block.tau\[1\] = nan"),
        ("block.tau", [2, math.inf], r"block.tau\[1\] = inf"),
        ("block.tau", [2, 2.000001], r"block.tau.*differ"),
        ("block.v_threshold", [0.0, 1.0], r"block.v_threshold\[0\] = 0.0: expected a number above 0"),
        ("block.v_threshold", [[1.0]], r"block.v_threshold\[0\] = \[1.0\]: expected a number"),
        ("block.tau", None, r"gene tau is missing from \[network\] or \[block\]"),
        ("network.depth", None, r"gene depth is missing from \[network\]"),
        ("network.tau", [2.0], r"tau is given in both"),
        ("reference.tau", None, r"reference.tau is missing"),
        ("reference.tau", 3, r"reference.tau = 3: not one of its choices \[1.25, 2.0, 4.0\]"),
        ("reference.tau", "2", r"reference.tau = '2': expected a number above 1"),
        ("reference.tau", [2], r"reference.tau = \[2\]"),
        ("settings.heads", "many", r'settings.heads = .many.: expected "fixed_head_dim" or "partition"'),
        ("settings.heads", ["partition"], r"settings.heads"),
        ("settings.heads", "fixed_head_dim", r"settings.head_dim = None"),
        ("settings.head_dim", 8, r"settings.head_dim = 8"),
        ("settings.head_dim", True, r"settings.head_dim = True: expected a whole number"),
        ("settings.patch_size", 3, r"settings.patch_size = 3: expected 1, 2, 4, 8 or 16"),
        ("settings.patch_size", 4.0, r"settings.patch_size = 4.0"),
        ("settings.reset", "firm", r"settings.reset = 'firm'"),
        ("settings.decay_input", 1, r"settings.decay_input = 1: expected true or false"),
        ("settings.attention_scale", True, r"settings.attention_scale = True: expected a number above 0"),
        ("settings.attention_scale", 10**400, r"settings.attention_scale"),
        ("settings.attention_v_threshold", 0, r"settings.attention_v_threshold = 0"),
        ("settings.stem_tau", 1.0, r"settings.stem_tau = 1.0: expected a number above 1"),
        ("settings.stem_tau", math.nan, r"settings.stem_tau = nan"),
    ],
)
def test_bad_entries_are_named(path: str, value: object, expected: str) -> None:
    with pytest.raises(SpaceError, match=f"^my.toml: .*{expected}"):
        space_from_dict(broken(path, value), where="my.toml")


def test_the_unbroken_twin_is_accepted() -> None:
    assert space_from_dict(broken("name", "fixed")) == FIXED


@pytest.mark.parametrize(
    "text",
    [b"= 3", b"\xff\xfe", b"x = " + b"9" * 5000, b"a = " + b"[" * 3000, b"[network]\nembed_dim = 1e", b"\0"],
)
def test_not_toml(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "space.toml"
    path.write_bytes(text)
    with pytest.raises(SpaceError, match=r"space\.toml"):
        load_space(path)


def test_an_empty_file_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("")
    with pytest.raises(SpaceError, match=r"empty\.toml: gene embed_dim is missing"):
        load_space(path)


@pytest.mark.parametrize("source", ["nowhere", "", ".", "a/b.toml", "\0", "x" * 5000])
def test_a_missing_file_lists_the_shipped_ones(source: str) -> None:
    with pytest.raises(SpaceError, match=r"auto_spikformer, .*tiny"):
        load_space(source)


def test_shipped_spaces_load_by_name_and_by_path() -> None:
    shipped = shipped_files("search_spaces")
    assert {"auto_spikformer", "tiny"} <= set(shipped)
    assert load_space("tiny") == load_space(shipped["tiny"]) == load_space("tiny.toml") == TINY
    assert shipped_files("no_such_folder") == {}


def test_the_file_name_is_the_default_name(tmp_path: Path) -> None:
    text = shipped_files("search_spaces")["tiny"].read_text().replace('name = "tiny"', "")
    path = tmp_path / "mine.toml"
    path.write_text(text)
    space = load_space(path)
    assert space.name == "mine"
    assert space.fingerprint == TINY.fingerprint


@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name or "small")
def test_json_round_trip(space: SearchSpace) -> None:
    again = space_from_dict(space.to_json())
    assert again == space
    assert again.fingerprint == space.fingerprint


def test_fingerprint_is_of_the_content() -> None:
    assert len({space.fingerprint for space in SPACES}) == len(SPACES)
    data = FIXED.to_json()
    reordered = {**data, "block": dict(reversed(data["block"].items()))}
    assert space_from_dict(reordered).fingerprint == FIXED.fingerprint
    integer = {**data, "settings": data["settings"] | {"stem_tau": 2, "attention_scale": 0.125}}
    assert space_from_dict(integer).fingerprint == FIXED.fingerprint
    other = {**data, "settings": data["settings"] | {"stem_tau": 3}}
    assert space_from_dict(other).fingerprint != FIXED.fingerprint


@given(st.binary(max_size=200))
def test_random_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("random") / "space.toml"
    path.write_bytes(content)
    with pytest.raises(SpaceError):  # no 200 random bytes are a complete space
        load_space(path)


@given(st.data())
def test_a_damaged_file_gives_a_space_or_a_space_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = shipped_files("search_spaces")["tiny"].read_bytes()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    path = tmp_path_factory.mktemp("damaged") / "space.toml"
    path.write_bytes(text[:start] + data.draw(st.binary(max_size=6)) + text[end:])
    outcome = read(lambda: load_space(path))
    assert outcome == "" or str(path) in outcome


_LEAVES = st.one_of(
    st.booleans(),
    st.integers(-(10**400), 10**400),
    st.integers(-1, 48),
    st.floats(),
    st.text(max_size=4),
    st.dates(),
)
_KEYS = st.sampled_from(
    [
        *GENES,
        "name",
        "settings",
        "network",
        "block",
        "reference",
        "heads",
        "head_dim",
        "patch_size",
        "reset",
        "?",
    ]
)
_TREES = st.recursive(
    _LEAVES, lambda leaf: st.lists(leaf, max_size=4) | st.dictionaries(_KEYS, leaf, max_size=4), max_leaves=12
)


@given(st.dictionaries(_KEYS, _TREES, max_size=5))
def test_random_dictionaries(data: dict[str, Any]) -> None:
    with pytest.raises(SpaceError):  # seven required genes with choices never appear by chance
        space_from_dict(data)


@given(st.sampled_from(["settings", "network", "block", "reference"]), st.data())
def test_one_random_entry(table: str, data: st.DataObject) -> None:
    content = copy.deepcopy(TINY.to_json())
    content[table][data.draw(_KEYS | st.sampled_from(sorted(content[table])))] = data.draw(_TREES)
    outcome = read(lambda: space_from_dict(content, where="here"))
    assert outcome == "" or outcome.startswith("here: ")


def test_depth_a_thousand_is_still_a_space() -> None:
    data = PAPER.to_json()
    data["network"]["depth"] = [4, 1000]
    assert space_from_dict(data).max_depth == 1000
