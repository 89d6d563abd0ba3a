"""The schemas of files and the page of all keys: as complete as the readers, and of one mind with them."""

from __future__ import annotations

import copy
import json
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from aspk.cli.main import main
from aspk.errors import StudyError
from aspk.spec.study import study_table
from aspk.study.reference import Document, documents, json_schema, reference_page
from aspk.util.schema import OTHERS, check_table

ROOT = Path(__file__).resolve().parent.parent
KINDS = documents()
SHIPPED = {
    "study": sorted((ROOT / "studies").glob("*.toml")),
    "space": sorted((ROOT / "search_spaces").glob("*.toml")),
    "recipe": sorted((ROOT / "studies" / "recipes").glob("*.toml")),
}
OPEN = KINDS | {"study": Document("A study", "", study_table())}  # [sampler] as the reader of files knows it
CHIP = {"preset": "syops", "name": "chip", "mac_pj": 3, "ac_pj": 0.1, "first_layer_repeats": 1, "bits": 8}
EXAMPLES = {kind: [tomllib.loads(path.read_text()) for path in paths] for kind, paths in SHIPPED.items()}
EXAMPLES["energy"] = [CHIP]


@pytest.mark.parametrize("kind", KINDS)
def test_shipped_files_are_what_the_schemas_say(kind):
    schema = json_schema(KINDS[kind])
    Draft7Validator.check_schema(schema)
    assert EXAMPLES[kind]
    for example in EXAMPLES[kind]:
        Draft7Validator(schema).validate(example)


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_explained(kind):
    def look(schema, path):
        for name, key in schema.get("properties", {}).items():
            assert len(key.get("description", "")) > 5, f"{path}.{name}"
            look(key, f"{path}.{name}")
            for form in key.get("anyOf", ()):
                look(form, f"{path}.{name}")

    look(json_schema(KINDS[kind]), kind)


# Whole floats are left out: to a JSON schema 2.0 is an integer. So are NaN and infinity, which JSON has not.
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-1, 40)
    | st.sampled_from([2**53, 2**53 + 1, 10**400, -(10**400)])
    | st.floats(-2, 40).filter(lambda value: not value.is_integer())
    | st.text(max_size=3)
    | st.sampled_from(["\0", "auto", "accuracy", "accuracy\n", "dense", "partition", "1"])
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
)


def places(table, path=()):
    """Paths of all keys of a table and of the tables in it."""
    for name, key in table.items():
        if name != OTHERS:
            yield (*path, name)
            yield from places(key.table or {}, (*path, name))


@pytest.mark.parametrize("kind", OPEN)
def test_a_schema_refuses_what_the_reader_refuses(kind):
    """One key of a good file gets any value, or goes, or another one comes: both agree about it."""
    document = OPEN[kind]
    validator = Draft7Validator(json_schema(document))

    @given(
        st.sampled_from(EXAMPLES[kind]),
        st.sampled_from([*places(document.table), ("colour",)]),
        st.sampled_from(["set", "set", "set", "delete"]),
        _VALUES,
    )
    def agree(example, path, change, value):
        content = copy.deepcopy(example)
        place = content
        for name in path[:-1]:
            if not isinstance(place.get(name), dict):
                place[name] = {}
            place = place[name]
        if change == "set":
            place[path[-1]] = value
        else:
            place.pop(path[-1], None)
        try:
            check_table(document.table, content, error=StudyError)
            refused = ""
        except StudyError as error:
            refused = str(error)
        assert validator.is_valid(content) == (not refused), (path, value, refused)

    agree()


def test_the_page_names_every_key_with_its_default():
    page = reference_page()
    for document in KINDS.values():
        for path in places(document.table):
            assert f"| `{path[-1]}` |" in page, path
    assert '| `split_by` | "number" or "time" | `"number"` |' in page
    assert "| `space` | a string without null characters | required |" in page


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_prints_or_writes_a_schema(kind, capsys, tmp_path):
    assert main(["schema", kind]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == json_schema(KINDS[kind])
    assert main(["schema", kind, "--output", str(tmp_path / "x.json")]) == 0
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == printed


def taplo(*arguments) -> subprocess.CompletedProcess[str]:
    try:
        (program,) = (path for path in files("taplo") or () if path.name.partition(".")[0] == "taplo")
    except PackageNotFoundError:
        pytest.skip("taplo is not installed")
    return subprocess.run(
        [program.locate(), "lint", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_engine_of_editors_finds_mistakes(tmp_path):
    assert main(["schema", "study", "--output", str(tmp_path / "study.schema.json")]) == 0
    text = "#:schema ./study.schema.json\nspace = 'tiny'\ndata = 'digits'\n[train]\nlearning_rate = 0.1\n"
    file = tmp_path / "own.toml"
    file.write_text(text)
    found = taplo(file)
    assert found.returncode == 0, found.stderr
    for old, new, message in (
        ("0.1", "0", "0 is less than or equal to the minimum of 0"),
        ("learning_rate", "learning_rat", "'learning_rat' was unexpected"),
        ("data = 'digits'\n", "", '"data" is a required property'),
    ):
        file.write_text(text.replace(old, new))
        found = taplo(file)
        assert found.returncode == 1
        assert message in found.stderr
