"""What the report is made of: importances, structure and drawing, networks trained alone, units and ticks."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial
from spaces import FIXED

from aspk.energy import PAPER, energy_mj
from aspk.families import program_of
from aspk.families.base import Linear
from aspk.report import summarise, write_report
from aspk.report.dashboard import front_plot
from aspk.report.diagram import diagram_svg
from aspk.report.figures.drawing import log_ticks
from aspk.report.genes import Gene, genes_of
from aspk.report.measures import energy_unit_of, measures
from aspk.report.structure import network_parts, parts_of
from aspk.report.trained import trained_networks
from aspk.surrogate.importance import importances
from aspk.trials import attributes
from aspk.util.files import safe_name
from studies import made_study, strangers_study

# ---------------------------------------------------------------------- importances


def drawn(count, seed=0):
    rng = np.random.default_rng(seed)
    return [{"a": int(a), "b": int(b), "c": int(c)} for a, b, c in rng.integers(0, 5, (count, 3))]


def test_importances_are_sobols_total_indices():
    """Of 3 a + b, a and b uniform: nine tenths of the variance are a's and one tenth is b's."""
    parameters = drawn(800)
    found = importances(parameters, [3 * one["a"] + one["b"] for one in parameters])
    assert next(iter(found.shares)) == "a"
    assert found.shares["a"] == pytest.approx(0.9, abs=0.08)
    assert found.shares["b"] == pytest.approx(0.1, abs=0.03)
    assert found.shares["c"] == pytest.approx(0.0, abs=0.01)
    assert found.explained > 0.97
    assert found == importances(parameters, [3 * one["a"] + one["b"] for one in parameters])


def test_parameters_that_only_some_trials_have():
    """The value counts where it is there: a block's gene in networks that have the block."""
    parameters = [one if one["c"] > 1 else {"c": one["c"]} for one in drawn(500)]
    found = importances(parameters, [float(one.get("a", 0)) for one in parameters])
    assert found.shares["a"] > 0.3
    assert found.shares["b"] < 0.02


def test_names_are_told_apart_and_noise_explains_nothing():
    rng = np.random.default_rng(1)
    parameters = [{"kind": "xyz"[i % 3], "other": i % 2} for i in range(90)]
    found = importances(parameters, [float(one["kind"] == "y") for one in parameters])
    assert found.shares["kind"] > 0.9
    assert importances(parameters, rng.normal(size=90).tolist()).explained < 0.1


def test_none_is_a_choice_like_any_other():
    """It counted as a parameter that is not there, and kept its value when others were shuffled."""
    rng = np.random.default_rng(0)
    parameters = [{"depth": [None, 3, 5][rng.integers(3)], "rate": float(rng.random())} for _ in range(90)]
    found = importances(parameters, [(one["depth"] is None) + 0.1 * one["rate"] for one in parameters])
    assert found.shares["depth"] > 0.8
    gene = Gene(name="depth", choices=(3, 5, None))
    assert gene.rank(SimpleNamespace(parameters={"depth": None})) == 2
    assert gene.rank(SimpleNamespace(parameters={})) is None


@pytest.mark.parametrize(
    ("parameters", "values"),
    [
        (drawn(19), list(range(19))),
        (drawn(30), [1.0] * 30),
        ([{}] * 30, list(range(30))),
        ([{"a": 1}] * 30, list(range(30))),
        (drawn(30), [float("inf"), *range(29)]),
    ],
    ids=["few", "constant", "no parameters", "one value", "infinite"],
)
def test_where_there_is_nothing_to_learn(parameters, values):
    assert importances(parameters, values) is None


# ---------------------------------------------------------------------- structure


def test_parts_of_a_network_have_all_of_its_energy():
    summary = summarise(made_study(8))
    for row in summary.trials:
        parts = network_parts(summary, row, PAPER)
        config = FIXED.decode(FIXED.from_parameters(row.parameters))
        blocks = [f"blocks.{index}" for index in range(config.depth)]
        assert [part.name for part in parts] == ["stem", "position", *blocks, "head"]
        assert sum(part.share for part in parts) == pytest.approx(1.0)
        (first, *_) = parts
        shares = {layer.name: energy_mj([layer]) / row.metrics.energy_mj for layer in row.metrics.layers}
        assert first.share == pytest.approx(sum(v for k, v in shares.items() if k.startswith("stem.")))
        flags = {step.label: step.flag for part in parts for step in part.steps if step.flag}
        assert flags == {"1": "dead", "fc1": "saturated"}


