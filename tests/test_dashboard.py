"""What a study brings to optuna-dashboard: note, figures and files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import create_trial
from spaces import FIXED
from worker_processes import spec_in

from aspk.energy import EnergyModel
from aspk.report import SELECTIONS, select, selection_text, summarise
from aspk.report.dashboard import Plot, artifact_store, dress, front_plot, hypervolume_plot, note
from aspk.report.energy import rebilled
from aspk.space.file import load_space
from aspk.study import study_problem
from aspk.study.loop import note_metrics
from aspk.study.record import _record
from aspk.testing import FormulaEvaluator
from aspk.trials import attributes, note_study_record, study_record
from studies import made_study, measured, strangers_study

pytest.importorskip("optuna_dashboard")


def files(study, number):
    """Name to content of a trial's files, as the dashboard finds them."""
    from optuna_dashboard.artifact._backend import list_trial_artifacts

    storage = study._storage
    trial = study.trials[number]
    held = storage.get_study_system_attrs(study._study_id)
    return list_trial_artifacts(held, storage.get_trial_system_attrs(trial._trial_id), trial)


def dressed(study, tmp_path, **options):
    spec = spec_in(tmp_path)
    dress(study, study._storage, spec, **options)
    return artifact_store(spec)


def test_the_networks_of_the_front_have_their_files_and_no_others(tmp_path):
    study = made_study(budget_mj=0.001)
    store = dressed(study, tmp_path, models=False)
    front = {row.number for row in summarise(study).front}
    assert front
    for trial in study.trials:
        found = {item["filename"]: item for item in files(study, trial.number)}
        assert set(found) == ({"config.json", "energy.png"} if trial.number in front else set())
        if found:
            assert found["energy.png"]["mimetype"] == "image/png"
            with store.open_reader(found["energy.png"]["artifact_id"]) as file:
                assert file.read(8) == b"\x89PNG\r\n\x1a\n"
            with store.open_reader(found["config.json"]["artifact_id"]) as file:
                record = json.load(file)
            assert record["parameters"] == trial.params
            assert record["config"]["embed_dim"] == trial.params["embed_dim"]


def test_dressing_again_adds_nothing(tmp_path):
    study = made_study()
    dressed(study, tmp_path, models=False)
    before = sorted((tmp_path / "artifacts").iterdir())
    dressed(study, tmp_path, models=False)
    assert sorted((tmp_path / "artifacts").iterdir()) == before


def test_models_that_cannot_be_made_are_left_out_with_a_reason(tmp_path, caplog):
    spec = spec_in(tmp_path)
    study = made_study(name=spec.name)
    optuna.copy_study(
        from_study_name=spec.name,
        from_storage=study._storage,
        to_storage=spec.storage_url,
    )
    copied = optuna.load_study(study_name=spec.name, storage=spec.storage_url)
    dressed(copied, tmp_path)
    assert "no models of the front" in caplog.text
    assert "supernet.safetensors" in caplog.text
    assert files(copied, summarise(copied).knee)


def test_the_dashboard_prints_numbers_and_no_machinery(tmp_path):
    """Counts and the record of the problem are system attributes; what stays is short enough for a page."""
    spec = spec_in(tmp_path)
    problem = study_problem(spec, FormulaEvaluator(load_space(spec.space)), classes=10)
    study = optuna.create_study(directions=["maximize", "minimize"])
    _record(study, spec, problem)
    trial = study.ask()
    metrics = measured(FIXED.reference, np.random.default_rng(0))
    note_metrics(trial, metrics, problem)
    study.tell(trial, [metrics.accuracy, metrics.energy_mj])
    assert study.user_attrs == {}
    assert {attributes.SPEC, attributes.SPACE, attributes.CONTEXT} <= set(study_record(study))
    (trial,) = study.trials
    assert max(len(json.dumps(value)) for value in trial.user_attrs.values()) < 40
    found = attributes.metrics_of(trial)
    assert found.scalars() == metrics.scalars()
    assert [layer.name for layer in found.layers] == [layer.name for layer in metrics.layers]


