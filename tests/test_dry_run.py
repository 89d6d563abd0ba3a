"""aspk check: a study tried out on generated images, and what it is expected to cost."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from aspk.cli import main
from aspk.costs import cost
from aspk.data import DATA_SETS, generated_data, load_data
from aspk.data.fashion_mnist import ORIGIN
from aspk.space.file import load_space
from aspk.spec.settings import DataSettings
from aspk.spec.study import load_study_file
from aspk.study import timing
from aspk.study.dry_run import dry_run, dry_run_text, expected_work
from aspk.training import SupernetRun


def check(study, *arguments):
    return main(["check", str(study), "--device", "cpu", *arguments])


def test_what_is_printed_is_what_was_seen(capsys):
    seen = dry_run(load_study_file("digits"), device="cpu")
    assert check("digits") == 0
    printed = capsys.readouterr().out
    first = dry_run_text(seen).splitlines()[0]
    assert first in printed
    assert "51,200 images" in printed  # 800 updates of 64
    assert len(seen.losses) == 2
    assert all(np.isfinite(seen.losses))
    assert seen.metrics.operations > 0
    assert seen.parameters == sum(p.numel() for p in _supernet("tiny", (1, 8, 8)).parameters())
    assert seen.state_bytes == 16 * seen.parameters


def _supernet(space, shape):
    from aspk.families import Supernet

    return Supernet(load_space(space), shape=shape, classes=10)


def test_activations_grow_with_the_network_and_not_with_the_batch():
    spec = load_study_file("digits")
    small, large = (dry_run(spec, batch=batch, device="cpu").activation_bytes for batch in (2, 8))
    assert small == pytest.approx(large, rel=0.05)
    config = load_space("tiny").largest
    shapes = cost.layer_shapes(config, load_space("tiny").settings, (1, 8, 8), 10)
    spikes = 4 * sum(shape.output_size * shape.repeats for shape in shapes)  # float32 each, at least once
    assert spikes < large < 10 * spikes


def test_the_expected_work_of_a_space_with_one_network():
    """Where every network is the reference, all expectations are multiples of its operations."""
    spec = load_study_file("digits")
    space = load_space("tiny")
    genes = [*space.network, *space.block]
    only = space.fixed(genes)
    operations = cost.operations(cost.layer_shapes(space.reference, space.settings, (1, 8, 8), 10))
    spec = dataclasses.replace(
        spec,
        evaluations=7,
        train=dataclasses.replace(spec.train, updates=10, batch_size=4),
        retrain=dataclasses.replace(spec.retrain, updates=5, batch_size=8),
        evaluation=dataclasses.replace(spec.evaluation, images=100, calibration_images=20),
    )
    train, search, alone = expected_work(spec, only, (1, 8, 8), 10, images=1797)
    assert (train.images, search.images, alone.images) == (40, 7 * 120, 40)
    assert train.operations == pytest.approx(3 * 40 * operations)
    assert search.operations == pytest.approx(7 * 120 * operations)
    assert alone.operations == pytest.approx(3 * 40 * operations)
    sandwich = dataclasses.replace(spec, train=dataclasses.replace(spec.train, paths="sandwich"))
    four = expected_work(sandwich, only, (1, 8, 8), 10, images=1797)[0]
    assert (four.images, four.operations) == (160, pytest.approx(4 * train.operations))


@pytest.mark.parametrize(("batch_size", "accumulate"), [(64, 1), (64, 4), (2, 1)])
def test_the_expected_time_of_steps_that_cost_as_assumed(monkeypatch, batch_size, accumulate):
    """0.3 s for a step and 0.01 s for an image in it, of networks with 3/4 of the expected operations."""
    space = load_space("tiny")
    recipe = dataclasses.replace(
        load_study_file("digits").train, batch_size=batch_size, accumulate=accumulate
    )
    seconds = lambda space, recipe, data, batch, seed: (0.3 + 0.01 * batch, [[space.smallest]])  # noqa: E731  # one line
    monkeypatch.setattr(timing, "_seconds", seconds)
    found = timing.training_time(space, recipe, lambda images: None, lambda config: 3, 4.0, batch=2, seed=0)
    piece = batch_size // accumulate
    assert found.update_s == pytest.approx(accumulate * (0.3 + 0.01 * piece) * 4 / 3)
    assert found.hours(7200) == pytest.approx(2 * found.update_s)
    assert found.hours(7200, devices=2) == pytest.approx(found.update_s / 0.9)


def test_the_networks_of_an_update_are_those_that_it_trains(digits, monkeypatch):
    space = load_space("tiny")
    for paths, count in (("single", 1), ("sandwich", 4)):
        recipe = dataclasses.replace(
            load_study_file("digits").train, paths=paths, prefix_loss=False, batch_size=8
        )
        run = SupernetRun(space, digits, recipe, 3)
        run.update, trained, forward = 2, [], run.model.forward

        def noting(x, config, trained=trained, forward=forward, **options):
            trained.append(config)
            return forward(x, config, **options)

        monkeypatch.setattr(run.model, "forward", noting)
        expected = run.networks()
        run.step()
        assert trained == expected
        assert len(trained) == count


@pytest.mark.parametrize("name", ["digits", pytest.param("fashion_mnist", marks=pytest.mark.dataset)])
def test_generated_images_have_the_shape_of_the_real_ones(name):
    if name == "fashion_mnist" and not any(folder.is_dir() for folder in ORIGIN.installed):
        pytest.skip("needs Debian's dataset-fashion-mnist")
    real = load_data(name)
    made = generated_data(DataSettings(name=name), 4, frames=3)
    assert (made.shape, made.classes) == (real.shape, real.classes)
    assert made.train.images.shape[1:] == real.train.images.shape[1:]
    assert DATA_SETS[name].kind.images == sum(map(len, (real.train, real.search, real.test)))
    assert torch.equal(made.train.images, generated_data(DataSettings(name=name), 4, frames=3).train.images)


@pytest.mark.parametrize(
    "study",
    [
        "fashion_mnist",
        "cifar10",
        "cifar100",
        "cifar10_dvs",
        "nmnist",
        "cifar10_membrane",
    ],
)
def test_shipped_studies_need_no_files_to_be_tried_out(study, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert check(study) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{study}: space ")
    assert "training, without the data" in printed
    assert "if each of them keeps 90% of its speed, which is assumed and not measured" in printed


def test_mistakes_stop_it(study_file, capsys):
    assert check(study_file, "--batch", "1") == 1
    assert "--batch 1: expected at least 2" in capsys.readouterr().err
    study_file.write_text(study_file.read_text().replace('space = "tiny"', 'space = "huge"'))
    assert check(study_file) == 1
    assert "no search space 'huge'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sampler", "printed"),
    [
        (
            'name = "nsga2"\npopulation = 30',
            "[sampler] 'nsga2': population = 30: unknown key (did you mean population_size?); expected "
            "population_size, crossover_probability",
        ),
        (
            'name = "random"\ncolour = "red"',
            "[sampler] 'random': colour = 'red': unknown key; expected none",
        ),
        (
            "pool_sise = 30",
            "(did you mean pool_size?); expected n_startup_trials, pool_size, population_size, features, ",
        ),
        ('name = "nsga2"\npopulation_size = 1', "[sampler] 'nsga2': population_size"),
        ('name = "evolutionary"\npopulation_size = "many"', "[sampler] 'evolutionary': "),
    ],
)
def test_options_of_the_sampler_are_checked(study_file, capsys, sampler, printed):
    text = study_file.read_text().partition("[sampler]")[0]
    study_file.write_text(f"{text}[sampler]\n{sampler}\n")
    assert check(study_file) == 1
    assert printed in capsys.readouterr().err
