"""Reports on studies of every kind, checked against sums done here."""

from __future__ import annotations

import csv
import itertools
import math
import re
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import create_trial

from aspk.metrics import LayerCount
from aspk.report import (
    compare_text,
    evaluations_to_reach,
    pareto_text,
    select,
    summarise,
    write_csv,
)
from aspk.report.tables import csv_of_fronts
from aspk.trials import attributes
from studies import add_unfinished, made_study, strangers_study


def better(a: tuple[float, ...], b: tuple[float, ...], directions: tuple[str, ...]) -> bool:
    """Whether a dominates b."""
    pairs = [(-x, -y) if d == "maximize" else (x, y) for x, y, d in zip(a, b, directions, strict=True)]
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


def area(points: list[tuple[float, float]]) -> float:
    """Area that points dominate in the unit square, both minimised: strips from left to right."""
    inside = sorted((max(0.0, x), max(0.0, y)) for x, y in points if x < 1 and y < 1)
    total, lowest = 0.0, 1.0
    for (x, y), (after, _) in itertools.pairwise([*inside, (1.0, 0.0)]):
        lowest = min(lowest, y)
        total += (after - x) * (1 - lowest)
    return total


# ---------------------------------------------------------------------- the summary


def test_summary_of_a_study() -> None:
    study = made_study(40)
    add_unfinished(study)
    before = (study.user_attrs, study.trials)
    summary = summarise(study)
    assert (study.user_attrs, study.trials) == before
    assert (summary.name, summary.sampler) == ("digits-tiny", "evolutionary")
    assert summary.objectives == ("accuracy", "energy")
    assert summary.directions == ("maximize", "minimize")
    assert summary.states == {"complete": 40, "fail": 1, "pruned": 1, "running": 1, "waiting": 1}
    assert summary.evaluations == len(summary.curve) == len(summary.trials) == 40
    assert summary.fixed_anchors
    assert summary.notes == ()


def test_front_knee_and_hypervolume_by_hand() -> None:
    study = made_study(40)
    summary = summarise(study)
    values = {trial.number: tuple(trial.values) for trial in study.trials}
    front = {
        key for key, a in values.items() if not any(better(b, a, summary.directions) for b in values.values())
    }
    assert {row.number for row in summary.front} == front
    assert [row.values[0] for row in summary.front] == sorted((values[key][0] for key in front), reverse=True)
    assert summary.knee in front
    nadir = study.user_attrs[attributes.CONTEXT]["reference"]["energy_mj"]
    points = [((1 - a) / 0.9, e / nadir) for a, e in values.values()]
    assert summary.hypervolume == pytest.approx(area(points))
    assert summary.curve == pytest.approx([area(points[: count + 1]) for count in range(40)])


def test_f_aeb_and_energies_by_hand() -> None:
    study = made_study(25)
    summary = summarise(study)
    reference = study.user_attrs[attributes.CONTEXT]["reference"]["energy_mj"]
    scores = {}
    for trial in study.trials:
        accuracy, energy = trial.values
        scores[trial.number] = (accuracy - 0.1) / 0.9 * (energy / reference) ** -0.07
    best = max(scores, key=scores.__getitem__)
    assert summary.best_f_aeb == (pytest.approx(scores[best]), best)
    for row in summary.trials:
        assert row.f_aeb == pytest.approx(scores[row.number])
        assert row.metrics is not None
        assert row.paper_mj == pytest.approx(row.values[1], rel=1e-6)  # the evaluator used this account
        strict = sum(strict_pj(layer) for layer in row.metrics.layers) * 1e-9
        assert row.strict_mj == pytest.approx(strict)
        assert dict(row.parameters) == study.trials[row.number].params


def strict_pj(layer: LayerCount) -> float:
    dense = layer.operations * layer.repeats
    if layer.source in ("image", "residual", "analog"):
        return 4.6 * dense
    return 0.9 * layer.operations * sum(layer.input_sums) / layer.input_size