def test_branches_are_what_additions_add():
    summary = summarise(made_study(3))
    parts = network_parts(summary, summary.trials[0], PAPER)
    branch = {
        f"{part.name} {step.label or step.kind}" for part in parts for step in part.steps if step.branch
    }
    inside = {
        f"{part.name} {kind}" for part in parts for kind in ("q k v", "attention", "proj", "fc1", "fc2")
    }
    assert branch == {"position conv"} | {one for one in inside if one.startswith("blocks")}


def test_operations_of_other_families_are_shown_too():
    class SelfMixing(Linear):
        pass

    program = program_of(FIXED.reference, FIXED.settings, shape=(1, 8, 8), classes=10)
    linear = next(one for one in program.operations if isinstance(one, Linear))
    changed = SelfMixing(**{name: getattr(linear, name) for name in linear.__dataclass_fields__})
    operations = tuple(changed if one is linear else one for one in program.operations)
    parts = parts_of(type(program)(operations, program.time_steps), (), PAPER)
    assert "q k v" in [step.label for part in parts for step in part.steps]
    assert all(step.share is None for part in parts for step in part.steps)


def test_strangers_have_no_structure():
    summary = summarise(strangers_study([(1.0, 2.0)], "maximize", "minimize"))
    assert network_parts(summary, summary.trials[0], PAPER) == ()


def test_the_drawing_is_a_picture_with_every_operation():
    summary = summarise(made_study(3))
    parts = network_parts(summary, summary.trials[0], PAPER)
    drawing = ElementTree.fromstring(diagram_svg(parts, '<&"', steps=4, alone=True))
    assert drawing.get("aria-label") == '<&"'
    said = " ".join(drawing.itertext())
    assert "image, T = 4" in said
    for part in parts:
        assert part.name in said
        assert all(step.detail in said for step in part.steps)
    circles = [one for one in drawing.iter() if one.tag.endswith("circle")]
    assert len(circles) == sum(step.kind == "addition" for part in parts for step in part.steps)


# ---------------------------------------------------------------------- networks trained alone


def training(folder, study, trial, *, seed=0, folder_name=None, **changes):
    held = {"name": f"trial-{trial}", "trial": trial, "seed": seed, "scratch": False, "inherited": 0.9}
    held |= {"search": 0.95, "test": 0.94, "energy_mj": 2e-4} | changes
    name = folder_name or safe_name(f"{study}-trial-{trial}-inherited-seed-{seed}")
    place = folder / "retrained" / name
    place.mkdir(parents=True)
    (place / "result.json").write_text(json.dumps({"identity": {}, "result": held}))


def test_trainings_are_read_and_others_left_out(tmp_path):
    training(tmp_path, "digits", 3, seed=1)
    training(tmp_path, "digits", 3)
    training(tmp_path, "digits-nsga2", 4)
    training(tmp_path, "digits", 5, test=float("nan"))
    training(tmp_path, "digits", 6, folder_name="a-copy")
    (tmp_path / "retrained" / "damaged").mkdir()
    (tmp_path / "retrained" / "damaged" / "result.json").write_text("{")
    found = trained_networks(tmp_path, "digits")
    assert [(one.trial, one.seed, one.test) for one in found] == [(3, 0, 0.94), (3, 1, 0.94)]
    assert trained_networks(tmp_path / "nothing", "digits") == ()


def test_the_report_tells_what_networks_trained_alone_came_to(tmp_path):
    study = made_study(20)
    row = summarise(study).front[0]
    known = {"inherited": row.metrics.accuracy, "search": 0.9111, "test": 0.9222}
    training(tmp_path, study.study_name, row.number, **known)
    training(tmp_path, study.study_name, row.number, seed=1, inherited=0.1)  # of another trial of that number
    page = write_report(study, tmp_path / "report", trained=tmp_path).read_text()
    assert "Trained alone" in page
    assert "<td>0.9111</td><td>0.9222</td><td>1</td>" in page
    assert "Trained alone" not in write_report(study, tmp_path / "report").read_text()