def test_studies_from_before_are_read_alike():
    """They have as user attributes what is a system attribute now."""
    before = made_study(12, budget_mj=0.001)
    now = optuna.create_study(study_name=before.study_name, directions=before.directions)
    now.set_metric_names(before.metric_names)
    note_study_record(now, before.user_attrs)
    for trial in before.trials:
        counts = {attributes.LAYERS: trial.user_attrs[attributes.LAYERS]}
        others = {key: value for key, value in trial.user_attrs.items() if key not in counts}
        now.add_trial(
            create_trial(
                values=trial.values,
                params=trial.params,
                distributions=trial.distributions,
                user_attrs=others,
                system_attrs=counts,
                constraints=trial.constraints,
            )
        )
    one, other = summarise(before), summarise(now)
    assert one.trials == other.trials
    assert one.front == other.front
    assert (one.context, one.spec, one.space) == (other.context, other.spec, other.space)
    models = [rebilled(study, EnergyModel(name="x", residual="dense")) for study in (before, now)]
    assert summarise(models[0]).trials == summarise(models[1]).trials


def test_the_note_holds_the_picks_of_the_report():
    summary = summarise(made_study())
    text = note(summary)
    for pick in select(summary).picks.values():
        assert f"| {pick.name} | {pick.row.number} | {pick.accuracy:.4f}" in text
    assert "| take |" not in note(summarise(strangers_study([], "minimize")))


def test_figures_show_the_feasible_front_and_every_kind_of_trial():
    summary = summarise(made_study(budget_mj=0.001))
    plot = json.loads(front_plot(summary).to_json())
    names = {trace["name"]: trace for trace in plot["data"]}
    front = names[f"feasible front ({len(summary.front)})"]
    assert front["y"] == [row.values[0] for row in summary.front]
    assert front["text"] == [f"trial {row.number}" for row in summary.front]
    infeasible = sum(not row.feasible for row in summary.trials)
    assert f"infeasible ({infeasible})" in names
    assert infeasible > 0
    curve = json.loads(hypervolume_plot(summary).to_json())["data"][0]
    assert curve["y"] == list(summary.curve)


def test_the_selected_network_stands_out_and_is_named(tmp_path):
    study = made_study()
    for rule in SELECTIONS:
        selection = select(summarise(study), rule)
        traces = json.loads(front_plot(summarise(study), selection).to_json())["data"]
        (marked,) = [trace["text"] for trace in traces if trace["name"] == f"chosen: {rule} (1)"]
        assert marked == [f"trial {selection.chosen.row.number}"]
        dressed(study, tmp_path, models=False, selection=rule)
        assert f"- {selection_text(selection)}\n" in note_of(study)


def note_of(study):
    """The note that the dashboard shows."""
    from optuna_dashboard._note import get_note_from_system_attrs

    held = study._storage.get_study_system_attrs(study._study_id)
    return get_note_from_system_attrs(held, None)["body"]


def test_figures_of_many_trials_are_thinned_and_keep_the_last():
    study = strangers_study([(float(i % 977), float(-i)) for i in range(2500)], "minimize", "minimize")
    summary = summarise(study)
    curve = json.loads(hypervolume_plot(summary).to_json())["data"][0]
    assert len(curve["x"]) <= 1000
    assert curve["x"][-1] == 2500


def test_strangers_and_single_objectives_are_shown_too(tmp_path):
    study = strangers_study([(1.0,), (2.0,)], "maximize")
    dressed(study, tmp_path, models=False)
    assert [item["filename"] for item in files(study, 1)] == ["config.json"]
    assert json.loads(front_plot(summarise(study)).to_json())["data"][2]["x"] == [1]


def test_a_note_is_text_whatever_the_names(tmp_path):
    study = made_study(name="<script>alert(1)</script>[x](javascript:1)")
    text = note(summarise(study))
    assert not set("<>[]()`*") & set(text.splitlines()[0])
    assert "not measurements" in text
    dressed(study, tmp_path / "inside", models=False)
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


def test_numbers_that_are_none_do_not_become_figures():
    with pytest.raises(ValueError, match="JSON compliant"):
        Plot([{"x": [float("nan")]}], {}).to_json()


def test_no_study_and_no_package_are_clean_errors(tmp_path, monkeypatch, capsys):
    from aspk.cli import main

    monkeypatch.chdir(Path(tmp_path))
    assert main(["dashboard", "digits"]) == 1
    assert "no study 'digits' in sqlite:///runs/digits/study.db (there: none)" in capsys.readouterr().err
    monkeypatch.setitem(__import__("sys").modules, "optuna_dashboard", None)
    assert main(["dashboard", "digits"]) == 1
    assert "pip install 'aspk[dashboard]'" in capsys.readouterr().err


def test_its_end_is_no_interruption_that_something_goes_on_from(tmp_path, monkeypatch, capsys):
    from aspk.cli import main

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("aspk.report.dashboard.show", interrupted)
    assert main(["dashboard", "digits"]) == 130
    assert capsys.readouterr().err == "aspk: the dashboard has stopped\n"
