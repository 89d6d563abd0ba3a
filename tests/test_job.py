"""Jobs of training a network alone: their records, those of earlier versions, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle

import pytest

from aspk.data import load_data
from aspk.energy import STRICT
from aspk.errors import CheckpointError, EvaluationStopped
from aspk.families import Supernet
from aspk.space.file import load_space
from aspk.spec.settings import DataSettings, EvaluationSettings, Recipe
from aspk.standalone.job import Job, train_alone
from aspk.standalone.ranking import RankingStudy, ranking_jobs
from aspk.training import EarlyStop, NetworkRun
from aspk.training.checkpoint import save_state, save_supernet

SPACE = load_space("tiny")


@pytest.fixture
def job(tmp_path):
    return Job(
        name="network",
        folder=tmp_path,
        space=SPACE,
        config=SPACE.smallest,
        data=DataSettings(name="digits"),
        recipe=Recipe(updates=10, batch_size=16, checkpoint_every=5),
        seed=3,
        evaluation=EvaluationSettings(calibration_images=16, images=40),
        energy=STRICT,
        device="cpu",
    )


def identity(job, **changes):
    return {
        "network": job.config.to_json(),
        "recipe": job.recipe.to_json(),
        "data": "digits",
        "seed": 3,
        **changes,
    }


def write(job, content):
    job.record_file.parent.mkdir(parents=True, exist_ok=True)
    job.record_file.write_text(json.dumps(content))


def test_a_job_is_done_once_and_its_record_is_its_result(job):
    (result,) = train_alone([job], progress=False)
    written = job.record_file.stat().st_mtime_ns
    assert job.result() == result
    assert train_alone([job], progress=False) == [result]
    assert job.record_file.stat().st_mtime_ns == written
    assert [path.name for path in job.folder.iterdir()] == ["network.json"]  # no state, no lock
    assert 0 <= result.search <= 1
    assert 0 <= result.test <= 1
    assert result.strict_mj == result.energy_mj > 0  # the same account
    assert len(result.losses) == 10
    assert [point["update"] for point in result.history] == [5, 10]


def test_a_state_that_a_kill_left_beside_its_record_goes(job):
    (result,) = train_alone([job], progress=False)
    job.state_file.write_bytes(b"left")
    assert train_alone([job], progress=False) == [result]
    assert [path.name for path in job.folder.iterdir()] == ["network.json"]


def test_the_same_job_elsewhere_and_another_seed(job, tmp_path):
    same = dataclasses.replace(job, folder=tmp_path / "same")
    other = dataclasses.replace(job, name="other", seed=4)
    first, second, third = train_alone([job, same, other], progress=False)
    times = {"seconds": 0.0, "processor_seconds": 0.0}
    assert dataclasses.replace(first, **times) == dataclasses.replace(second, **times)
    assert first.losses != third.losses


def test_processes_can_be_handed_a_job(job):
    assert pickle.loads(pickle.dumps(job)) == job


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"energy": dataclasses.replace(STRICT, mac_pj=3.0)}, r"energy.mac_pj = 4.6, now it is 3.0"),
        ({"energy": dataclasses.replace(STRICT, elementwise="billed")}, "energy.elementwise"),
        (
            {"evaluation": EvaluationSettings(calibration_images=16)},
            "images = 40, now it is nothing",
        ),
        ({"evaluation": EvaluationSettings(calibration_images=8, images=40)}, "calibration_images = 16"),
    ],
)
def test_a_record_under_another_account_or_of_other_images_is_refused(job, changes, reason):
    (result,) = train_alone([job], progress=False)
    with pytest.raises(CheckpointError, match=reason):
        dataclasses.replace(job, **changes).result()
    named = dataclasses.replace(STRICT, name="mine")
    batches = dataclasses.replace(job.evaluation, batch_size=7)
    assert dataclasses.replace(job, energy=named, evaluation=batches).result() == result


def test_an_earlier_version_s_ranking_is_read(job):
    losses = [2.0] * 10
    write(
        job,
        {"identity": identity(job), "accuracy": 0.5, "energy_mj": 0.1, "firing_rate": 0.2, "losses": losses},
    )
    result = job.result()
    assert (result.test, result.energy_mj, result.firing_rate, result.losses) == (0.5, 0.1, 0.2, losses)
    assert math.isnan(result.search)


def test_a_record_from_before_recipes_chose_a_precision_is_read_and_the_ranking_keeps_its_precision(
    job, tmp_path
):
    assert job.recipe.amp == "auto"
    begun = dataclasses.replace(job.recipe, amp=False)
    study = RankingStudy(
        space=SPACE,
        data=job.data,
        weights=tmp_path / "supernet.safetensors",
        recipe=job.recipe,
        evaluation=job.evaluation,
        energy=job.energy,
        folder=tmp_path,
        networks=4,
        twice=1,
        device="cpu",
    )
    first, *others = jobs = ranking_jobs(study)
    assert {job.recipe for job in jobs} == {job.recipe}
    known = {**identity(first, seed=0), "recipe": begun.to_json()}
    write(first, {"identity": known, "accuracy": 0.5, "energy_mj": 0.1, "losses": [2.0] * 10})
    assert first.result().test == 0.5
    assert {job.recipe for job in ranking_jobs(study)} == {begun}
    assert {job.begun.recipe for job in others} == {job.recipe}
    known["recipe"]["updates"] = 11
    write(first, {"identity": known, "accuracy": 0.5, "energy_mj": 0.1, "losses": [2.0] * 10})
    with pytest.raises(CheckpointError, match="updates = 11"):
        first.result()


def test_a_training_that_an_earlier_version_began_keeps_its_precision_and_says_so(job):
    begun = dataclasses.replace(job.recipe, amp=True)
    run = NetworkRun(job.config, SPACE.settings, load_data("digits"), begun, 3, None)
    run.step()
    save_state(job.state_file, run.state())
    (result,) = train_alone([job], progress=False)
    assert json.loads(job.record_file.read_text())["identity"]["recipe"]["amp"] is True
    assert job.result() == result


def test_an_earlier_version_s_retraining_is_read(job, tmp_path):
    job = dataclasses.replace(job, weights=tmp_path / "supernet.safetensors", export={})
    result = {
        "name": "trial-7",
        "trial": 7,
        "seed": 3,
        "scratch": False,
        "inherited": 0.4,
        "search": 0.6,
        "test": 0.5,
        "energy_mj": 0.1,
        "strict_mj": 0.2,
        "predicted_mj": 0.1,
        "history": [{"update": 4, "search": 0.6}],
        "seconds": 2.5,
        "processor_seconds": 2.0,
    }
    known = identity(job, trial=7, scratch=False)
    write(job, {"identity": known, "result": result, "losses": [2.0] * 10})
    assert job.record_file == tmp_path / "network" / "result.json"
    found = job.result()
    assert {key: getattr(found, key) for key in ("search", "test", "strict_mj", "history", "seconds")} == {
        key: result[key] for key in ("search", "test", "strict_mj", "history", "seconds")
    }
    assert found.losses == [2.0] * 10


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 5}, "made with seed = 5, now it is 3"),
        ({"data": "cifar10"}, 'made with data = "cifar10", now it is "digits"'),
        ({"recipe": {"updates": 9}}, "made with recipe.updates = 9, now it is 10"),
        ({"scratch": False}, "made with scratch = false, now it is true"),
    ],
)
def test_another_job_s_record_is_refused(job, change, said):
    write(job, {"identity": identity(job, **change), "accuracy": 0.5, "energy_mj": 0.1, "losses": []})
    with pytest.raises(CheckpointError, match=said):
        train_alone([job], progress=False)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"identity": 3}',
        '{"identity": IDENTITY}',
        '{"identity": IDENTITY, "accuracy": null}',
        '{"identity": IDENTITY, "result": {"test": 1, "energy_mj": 1, "losses": 3}}',
        '{"identity": IDENTITY, "result": []}',
        '{"identity": IDENTITY, "result": {"test": 1, "energy_mj": 1, "losses": [], "history": [3]}}',
    ],
)
def test_a_damaged_record_is_none(job, text):
    job.record_file.write_text(text.replace("IDENTITY", json.dumps(identity(job))))
    assert job.result() is None


def test_weights_of_another_space_are_refused(job, trained_folder):
    other = dataclasses.replace(SPACE, block={**SPACE.block, "tau": (2.0,)})
    wrong = dataclasses.replace(job, weights=trained_folder / "supernet.safetensors", space=other)
    with pytest.raises(CheckpointError, match="trained for another search space"):
        wrong.run(progress=False)


# ---------------------------------------------------------------------- inherited weights


@pytest.fixture
def inheriting(job, tmp_path):
    """The job with a supernet's weights to start from, and a function that makes others."""
    data = load_data(job.data)

    def save(seed):
        supernet = Supernet(SPACE, shape=data.shape, classes=data.classes, seed=seed)
        save_supernet(tmp_path / "supernet.safetensors", supernet, {})

    save(1)
    return dataclasses.replace(job, weights=tmp_path / "supernet.safetensors"), save


def test_a_record_names_the_weights_that_its_training_started_from(inheriting):
    job, save = inheriting
    (result,) = train_alone([job], progress=False)
    save(2)
    with pytest.raises(CheckpointError, match=r"made with weights = .*, now it is"):
        job.result()
    save(1)
    assert job.result() == result
    job.weights.unlink()  # without them, there is nothing to hold the record against
    assert job.result() == result


def test_a_state_names_the_weights_that_its_training_started_from(inheriting):
    job, save = inheriting
    with pytest.raises(EvaluationStopped):
        job.run(progress=False, stop=EarlyStop(5, lambda run: "enough"))
    assert job.state_file.exists()
    save(2)
    with pytest.raises(CheckpointError, match="start = "):
        job.run(progress=False)
    save(1)
    assert job.run(progress=False) is not None


def test_records_that_do_not_say_which_weights_are_taken(inheriting):
    job, _ = inheriting
    (result,) = train_alone([job], progress=False)
    content = json.loads(job.record_file.read_text())
    assert content["identity"].pop("weights")
    write(job, content)
    assert job.result() == result
