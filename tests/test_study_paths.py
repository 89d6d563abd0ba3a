"""Paths in study files: from the file, wherever a command runs; studies made before are found."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

import pytest

from aspk.cli import main
from aspk.spec.study import load_study_file

TEXT = """
name = "own"
space = "space.toml"
weights = "weights/supernet.safetensors"
storage = {storage!r}
folder = "runs/own"
[data]
name = "image_folder"
folder = "pictures"
[retrain]
recipe = "recipe.toml"
"""
SPACE = Path(__file__).resolve().parent.parent / "search_spaces" / "tiny.toml"


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study file in a folder, and another folder in which commands run."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    shutil.copy(SPACE, tmp_path / "project" / "space.toml")
    (tmp_path / "project" / "recipe.toml").write_text("updates = 7\n")
    return write(tmp_path / "project" / "study.toml")


def write(file, storage="runs/own.log"):
    file.write_text(TEXT.format(storage=storage))
    return file


def silently(file):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load_study_file(file)


def test_a_tilde_is_the_home_folder(study, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    text = TEXT.format(storage="sqlite:///~/own.db").replace('"runs/own"', '"~/runs/own"')
    study.write_text(text.replace('"pictures"', '"~/pictures"'))
    spec, home = silently(study), tmp_path / "home"
    assert spec.folder == home / "runs/own"
    assert spec.data.folder == str(home / "pictures")
    assert spec.storage_url == f"sqlite:///{home}/own.db"


@pytest.mark.parametrize("relative", [False, True])
def test_paths_start_from_the_file_wherever_the_command_runs(study, relative):
    spec = silently(Path("..") / "project" / "study.toml" if relative else study)
    place = Path("../project") if relative else study.parent
    assert spec.folder == place / "runs/own"
    assert spec.weights_file == place / "weights/supernet.safetensors"
    assert spec.space == str(place / "space.toml")
    assert spec.data.folder == str(place / "pictures")
    assert spec.storage_url == str(place / "runs/own.log")
    assert spec.retrain.updates == 7


def test_where_the_command_runs_beside_the_file_nothing_changes(study, monkeypatch):
    monkeypatch.chdir(study.parent)
    spec = silently("study.toml")
    assert (str(spec.folder), spec.storage, spec.data.folder) == ("runs/own", "runs/own.log", "pictures")


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("sqlite:///runs/a.db", "sqlite:///{project}/runs/a.db"),
        ("sqlite:///runs/a%3F.db?timeout=3", "sqlite:///{project}/runs/a%3F.db?timeout=3"),
        ("sqlite+pysqlite:///a.db", "sqlite+pysqlite:///{project}/a.db"),
        ("a.log", "{project}/a.log"),
        ("journal:a.log", "journal:{project}/a.log"),
        ("sqlite:////tmp/a.db", "sqlite:////tmp/a.db"),
        ("/tmp/a.log", "/tmp/a.log"),
        ("sqlite://", "sqlite://"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite:///file:a.db?uri=true", "sqlite:///file:a.db?uri=true"),
        ("postgresql+psycopg://me@h/a", "postgresql+psycopg://me@h/a"),
        ("postgresql+psycopg://me@h/a.log", "postgresql+psycopg://me@h/a.log"),
        ("grpc://h:1", "grpc://h:1"),
    ],
)
def test_storages_that_are_files_start_from_the_file(study, given, place):
    assert silently(write(study, given)).storage == place.format(project=study.parent)


def test_a_folder_with_marks_of_a_url_is_quoted_in_one(tmp_path):
    project = tmp_path / "50% of what?"
    project.mkdir()
    file = write(project / "study.toml", "sqlite:///a.db")
    shutil.copy(SPACE, project / "space.toml")
    (project / "recipe.toml").write_text("updates = 7\n")
    assert load_study_file(file).storage == f"sqlite:///{tmp_path}/50%25%20of%20what%3F/a.db"


def test_a_study_made_before_is_found_with_a_message(study):
    for path in ("runs/own", "weights", "pictures"):
        Path(path).mkdir(parents=True)
    for path in ("runs/own.log", "weights/supernet.safetensors", "space.toml"):
        Path(path).touch()
    (study.parent / "space.toml").unlink()
    with pytest.warns(FutureWarning) as warned:
        spec = load_study_file(study)
    assert (spec.folder, spec.storage, spec.space) == (Path("runs/own"), "runs/own.log", "space.toml")
    assert spec.data.folder == "pictures"
    (message,) = (str(warning.message) for warning in warned)
    for key in ("folder = 'runs/own'", "data.folder", "weights", "storage", "space = 'space.toml'"):
        assert key in message
    assert "write '../elsewhere/space.toml', '../elsewhere/runs/own'" in message
    (study.parent / "runs/own").mkdir(parents=True)  # what is beside the file is the study's
    with pytest.warns(FutureWarning):
        assert load_study_file(study).folder == study.parent / "runs/own"


def test_without_a_folder_runs_go_beside_the_file_as_well(study):
    study.write_text('space = "tiny"\ndata = "digits"\n')
    assert silently(study).folder == study.parent / "runs" / "study"
    assert silently(study).space == "tiny"
    Path("runs/study").mkdir(parents=True)
    with pytest.warns(FutureWarning, match=r"folder = 'runs.study'"):
        assert load_study_file(study).folder == Path("runs/study")


def test_studies_that_come_with_aspk_go_to_where_the_command_runs(study):
    clone = SPACE.parent.parent / "studies"
    for source in ("digits", clone / "digits.toml"):
        assert silently(source).folder == Path("runs/digits")
    dvs = silently("cifar10_dvs")
    assert dvs.data.folder == "data/cifar10_dvs/frames_number_16_split_by_number"
    assert silently("fashion_mnist").weights_file.is_file()


def test_the_commands_print_the_message_and_work_from_anywhere(study_file, tmp_path, capsys, monkeypatch):
    """Searched where the command runs, as before; then from the file; compared from a third place."""
    text = study_file.read_text()
    project = tmp_path / "project"
    project.mkdir()
    own = project / "own.toml"
    own.write_text(text.replace(str(tmp_path / "run"), "runs/own"))
    (tmp_path / "before" / "runs" / "own").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "before")
    assert main(["search", "../project/own.toml", "--evaluations", "3"]) == 0
    printed = capsys.readouterr().err
    assert printed.count("aspk: ../project/own.toml: folder = 'runs/own' is taken from where") == 1
    assert "FutureWarning" not in printed
    shutil.move(tmp_path / "before" / "runs", project / "runs")
    for place in (project, tmp_path):
        monkeypatch.chdir(place)
        command = ["compare", os.path.relpath(own)]
        assert main(command) == 0
        printed = capsys.readouterr()
        assert "nsga2              3 " in printed.out
        assert "is taken from" not in printed.err