def test_several_seeds_have_the_standard_error_of_their_mean(tmp_path):
    study = made_study(20)
    row = summarise(study).front[0]
    tests = [0.90, 0.93, 0.94]
    for seed, accuracy in enumerate(tests):
        known = {"inherited": row.metrics.accuracy, "search": 0.9111, "test": accuracy}
        training(tmp_path, study.study_name, row.number, seed=seed, **known)
    page = write_report(study, tmp_path / "report", trained=tmp_path).read_text()
    error = np.std(tests, ddof=1) / np.sqrt(3)
    assert f"<td>0.9111 ± 0.0000</td><td>0.9233 ± {error:.4f}</td><td>3</td>" in page


# ---------------------------------------------------------------------- units and ticks


def test_one_unit_for_every_energy():
    summary = summarise(made_study(10))
    unit = energy_unit_of(summary)
    assert unit.name == "µJ"
    energy = {one.name: one for one in measures(summary, unit)}["energy"]
    row = summary.trials[0]
    assert energy.of(row) == pytest.approx(row.metrics.energy_mj * 1e3)
    assert energy.title == "energy [µJ]"


LISTS = ([1, 2], [3])


def foreign(names, values, sizes=()):
    """A study that aspk did not make, with names for its objectives, and lists as choices."""
    study = optuna.create_study(directions=["minimize"] * len(names))
    study.set_metric_names(names)
    for row, size in itertools.zip_longest(values, sizes):
        given_ones = {} if size is None else {"sizes": size}
        distributions = dict.fromkeys(given_ones, CategoricalDistribution(LISTS)) if sizes else {}
        study.add_trial(create_trial(values=row, params=given_ones, distributions=distributions))
    return study


def test_the_unit_of_a_foreign_energy_is_not_known(tmp_path):
    study = foreign(["loss", "energy"], [(1.0, 20.0), (2.0, 10.0)])
    page = write_report(study, tmp_path).read_text()
    assert "energy" in page
    assert "energy [mJ]" not in page
    assert "energy, mJ" not in page
    assert front_plot(summarise(study)).layout["xaxis"]["title"]["text"] == "energy"
    assert front_plot(summarise(made_study(4))).layout["xaxis"]["title"]["text"] == "energy [mJ]"


def test_parameters_in_millions_keep_their_fraction_and_large_counts_their_digits(tmp_path):
    study = foreign(["loss", "parameters"], [(1.0, 2.215), (0.5, 1_234_567.0)])
    page = write_report(study, tmp_path).read_text()
    assert "<tr><td>parameters</td><td>2.215</td></tr>" in page
    assert "<tr><td>parameters</td><td>1,234,567</td></tr>" in page
    assert "1234567.0" in page  # for the table that can be sorted and copied


def test_choices_that_are_lists_are_genes_too(tmp_path):
    with pytest.warns(UserWarning, match="of type list"):
        study = foreign(["a", "b"], [(1.0, 2.0), (2.0, 1.0)], sizes=LISTS)
    (gene,) = genes_of(summarise(study))
    assert gene.choices == ([1, 2], [3])
    assert "sizes = [3]" in write_report(study, tmp_path).read_text()


def test_the_split_of_the_evaluation_is_named(tmp_path):
    study = made_study(6)
    context = study.user_attrs[attributes.CONTEXT]
    study.set_user_attr(attributes.CONTEXT, context | {"images": 100})
    study.set_user_attr(
        attributes.SPEC, study.user_attrs[attributes.SPEC] | {"evaluation": {"split": "test"}}
    )
    page = write_report(study, tmp_path).read_text()
    assert "100 images of the split <i>test</i>" in page
    assert "No network has been trained alone yet" in page


def test_a_study_that_was_continued_did_not_evaluate_more_than_was_requested(tmp_path):
    study = made_study(6)
    study.set_user_attr(attributes.SPEC, study.user_attrs[attributes.SPEC] | {"evaluations": 4})
    page = write_report(study, tmp_path).read_text()
    assert "6 of 6 networks evaluated" in page
    assert "6 networks were requested" in page


@given(st.floats(1e-9, 1e9), st.floats(1.5, 1e6))
def test_ticks_of_a_logarithmic_axis_lie_on_it_and_are_few(low, factor):
    ticks = log_ticks(low, low * factor)
    assert all(low <= tick <= low * factor for tick in ticks)
    assert ticks == sorted(set(ticks))
    assert len(ticks) <= 13
    if factor >= 10:
        assert ticks
