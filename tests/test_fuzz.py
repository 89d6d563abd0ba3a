"""Files that somebody else made, or that were damaged on the way: always a clean error, never another one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spaces import FIXED

from aspk.energy import energy_model_from_dict, load_energy_model
from aspk.errors import AspkError
from aspk.metrics import Metrics, layers_from_json, layers_to_json
from aspk.report.energy.sources import read_config
from aspk.space.file import load_space, space_from_dict
from aspk.space.genes import SubnetConfig
from aspk.spec.recipe import load_recipe, recipe_from_dict
from aspk.spec.settings import DataSettings
from aspk.spec.study import load_study_file, study_from_dict
from aspk.standalone.export import export_trial, load_exported
from aspk.testing import FormulaEvaluator, tiny_space
from aspk.training.checkpoint import load_state, load_supernet, load_tensors, save_state, save_tensors
from aspk.trials import attributes
from aspk.util.files import safe_name
from studies import counted

ROOT = Path(__file__).resolve().parent.parent
few_or_many = pytest.mark.parametrize("examples", [40, pytest.param(3000, marks=pytest.mark.slow)])

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
places = st.floats(0, 1)
damages = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "insert", "repeat"]), places, st.binary(min_size=1, max_size=8)
    ),
    min_size=1,
    max_size=4,
)


def damaged(content: bytes, damage) -> bytes:
    for kind, place, data in damage:
        at = int(place * len(content))
        if kind == "flip":
            content = content[:at] + data + content[at + len(data) :]
        elif kind == "cut":
            content = content[:at]
        elif kind == "insert":
            content = content[:at] + data + content[at:]
        else:
            content = content[:at] + content[at // 2 :]
    return content


def replaced(tree, path, value):
    """``tree`` with the value that a path of positions leads to replaced."""
    if isinstance(tree, dict | list) and tree and path:
        keys = list(tree) if isinstance(tree, dict) else range(len(tree))
        key = keys[path[0] % len(keys)]
        copy = dict(tree) if isinstance(tree, dict) else list(tree)
        copy[key] = replaced(tree[key], path[1:], value)
        return copy
    return value


def clean(read, *arguments):
    """Run a reader: it may succeed, or fail in its own words."""
    with contextlib.suppress(AspkError):
        read(*arguments)


def fuzz(examples, strategy, check):
    quiet = settings(max_examples=examples, suppress_health_check=list(HealthCheck), database=None)
    quiet(given(*strategy)(check))()


paths = st.lists(st.integers(0, 50), max_size=5)

# ------------------------------------------------------------------ TOML

TOML = {
    "study": (ROOT / "studies" / "digits.toml", load_study_file),
    "space": (ROOT / "search_spaces" / "tiny.toml", load_space),
    "paper's space": (ROOT / "search_spaces" / "auto_spikformer.toml", load_space),
    "recipe": (ROOT / "studies" / "recipes" / "sandwich.toml", load_recipe),
    "energy model": (None, load_energy_model),
}
ENERGY = b"name = 'mine'\nmac_pj = 4.6\nac_pj = 0.9\nresidual = 'dense'\n"


@few_or_many
@pytest.mark.parametrize(("source", "read"), TOML.values(), ids=TOML)
def test_damaged_toml(tmp_path, examples, source, read):
    content = ENERGY if source is None else source.read_bytes()
    file = tmp_path / "damaged.toml"

    def check(damage):
        file.write_bytes(damaged(content, damage))
        clean(read, file)

    fuzz(examples, [damages], check)


def toml(value):
    """A value as TOML writes it on one line."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(
                f"{json.dumps(key, ensure_ascii=False)} = {toml(item)}" for key, item in value.items()
            )
            + "}"
        )
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else repr(value)


@few_or_many
@pytest.mark.parametrize(("source", "read"), TOML.values(), ids=TOML)
def test_any_toml_document(tmp_path, examples, source, read):
    """A good file with any value in any place, or a document of anything."""
    good = tomllib.loads((ENERGY if source is None else source.read_bytes()).decode())
    file = tmp_path / "any.toml"

    def check(path, value, others):
        content = others | (replaced(good, path, value) if path else {})
        file.write_text(
            "".join(
                f"{json.dumps(key, ensure_ascii=False)} = {toml(item)}\n" for key, item in content.items()
            ),
            "utf-8",
        )
        clean(read, file)

    writable = values.filter(lambda value: "None" not in repr(value))  # TOML has no null
    anything = st.dictionaries(st.sampled_from([*good, "colour", "storage", "energy", "name"]), writable)
    fuzz(examples, [paths, writable, anything], check)


def space_json():
    return tiny_space().to_json()


def study_json():
    return {
        "name": "x",
        "space": "tiny",
        "data": {"name": "digits", "search": 0.2},
        "folder": "runs/x",
        "objectives": ["accuracy", "energy"],
        "evaluations": 10,
        "seed": 0,
        "storage": "sqlite:///x.db",
        "train": {"updates": 3, "prefix_loss": True},
        "evaluation": {"split": "search", "batch_size": 3},
        "energy": {"preset": "spikformer_paper"},
        "faeb": {"form": "product", "weight": 0.1},
        "constraints": {"energy": 1.0},
        "sampler": {"name": "nsga2", "population_size": 10},
    }


