"""Annotations as checks and as words: what fits, and what is said of the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from typing import Annotated, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from aspk.errors import StudyError
from aspk.util import schema
from aspk.util.schema import Key, check_fields, check_table, check_value, located, table_of
from aspk.util.wording import expectation, meanings

_Choices = Annotated[list[schema.Count], Meta(min_length=1)]


@dataclass(frozen=True)
class Oven:
    """An oven.

    It has ``Attributes`` like no other.

    Attributes:
        heat: how hot it is, see :class:`~aspk.spec.settings.Recipe`,
            in ``K``.
        racks: where things stand.
        mode: what it does.

    Raises:
        nothing: at all.
    """

    heat: schema.Positive
    racks: tuple[schema.Count, ...] = (1, 2)
    mode: Literal["fan", "grill"] | None = None


OVEN = {**table_of(Oven), "light": Key(bool, {"colour": Key(schema.Text)}, True)}


def message(values: object, at: str = "") -> str:
    """What is said of values, nothing of good ones."""
    try:
        assert check_table(OVEN, values, error=StudyError, at=at) == values
    except StudyError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (bool, "true or false"),
        (bool | Literal["auto"], 'true or false or "auto"'),
        (schema.Count, "a whole number from 1 to 2**53"),
        (schema.Count | None, "a whole number from 1 to 2**53"),
        (Annotated[int, Meta(gt=0, le=10**6)], "a whole number above 0 and at most 1000000"),
        (Annotated[int, Meta(ge=3)], "a whole number of at least 3"),
        (schema.Number, "a finite number"),
        (schema.Positive, "a finite number above 0"),
        (schema.NonNegative, "a finite number of at least 0"),
        (schema.Share, "a number from 0 to 1"),
        (Annotated[float, Meta(gt=0, lt=0.5)], "a number above 0 and below 0.5"),
        (Literal["a"], '"a"'),
        (Literal["a", "b", "c"], '"a", "b" or "c"'),
        (_Choices, "a list of whole numbers from 1 to 2**53, at least one"),
        (list[str], "a list of strings"),
        (schema.Text, "a string without null characters"),
        (Oven, "an instance of Oven"),
    ],
)
def test_annotations_in_words(kind, words):
    assert expectation(kind) == words


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"heat": 450}, ""),
        ({"heat": np.float64(450), "mode": np.str_("fan"), "light": False}, ""),
        ({"heat": 1.5, "racks": [3], "mode": "grill", "light": {"colour": "red"}}, ""),
        ({}, "heat is missing: how hot it is, see `aspk.spec.settings.Recipe`, in `K`"),
        ({"heat": "hot"}, "heat = 'hot': expected a finite number above 0"),
        ({"heat": True}, "heat = True: expected a finite number above 0"),
        ({"heat": math.inf}, "heat = inf: expected a finite number above 0"),
        ({"heat": 10**5000}, "heat = (int too long to show): expected a finite number above 0"),
        ({"heat": 1, "racks": [1, 0]}, "racks[1] = 0: expected a whole number from 1 to 2**53"),
        ({"heat": 1, "racks": 3}, "racks = 3: expected a list of whole numbers from 1 to 2**53"),
        ({"heat": 1, "mode": ["fan"]}, 'mode = [\'fan\']: expected "fan" or "grill"'),
        ({"heat": 1, "light": 3}, "light = 3: expected true or false, or a table [light]"),
        ({"heat": 1, "light": {"colour": 3}}, "light.colour = 3: expected a string without null characters"),
        (
            {"heat": 1, "light": {"color": "red"}},
            "light.color = 'red': unknown key (did you mean colour?); expected colour",
        ),
        (
            {"heat": 1, "light": {"racks": [1]}},
            "light.racks = [1]: unknown key (does racks belong above the first [table]?); expected colour",
        ),
        ({"heat": 1, "door": 2}, "door = 2: unknown key; expected heat, racks, mode, light"),
        ({"heat": 1, 2: 3}, "2 = 3: unknown key; expected heat, racks, mode, light"),
        (3, "3: expected a table of heat, racks, mode, light"),
    ],
)
def test_values_of_a_table(values, said):
    assert message(values) == said


def test_a_message_says_where_and_is_not_endless():
    assert message({"heat": 0}, at="my.toml: oven.").startswith("my.toml: oven.heat = 0: expected")
    assert (
        message(3, at="my.toml: oven.") == "my.toml: oven = 3: expected a table of heat, racks, mode, light"
    )
    assert len(message({"heat": "x" * 10**6})) < 400
    assert message({"heat": "postgresql://me:secret@host/db"}).count("secret") == 0


def test_an_instance_is_checked_and_left_as_it_is():
    oven = Oven(heat=1, racks=(3,))
    check_fields(oven, error=StudyError)
    assert type(oven.heat) is int  # a record of it is the same as ever
    with pytest.raises(StudyError, match=r"^Oven: heat = -1: expected a finite number above 0$"):
        check_fields(Oven(heat=-1), error=StudyError, at="Oven: ")


def test_an_item_of_a_mapping_is_named():
    kind = Mapping[str, list[schema.Share]]
    with pytest.raises(StudyError, match=r"^bounds\.b\[1\] = 2: expected a number from 0 to 1$"):
        check_value({"a": [0.5], "b": [1, 2]}, kind, error=StudyError, at="bounds")


def test_errors_keep_their_class_where_they_are_located():
    with pytest.raises(StudyError, match=r"^my\.toml: no such thing$"), located("my.toml: "):
        raise StudyError("no such thing")


def test_a_docstring_is_read_to_its_next_section():
    assert meanings(Oven) == {
        "heat": "how hot it is, see `aspk.spec.settings.Recipe`, in `K`.",
        "racks": "where things stand.",
        "mode": "what it does.",
    }
    assert meanings(Oven, "Args") == meanings(object()) == {}
    assert table_of(Oven)["heat"].default is MISSING


@given(
    st.dictionaries(
        st.sampled_from([*OVEN, "colour", "?"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.dates(),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
            ),
        ),
    )
)
def test_any_values_are_taken_or_refused_in_words(values):
    said = message(values)
    assert said == "" or any(word in said for word in ("expected", "missing"))
