"""Fixtures and markers of all tests."""

from __future__ import annotations

import os
from collections.abc import Generator

# The networks of the tests are too small for threads to help, and waiting threads of several processes on a
# shared machine slow each other down tenfold. Set before torch is imported; subprocesses inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# The same examples on every run, so that a red test stays red; no deadline on a shared machine.
settings.register_profile("aspk", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("aspk")

_STRICT = "ASPK_REQUIRE_ALL"  # set to 1 where everything is installed: nothing may be skipped there
_INSTALLABLE = ("postgres", "browser", "dataset")


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="session")
def device() -> str:
    """``cuda`` where there is one, else ``cpu``: the same tests run on both."""
    return _device()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave slow tests to ``-m slow``; skip tests of a GPU that is not there."""
    if not config.option.markexpr:
        slow = [item for item in items if item.get_closest_marker("slow")]
        if slow:
            config.hook.pytest_deselected(items=slow)
            items[:] = [item for item in items if item not in slow]
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and _device() == "cpu":
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything must be installed, a skip for want of a program or a data set is a failure."""
    report = yield
    marked = any(item.get_closest_marker(name) for name in _INSTALLABLE)
    if report.skipped and marked and os.environ.get(_STRICT) == "1" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped although {_STRICT}=1: {reason}"
    return report


@pytest.fixture(scope="session")
def digits():
    """scikit-learn's digits in their three splits."""
    from aspk.data import load_data

    return load_data("digits")


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory, digits):
    """A folder with a supernet of the tiny space, trained for a few updates."""
    from aspk.space.file import load_space
    from aspk.spec.settings import Recipe
    from aspk.training import train_supernet

    folder = tmp_path_factory.mktemp("trained")
    recipe = Recipe(updates=12, batch_size=32, checkpoint_every=6)
    train_supernet(load_space("tiny"), digits, recipe, folder=folder, progress=False)
    return folder


@pytest.fixture(scope="session")
def write_study_file(trained_folder):
    """Writes into a folder a study file like the demo's, on the trained supernet, small enough for a test."""

    def write(folder):
        path = folder / "small.toml"
        path.write_text(
            f"""
            name = "small"
            space = "tiny"
            data = "digits"
            folder = "{folder / "run"}"
            weights = "{trained_folder / "supernet.safetensors"}"
            evaluations = 6
            batch = 3
            [evaluation]
            calibration_images = 32
            batch_size = 400
            [sampler]
            name = "nsga2"
            """
        )
        return path

    return write


@pytest.fixture
def study_file(tmp_path, write_study_file):
    """A study file in the test's own folder."""
    return write_study_file(tmp_path)


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL server of our own on loopback, gone after the tests."""
    from postgres_server import PostgresServer, programs

    folder = programs()
    if folder is None:
        pytest.skip("no PostgreSQL server programs")
    pytest.importorskip("psycopg")
    server = PostgresServer(folder)
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def real_data():
    """The folder that ``ASPK_DATA`` names: ``cifar-10-batches-bin/``, ``nmnist/`` and ``tables/``."""
    from pathlib import Path

    folder = os.environ.get("ASPK_DATA")
    if folder is None:
        pytest.skip("ASPK_DATA names no folder with real data")
    return Path(folder)