@settings(max_examples=30)
@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=12), st.data())
def test_any_front_against_all_pairs(rows: list[tuple[int, ...]], data: st.DataObject) -> None:
    directions = tuple(data.draw(st.sampled_from(["maximize", "minimize"])) for _ in range(3))
    summary = summarise(strangers_study([tuple(map(float, row)) for row in rows], *directions))
    expected = {i for i, a in enumerate(rows) if not any(better(b, a, directions) for b in rows)}
    first = {rows[i]: i for i in sorted(expected, reverse=True)}  # equal ones stand there once, with a count
    assert {row.number: row.alike for row in summary.front} == {
        number: sum(rows[i] == row for i in expected) for row, number in first.items()
    }
    assert all(0 <= value <= 1 for value in summary.curve)
    assert list(summary.curve) == sorted(summary.curve)


def test_infeasible_trials_are_never_on_the_front() -> None:
    study = made_study(30, budget_mj=0.0005)
    summary = summarise(study)
    feasible = {trial.number for trial in study.trials if trial.values[1] <= 0.0005}
    assert 0 < len(feasible) < 30
    assert {row.number for row in summary.trials if row.feasible} == feasible
    assert {row.number for row in summary.front} <= feasible
    assert summary.best_f_aeb is not None
    assert summary.best_f_aeb[1] in feasible
    assert len(summary.curve) == 30  # they were evaluated all the same


def test_without_a_front_the_trial_that_comes_nearest_is_named() -> None:
    study = made_study(30, budget_mj=1e-9)
    energies = [trial.values[1] for trial in study.trials]
    least = energies.index(min(energies))
    excess = f"{energies[least] / 1e-9 - 1:.3g}"
    said = f"trial {least} comes nearest and exceeds energy by {excess} of its bound"
    assert said in pareto_text(summarise(study))
    stranger = optuna.create_study()
    for number, values in enumerate([(3.0, 1.0), (-1.0, 2.5), (0.0, 7.0)]):
        trial = stranger.ask()
        for name, value in zip(("a", "b"), values, strict=True):
            trial.set_constraint(name, value)
        stranger.tell(trial, float(number))
    assert pareto_text(summarise(stranger)).endswith("trial 1 comes nearest and exceeds b by 2.5")
    assert "comes nearest" not in pareto_text(summarise(optuna.create_study()))


def test_a_strangers_study_is_scaled_by_its_range() -> None:
    summary = summarise(strangers_study([(1.0, 30.0), (2.0, 10.0), (3.0, 20.0)], "maximize", "minimize"))
    assert summary.objectives == ("value 0", "value 1")
    assert summary.anchors == ((3.0, 1.0), (10.0, 30.0))
    assert not summary.fixed_anchors
    assert summary.sampler == "unknown"
    assert (summary.faeb, summary.best_f_aeb, summary.reference) == (None, None, None)
    assert summary.curve == pytest.approx([0.0, 0.5, 0.75])  # (0.5, 0) and (0, 0.5) of the unit square
    assert summary.front[0].paper_mj is None


def test_better_than_ideal_is_ideal() -> None:
    study = strangers_study([(1.5, -3.0)], "maximize", "minimize")
    study.set_user_attr(attributes.CONTEXT, {"anchors": {"value 0": [1.0, 0.0], "value 1": [0, 2]}})
    assert summarise(study).hypervolume == 1.0


@pytest.mark.parametrize(
    "anchors", [{}, {"value 0": [1, 1]}, {"value 0": [1]}, {"value 0": "ab"}, {"value 0": [math.nan, 1]}, 3]
)
def test_unusable_anchors_fall_back_to_the_range(anchors: object) -> None:
    study = strangers_study([(1.0,), (2.0,)], "minimize")
    study.set_metric_names(["value 0"])
    study.set_user_attr(attributes.CONTEXT, {"anchors": anchors})
    summary = summarise(study)
    assert (summary.anchors, summary.fixed_anchors) == (((1.0, 2.0),), False)


