import json
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aspk.errors import TableError
from aspk.util.journal import Journal
from aspk.util.records import Identity

OF = {"recipe": {"updates": 5}}
ENTRIES = [{"x": [0, 1], "accuracy": 0.1 + 0.2}, {"x": [1, 1], "accuracy": 1e-17}]


def opened(file, of=OF):
    return Journal(file, Identity(values=of), error=TableError, advice="remove it")


def written(folder):
    journal = opened(folder / "sub" / "j.jsonl")
    for entry in ENTRIES:
        journal.add(entry)
    return journal.file


def test_results_come_back_to_the_bit(tmp_path):
    assert opened(written(tmp_path)).entries == ENTRIES


@given(data=st.data())
def test_a_kill_loses_the_line_that_it_tore_and_no_other(tmp_path_factory, data):
    file = written(tmp_path_factory.mktemp("journal"))
    content = file.read_bytes()
    kept = data.draw(st.integers(0, len(content)))
    file.write_bytes(content[:kept])
    whole = max(content[:kept].count(b"\n") - 1, 0)
    journal = opened(file)
    assert journal.entries == ENTRIES[:whole]
    assert file.read_bytes() == content[:kept]  # another process may be adding to it
    journal.add(ENTRIES[1])
    assert opened(file).entries == [*ENTRIES[:whole], ENTRIES[1]]


def test_results_of_other_work_are_refused_and_stay(tmp_path):
    file = written(tmp_path)
    content = file.read_bytes()
    with pytest.raises(TableError, match=r"recipe\.updates = 5, now it is 6; remove it"):
        opened(file, {"recipe": {"updates": 6}})
    assert file.read_bytes() == content


@pytest.mark.parametrize("line", ["text", "[1]", '{"x": ', "\x00", "[" * 100_000])
def test_a_damaged_line_is_named(tmp_path, line):
    file = written(tmp_path)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:1], line, *lines[1:]]) + "\n")
    with pytest.raises(TableError, match=r"j\.jsonl: line 2 is damaged; remove it"):
        opened(file)


def test_a_file_without_identity_is_refused(tmp_path):
    file = tmp_path / "j.jsonl"
    file.write_text(json.dumps({"accuracy": 1}) + "\n")
    with pytest.raises(TableError, match="does not say what it belongs to"):
        opened(file)
    file.write_bytes(b"\xff\xfe\n")
    with pytest.raises(TableError, match="damaged"):
        opened(file)


def test_a_disk_that_fills_up_leaves_whole_lines(tmp_path):
    journal = opened(written(tmp_path))
    before, limits = journal.file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, limits[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            journal.add({"x": [0, 0]})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert journal.file.read_bytes() == before
    assert journal.entries == ENTRIES