def metrics_json():
    space = tiny_space()
    return FormulaEvaluator(space).evaluate([space.reference])[0].to_json()


def layers_json():
    return layers_to_json(counted(FIXED.reference, np.random.default_rng(0)))


JSON = {
    "space": (space_json, space_from_dict),
    "study": (study_json, study_from_dict),
    "network": (tiny_space().reference.to_json, SubnetConfig.from_json),
    "metrics": (metrics_json, Metrics.from_json),
    "data": (lambda: {"name": "digits", "search": 0.2, "resize": 8}, DataSettings.from_json),
    "recipe": (lambda: {"recipe": "sandwich", "updates": 3, "amp": "auto", "clip": 1.0}, recipe_from_dict),
    "energy": (lambda: {"preset": "syops", "bits": 8, "first_layer_repeats": 1}, energy_model_from_dict),
    "layers": (layers_json, layers_from_json),
    "trial": (lambda: {"accuracy": 0.5, "energy_mj": 1.0}, attributes.metrics_from_attributes),
    "genotype": (lambda: {attributes.GENOTYPE: [1, 2]}, attributes.genotype_from_attributes),
}


@few_or_many
@pytest.mark.parametrize(("good", "read"), JSON.values(), ids=JSON)
def test_values_of_the_wrong_kind(examples, good, read):
    tree = good()
    read(tree)  # as it is, it can be read
    fuzz(examples, [paths, values], lambda path, value: clean(read, replaced(tree, path or [0], value)))


# ------------------------------------------------------------------ networks and checkpoints


@pytest.fixture
def exported(study_file, tmp_path):
    from aspk.study import load_problem, run_study

    spec = load_study_file(study_file)
    run_study(spec, load_problem(spec, device="cpu"), progress=False)
    return export_trial(spec, tmp_path / "export", number=0, device="cpu")


@few_or_many
@pytest.mark.parametrize("name", ["network.json", "network.safetensors"])
def test_damaged_exports(exported, examples, name):
    file = exported / name
    content = file.read_bytes()
    start = content[:4096]  # the header is where the words are

    def check(damage, whole):
        file.write_bytes(damaged(content, damage) if whole else damaged(start, damage) + content[4096:])
        clean(load_exported, exported)
        if name == "network.json":
            clean(read_config, file)

    fuzz(examples, [damages, st.booleans()], check)


def check_headers(good, examples, read, tmp_path, kept=("kind",)):
    """Write headers with a value of the wrong kind to a file with a few tensors, and read it."""
    tensors, header = load_tensors(good)
    # The header is read first. Tensors are views of the file, which is about to be overwritten.
    few = {name: tensor.clone() for name, tensor in list(tensors.items())[:2]}
    file = tmp_path / "damaged.safetensors"

    def check(path, value):
        try:
            changed = replaced(header, path or [0], value)
            save_tensors(file, few, {**changed, **{key: header[key] for key in kept}})
        except (ValueError, TypeError):
            return  # not a header that can be written
        clean(read, file)

    fuzz(min(examples, 600), [paths, values], check)


@few_or_many
def test_supernets_headers_of_the_wrong_kind(trained_folder, tmp_path, examples):
    weights = trained_folder / "supernet.safetensors"
    check_headers(weights, examples, load_supernet, tmp_path)


@few_or_many
def test_exports_headers_of_the_wrong_kind(exported, tmp_path, examples):
    def read(file):
        (exported / "network.safetensors").write_bytes(file.read_bytes())
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        (exported / "network.json").write_text(json.dumps({"sha256": digest}))
        load_exported(exported)

    check_headers(exported / "network.safetensors", examples, read, tmp_path)


@few_or_many
def test_damaged_training_states(tmp_path, examples):
    file = tmp_path / "training.pt"
    save_state(file, {"update": 3, "weights": {"a": torch.zeros(4)}, "seed": 1})
    content = file.read_bytes()

    def check(damage):
        file.write_bytes(damaged(content, damage))
        clean(load_state, file, torch.device("cpu"))

    fuzz(examples, [damages], check)


# ------------------------------------------------------------------ names


@few_or_many
def test_no_name_leads_out_of_its_folder(tmp_path, examples):
    def check(name):
        part = safe_name(name)
        assert part
        assert not part.startswith(".")
        place = (tmp_path / part).resolve()
        assert place.parent == tmp_path.resolve()
        assert len(part) <= 90

    names = st.text(max_size=200) | st.sampled_from(
        ["", ".", "..", "../..", "/etc/passwd", "a\\..\\b", "\x00"]
    )
    fuzz(examples, [names], check)
    assert safe_name("digits-nsga2") == "digits-nsga2"
    assert safe_name("team/a") != safe_name("team-a") != safe_name("team:a")


def test_a_studys_default_folder_stays_below_runs():
    spec = study_from_dict({"name": "../../elsewhere", "space": "tiny", "data": "digits"})
    assert spec.folder.parent == Path("runs")
    assert spec.name == "../../elsewhere"