def test_what_is_damaged_is_left_out_and_noted() -> None:
    study = made_study(3)
    study.add_trial(create_trial(values=[0.5, math.inf]))
    study.add_trial(create_trial(values=[0.5, 1.0], user_attrs={"accuracy": "high", "energy_mj": 1.0}))
    context = study.user_attrs[attributes.CONTEXT]
    study.set_user_attr(attributes.CONTEXT, context | {"faeb": {"form": "sum"}})
    summary = summarise(study)
    assert [row.number for row in summary.trials] == [0, 1, 2, 4]
    assert summary.trials[-1].metrics is None
    text = " ".join(summary.notes)
    assert "infinitely bad objectives, which a search counts as the worst finite ones, left" in text
    assert "metrics of trial 4" in text
    assert "F_AEB is left out: F_AEB: form = 'sum'" in text
    study.set_user_attr(attributes.CONTEXT, context | {"reference": {"accuracy": None, "energy_mj": 1}})
    assert "the reference network is left out" in " ".join(summarise(study).notes)


def test_an_objective_without_anchors_is_scaled_by_its_range() -> None:
    study = strangers_study([(0.5, 10.0), (0.0, 20.0)], "minimize", "maximize")
    study.set_user_attr(attributes.CONTEXT, {"anchors": {"value 0": [0.0, 1.0]}})
    summary = summarise(study)
    assert (summary.anchors, summary.fixed_anchors) == (((0.0, 1.0), (20.0, 10.0)), False)
    assert summary.curve == pytest.approx([0.0, 1.0])


def test_the_reference_under_f_aeb() -> None:
    study = made_study(4)
    study.set_metric_names(["f_aeb", "energy"])
    summary = summarise(study)
    assert summary.reference is not None
    expected = (summary.reference.accuracy - 0.1) / 0.9  # at its own energy
    assert summary.reference_values == pytest.approx((expected, summary.reference.energy_mj))
    study.set_metric_names(["mine", "energy"])
    assert summarise(study).reference_values is None


def test_evaluations_to_reach() -> None:
    assert evaluations_to_reach((0.1, 0.5, 0.5, 0.9), 0.5) == 2
    assert evaluations_to_reach((0.1, 0.2), 0.5) is None
    assert evaluations_to_reach((), 0.5) is None


# ---------------------------------------------------------------------- tables


def test_pareto_text_is_aligned_and_complete() -> None:
    summary = summarise(made_study(30))
    header, line, *rows, note = pareto_text(summary).splitlines()
    for name in ("accuracy", "energy", "F_AEB", "paper mJ", "strict mJ", "parameters"):
        assert name in header
    assert len(rows) == len(summary.front)
    ends = [match.end() for match in re.finditer(r"-+", line)]
    assert all(row[end : end + 1] in ("", " ") and row[end - 1] != " " for row in rows for end in ends[1:])
    starred = [row for row in rows if "*" in row]
    assert [int(row.split()[0]) for row in starred] == [select(summary).chosen.row.number]
    assert "not measurements" in note


