"""Data sets and samplers are named once: what else lists them follows, or is held against it here."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import aspk.data
import aspk.samplers
from aspk.cli import main
from aspk.data import DATA_SETS, load_data
from aspk.data.sources import Reader
from aspk.errors import DataError
from aspk.samplers import GenotypeSampler, sampler_class
from aspk.spec.samplers import SAMPLERS
from aspk.spec.settings import DataSettings
from aspk.spec.study import study_from_dict


def modules(package):
    return [
        importlib.import_module(f"{package.__name__}.{item.name}")
        for item in pkgutil.iter_modules(package.__path__)
    ]


def test_every_reader_of_data_has_a_name():
    there = {
        id(value)
        for module in modules(aspk.data)
        for value in vars(module).values()
        if isinstance(value, Reader)
    }
    assert {id(reader) for reader in DATA_SETS.values()} == there


def test_an_unknown_data_set_and_frames_that_nobody_counts():
    with pytest.raises(DataError, match="expected one of digits, fashion_mnist"):
        load_data("imagenet")
    with pytest.raises(DataError, match="'digits' takes no frames = 3; nmnist does"):
        load_data(DataSettings(name="digits", frames=3))


def test_every_sampler_has_a_name():
    there = {
        kind
        for module in modules(aspk.samplers)
        for kind in vars(module).values()
        if inspect.isclass(kind) and issubclass(kind, GenotypeSampler) and not inspect.isabstract(kind)
    }
    assert {sampler_class(name) for name in SAMPLERS} == there


@pytest.mark.parametrize("name", SAMPLERS)
def test_study_files_know_every_sampler(name):
    study = {"name": "one", "space": "tiny", "data": "digits", "sampler": {"name": name}}
    assert study_from_dict(study).sampler == name


def test_an_unknown_sampler_is_told_all(capsys):
    assert main(["search", "digits", "--sampler", "magic"]) == 1
    said = capsys.readouterr().err
    assert all(name in said for name in SAMPLERS)
