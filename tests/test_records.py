"""Records on disk and their identities."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aspk.errors import TableError
from aspk.util.records import Identity, Record, differences, fingerprint, read_json

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
tables = st.dictionaries(st.sampled_from("abcd"), plain, max_size=4)


def record(folder, *, missing=None, **values):
    return Record(folder / "below" / "record.json", Identity(values=values, missing=missing or {}))


def read(record):
    return record.read(error=TableError, advice="take another file")


@given(tables, tables)
def test_two_values_differ_where_a_path_leads_to_the_difference(one, other):
    found = list(differences("", one, other))
    for path, _, _ in found:
        a, b = one, other
        for key in path.split("."):
            a, b = (value.get(key) if isinstance(value, dict) else None for value in (a, b))
        assert json.dumps(a) != json.dumps(b)

    def without_nothing(value):  # a key that is not there, and one that says null
        if isinstance(value, dict):
            return {key: without_nothing(item) for key, item in value.items() if item is not None}
        return value

    if not found:
        assert without_nothing(one) == without_nothing(other)


def test_long_values_are_cut():
    ((path, known, own),) = differences("space", list(range(100)), None)
    assert (path, own) == ("space", "nothing")
    assert len(known) == 120
    assert known.endswith("…")


@given(tables)
def test_a_fingerprint_is_that_of_the_sorted_json(value):
    assert fingerprint(value) == hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    assert fingerprint(dict(reversed(value.items()))) == fingerprint(value)


def test_what_was_written_is_read_by_the_same_work_only(tmp_path):
    mine = record(tmp_path, recipe={"updates": 12, "rate": 1.0}, networks=((1, 2), (3, 4)))
    assert read(mine) is None
    mine.write({"accuracy": 0.5})
    assert read(mine) == mine.read_own() == {"accuracy": 0.5}
    assert read(record(tmp_path, recipe={"updates": 12, "rate": 1}, networks=[[1, 2], [3, 4]])) is not None
    other = record(tmp_path, recipe={"updates": 13, "rate": 1.0}, networks=((1, 2), (3, 4)))
    assert other.read_own() is None
    said = r"record\.json: made with recipe\.updates = 12, now it is 13; take another file"
    with pytest.raises(TableError, match=said):
        read(other)


def test_what_a_key_means_that_earlier_records_lack(tmp_path):
    record(tmp_path, recipe={"updates": 12}).write({})
    missing = {"scratch": True, "recipe": {"mixup": 0.0}}
    later = {"recipe": {"updates": 12, "mixup": 0.0}, "scratch": True}
    assert read(record(tmp_path, missing=missing, **later)) == {}
    with pytest.raises(TableError, match="made with scratch = true, now it is false"):
        read(record(tmp_path, missing=missing, **{**later, "scratch": False}))
    with pytest.raises(TableError, match=r"made with recipe\.mixup = 0\.0, now it is 0\.2"):
        read(record(tmp_path, missing=missing, **{**later, "recipe": {"updates": 12, "mixup": 0.2}}))


def test_keys_that_a_record_has_alone_do_not_count(tmp_path):
    record(tmp_path, seed=1, trial=7).write({"test": 1})
    assert read(record(tmp_path, seed=1)) == {"test": 1}


def test_three_differences_are_spelled_out(tmp_path):
    record(tmp_path, **dict.fromkeys("abcde", 1)).write({})
    with pytest.raises(TableError) as caught:
        read(record(tmp_path, **dict.fromkeys("abcde", 2)))
    assert str(caught.value).count("now it is") == 3


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"\xff", b"[" * 100_000, b'{"identity": 3}', b"{}"]
)
def test_a_damaged_record_is_none(tmp_path, content):
    mine = record(tmp_path, seed=1)
    mine.file.parent.mkdir()
    mine.file.write_bytes(content)
    assert read(mine) is None
    assert mine.read_own() is None


def test_no_ordinary_file_is_no_json(tmp_path):
    assert read_json(tmp_path) is None
    assert read_json(Path("/dev/zero")) is None
    assert read_json(tmp_path / "none.json") is None


def test_what_says_nothing_of_its_work_is_refused(tmp_path):
    with pytest.raises(TableError, match="does not say what it belongs to; take another file"):
        Identity(values={}).require(None, where=tmp_path, error=TableError, advice="take another file")