def test_csv_has_full_precision_and_the_parameters(tmp_path: Path) -> None:
    study = made_study(30)
    summary = summarise(study)
    write_csv(summary, tmp_path / "new folder" / "front.csv")
    with (tmp_path / "new folder" / "front.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == [row.number for row in summary.front]
    for row, expected in zip(rows, summary.front, strict=True):
        assert (float(row["accuracy"]), float(row["energy"])) == expected.values
        assert {k: float(v) for k, v in row.items() if k in expected.parameters} == expected.parameters


def named_study(*points: tuple[tuple[float, float], dict[str, float]]) -> optuna.Study:
    """A study of two objectives, the first of which is called ``loss``, with parameters of any names."""
    study = optuna.create_study(directions=("minimize", "minimize"))
    study.set_metric_names(["loss", "size"])
    for values, parameters in points:
        choices = {name: optuna.distributions.FloatDistribution(0, 9) for name in parameters}
        study.add_trial(create_trial(values=values, params=parameters, distributions=choices))
    return study


def test_a_parameter_with_the_name_of_a_column_does_not_hide_it(tmp_path: Path) -> None:
    study = named_study(((0.5, 2.0), {"loss": 7.0, "trial": 3.0, "x": 1.0}))
    write_csv(summarise(study), tmp_path / "front.csv")
    with (tmp_path / "front.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert [float(row[name]) for name in ("trial", "loss", "size", "x")] == [0, 0.5, 2, 1]
    assert [float(row[f"{name} (parameter)"]) for name in ("trial", "loss")] == [3, 7]


def test_fronts_with_different_columns_share_a_csv_file() -> None:
    first = summarise(named_study(((0.5, 2.0), {"model": 1.0, "x": 2.0})))
    alike = {"x": 3.0, "y": 4.0}
    second = summarise(named_study(((0.1, 1.0), alike), ((0.1, 1.0), alike)))
    text = csv_of_fronts("model", [("paper", first), ("strict", second)])
    one, other = csv.DictReader(text.splitlines())
    assert (one["model"], one["loss"], one["model (study)"], one["x"]) == ("paper", "0.5", "1.0", "2.0")
    assert one["y"] == one["alike"] == ""
    assert (other["model"], other["loss"], other["x"], other["y"]) == ("strict", "0.1", "3.0", "4.0")
    assert (other["alike"], other["model (study)"]) == ("2", "")


def test_hypervolumes_are_compared_after_the_same_number_of_evaluations() -> None:
    long = strangers_study([(0.75,)] * 24 + [(0.5,)] * 25 + [(0.0,)] * 11, "minimize")  # better at 25, at 50
    short = strangers_study([(0.5,), (0.25,)] * 15, "minimize")
    for study, sampler in ((long, "evolutionary"), (short, "nsga2")):
        study.set_user_attr(attributes.CONTEXT, {"anchors": {"value": [0, 1]}})
        study.set_user_attr(attributes.SPEC, {"sampler": {"name": sampler}})
    *_, header, _, first, second = compare_text([summarise(long), summarise(short)]).splitlines()
    assert header.split("  ")[0] == "hypervolume after"
    assert header.split()[-2:] == ["25", "50"]
    assert first.split() == ["evolutionary", "0.5", "1"]
    assert second.split() == ["nsga2", "0.75", "–"]


def test_comparison() -> None:
    one = strangers_study([(0.5,), (0.2,), (0.0,)], "minimize")
    two = strangers_study([(0.5,), (0.6,)], "minimize")
    for study, sampler in ((one, "evolutionary"), (two, "nsga2")):
        study.set_user_attr(attributes.CONTEXT, {"anchors": {"value": [0, 1]}})
        study.set_user_attr(attributes.SPEC, {"sampler": {"name": sampler}})
    header, _, *rows = compare_text([summarise(one), summarise(two)]).splitlines()
    assert [cell.strip() for cell in header.split("  ") if "to" in cell] == [
        f"evaluations to {share}%" for share in (90, 95, 99)
    ]
    assert [row.split() for row in rows] == [
        ["evolutionary", "3", "1", "–", "1", "3", "3", "3"],
        ["nsga2", "2", "0.5", "–", "1", "–", "–", "–"],
    ]
    assert "not comparable" in compare_text([summarise(one), summarise(made_study(3))])
    repeated = compare_text([summarise(made_study(3, name=name)) for name in ("morning", "evening")])
    assert [row.split("  ")[0] for row in repeated.splitlines()[2:4]] == [
        "evolutionary: morning",
        "evolutionary: evening",
    ]
