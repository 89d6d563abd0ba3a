"""Recipes: their files, and what each of their switches does to a training run."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from spaces import TINY

from aspk.data import DataSet, Split
from aspk.engines import device
from aspk.errors import CheckpointError, StudyError, TrainingError
from aspk.spec.recipe import load_recipe, recipe_from_dict
from aspk.spec.settings import Recipe
from aspk.spec.study import load_study_file
from aspk.training import SupernetRun, train_supernet
from aspk.training import run as training_run
from aspk.training.augmentation import augment
from aspk.training.checkpoint import save_state
from aspk.training.loop import train
from aspk.training.run import Batch

ROOT = Path(__file__).resolve().parent.parent


def test_shipped_recipes_are_what_they_say():
    assert load_recipe("cpu") == Recipe()
    paper, sandwich = load_recipe("paper"), load_recipe(ROOT / "studies" / "recipes" / "sandwich.toml")
    assert (paper.largest, paper.smallest, paper.reference, paper.prefix_loss) == (0, 0, 0, False)
    assert (paper.paths, sandwich.paths, sandwich.random_paths) == ("single", "sandwich", 2)
    assert paper.amp
    assert sandwich.augmented


def test_a_study_changes_a_recipe(tmp_path):
    file = tmp_path / "study.toml"
    file.write_text(
        "space = 'tiny'\ndata = 'digits'\n[train]\nrecipe = 'sandwich'\nupdates = 7\n[retrain]\nupdates = 3\n"
    )
    spec = load_study_file(file)
    assert spec.train == dataclasses.replace(load_recipe("sandwich"), updates=7)
    assert spec.retrain == Recipe(updates=3)
    file.write_text("space = 'tiny'\ndata = 'digits'\n[train]\nspeed = 7\n")
    with pytest.raises(StudyError, match=r"study\.toml: train\.speed = 7: unknown key"):
        load_study_file(file)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"recipe": "nowhere"}, "no recipe 'nowhere'.*cpu, paper, sandwich"),
        ({"recipe": 3}, "recipe = 3"),
        ({"paths": "triple"}, 'paths = .triple.: expected "sandwich" or "single"'),
        ({"paths": 1}, 'paths = 1: expected "sandwich" or "single"'),
        ({"batch_size": 10, "accumulate": 3}, "accumulate = 3: must divide batch_size = 10"),
        ({"accumulate": 0}, "accumulate = 0: expected a whole number from 1"),
        ({"augment": 31}, "augment = 31: expected a whole number from 0 to 30"),
        ({"erase": 1.5}, "erase = 1.5: expected a number from 0 to 1"),
        ({"amp": 1}, 'amp = 1: expected true or false or "auto"'),
        ({"amp": "on"}, "amp = 'on': expected true or false or \"auto\""),
        ({"prefix_loss": "auto"}, "prefix_loss = 'auto': expected true or false"),
    ],
)
def test_a_wrong_recipe_is_refused(table, message):
    with pytest.raises(TrainingError, match=message):
        recipe_from_dict(table)


def test_a_recipe_file_that_is_not_toml_is_refused(tmp_path):
    (tmp_path / "x.toml").write_bytes(b"\xff\x00 = [")
    with pytest.raises(TrainingError, match=r"x\.toml: not a TOML file"):
        load_recipe(tmp_path / "x.toml")


def test_a_recipe_that_starts_from_itself_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.toml").write_text("recipe = 'b.toml'\nupdates = 3\n")
    (tmp_path / "b.toml").write_text("recipe = 'a.toml'\n")
    with pytest.raises(TrainingError, match=r"a\.toml: the recipe starts from itself"):
        load_recipe("a.toml")
    (tmp_path / "b.toml").write_text("recipe = 'sandwich'\n")
    assert load_recipe("a.toml") == dataclasses.replace(load_recipe("sandwich"), updates=3)


# ---------------------------------------------------------------------- updates


def gradients(run: SupernetRun) -> dict[str, torch.Tensor]:
    return {
        name: p.grad.clone() if p.grad is not None else torch.zeros_like(p)
        for name, p in run.model.named_parameters()
    }


def run_of(digits, **recipe) -> SupernetRun:
    run = SupernetRun(TINY, digits, Recipe(**{"updates": 4, "batch_size": 32, "amp": False, **recipe}), 0)
    run.model.train()
    return run


def batch_of(digits, count=16) -> Batch:
    images = digits.train.images[:count]
    return Batch(images, digits.train.labels[:count], images)


def test_a_sandwich_trains_the_largest_on_labels_and_the_others_on_the_largest(digits):
    """Against the definition, written out with plain autograd on one sum of losses."""
    run, other = run_of(digits, paths="sandwich"), run_of(digits, paths="sandwich")
    batch = batch_of(digits)
    loss = run.backward(batch, np.random.default_rng(5), 1.0)
    rng = np.random.default_rng(5)
    logits = other.model(batch.images, TINY.largest)
    expected = torch.nn.functional.cross_entropy(logits, batch.targets, label_smoothing=0.1)
    teacher, total = logits.detach().softmax(1), expected
    students = [TINY.smallest, *(TINY.decode(TINY.sample_choices(1, rng)[0]) for _ in range(2))]
    for config in students:
        student = other.model(batch.images, config).log_softmax(1)
        total = total + (teacher * (teacher.log() - student)).sum(1).mean()
    total.backward()
    assert loss == pytest.approx(expected.item())
    for (name, ours), theirs in zip(gradients(run).items(), gradients(other).values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5, msg=name)


def test_accumulated_pieces_are_the_mean_of_their_gradients(digits):
    whole, pieces = run_of(digits), run_of(digits, accumulate=2)
    pieces.recipe = dataclasses.replace(pieces.recipe, clip=1e9)
    pieces.step()
    images, labels = whole._images()
    whole.optimizer.zero_grad()
    for half in range(2):
        rows = slice(16 * half, 16 * half + 16)
        whole.backward(Batch(images[rows], labels[rows], images[rows]), np.random.default_rng([0, 0]), 0.5)
    for (name, ours), theirs in zip(gradients(pieces).items(), gradients(whole).values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("flags", "unit"),
    [
        ("fpu avx512_bf16 amx_bf16", "AMX"),
        ("fpu avx512_bf16", "AVX512-BF16"),
        ("fpu avx512f", ""),
        (None, ""),
    ],
)
def test_units_for_half_precision_are_those_of_the_processor(monkeypatch, tmp_path, flags, unit):
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"model name\t: one\nflags\t\t: {flags}\n\nflags\t\t: {flags}\n")
    monkeypatch.setattr(device, "_PROCESSORS", tmp_path / "cpuinfo")
    assert device.half_precision(torch.device("cpu")) == unit
    monkeypatch.setattr(device.native, "available", lambda x: False)
    assert device.half_precision(torch.device("cpu")) == ""


@pytest.mark.parametrize(("capability", "unit"), [((7, 5), ""), ((8, 0), "CUDA 8.0"), ((12, 0), "CUDA 12.0")])
def test_units_for_half_precision_of_a_graphics_card(monkeypatch, capability, unit):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda of: capability)
    assert device.half_precision(torch.device("cuda")) == unit


@pytest.mark.parametrize("unit", ["AMX", ""])
def test_a_run_keeps_the_precision_that_it_began_with(digits, monkeypatch, tmp_path, unit, capsys):
    """Whatever the machine has on which it goes on; the weights are those of a run without a pause."""
    recipe = Recipe(updates=4, batch_size=32, amp="auto", checkpoint_every=2)

    def run_with(found):
        monkeypatch.setattr(training_run, "half_precision", lambda device: found)
        return SupernetRun(TINY, digits, recipe, 0)

    whole, begun, other = run_with(unit), run_with(unit), run_with("" if unit else "AMX")
    assert whole.half == bool(unit)
    assert whole.autocast()._enabled == bool(unit)
    for run in (whole, whole, whole, whole, begun, begun):
        run.step()
    save_state(tmp_path / "training.pt", begun.state())
    assert other.half != begun.half
    other.resume(tmp_path / "training.pt")
    assert other.provenance()["precision"] == ("bfloat16" if unit else "float32")
    assert other.choice() == f'amp = "auto": {other.precision}, as this run began'
    other.step(), other.step()
    for ours, theirs in zip(other.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    state = begun.state() | {"half": "yes"}
    save_state(tmp_path / "other" / "training.pt", state)
    with pytest.raises(CheckpointError, match="half 'yes'"):
        run_with(unit).resume(tmp_path / "other" / "training.pt")
    reason = "since AMX is here" if unit else "since no unit for bfloat16 is here"
    for announce in (True, False):
        state = tmp_path / f"new-{announce}" / "training.pt"
        train(run_with(unit), state, description="train", progress=True, announce=announce)
        written = capsys.readouterr()
        assert (f'amp = "auto": {whole.precision}, {reason}' in written.out) == announce
        assert f"amp={whole.precision}" in written.err


@pytest.mark.parametrize("amp", [False, True])
def test_what_was_begun_when_recipes_named_a_precision_keeps_it(digits, monkeypatch, tmp_path, amp):
    """Whatever the machine has: to the bits of a run that names it now."""
    monkeypatch.setattr(training_run, "half_precision", lambda device: "" if amp else "AMX")
    assert Recipe().amp == "auto"
    begun, whole = run_of(digits, amp=amp), run_of(digits, amp=amp)
    state = (begun.step(), begun.step(), begun.state())[-1]
    del state["half"]  # earlier ones still did not write it
    save_state(tmp_path / "training.pt", state)
    resumed = run_of(digits, amp="auto")
    assert resumed.half is not amp
    resumed.resume(tmp_path / "training.pt")
    assert (resumed.half, resumed.recipe) == (amp, whole.recipe)
    for run, updates in ((whole, 4), (resumed, 2)):
        for _ in range(updates):
            run.step()
    assert all(map(torch.equal, resumed.model.parameters(), whole.model.parameters()))
    assert Recipe(amp=amp).as_begun({"amp": not amp}).amp is amp  # what a recipe names, counts
    for damaged in (None, [], {"amp": "fast"}, {}):
        assert Recipe().as_begun(damaged) == Recipe()


def test_half_precision_is_spikes_and_currents_and_nothing_that_is_kept(digits):
    run = run_of(digits, amp=True)
    seen = {}
    with run.autocast():
        run.model(
            batch_of(digits).images,
            TINY.largest,
            observe=lambda name, inputs, spikes: seen.update({name: (*inputs, spikes)}),
        )
    spikes = {name: tensors[-1] for name, tensors in seen.items() if tensors[-1] is not None}
    assert {fired.dtype for fired in spikes.values()} == {torch.bfloat16}
    assert all(set(fired.unique().tolist()) <= {0.0, 1.0} for fired in spikes.values())
    stream = seen["blocks.0.fc1"][0]  # small integers, which bfloat16 has exactly
    assert stream.dtype == torch.bfloat16
    assert torch.equal(stream, stream.round())
    assert seen["head"][0].dtype == torch.float32
    losses = [run.step() for _ in range(4)]
    plain = [loss for run in [run_of(digits)] for loss in [run.step() for _ in range(4)]]
    assert losses != plain  # bfloat16 was in use
    kept = (*run.model.parameters(), *run.model.buffers(), *(p.grad for p in run.model.parameters()))
    assert {tensor.dtype for tensor in kept if tensor is not None} == {torch.float32, torch.int64}
    assert losses == pytest.approx(plain, rel=0.05)


@pytest.mark.parametrize("switch", [{"augment": 9}, {"erase": 1.0}, {"mixup": 0.5}])
def test_augmentation_changes_images_and_depends_on_the_seed_alone(digits, switch):
    batch = batch_of(digits, 32)
    recipe = Recipe(**switch)

    def changed(seed):
        before = torch.random.get_rng_state()
        result = augment(batch.images, batch.targets, recipe, digits, seed=seed)
        assert torch.equal(before, torch.random.get_rng_state())  # the global generator is left alone
        return result

    images, shares = changed(1)
    assert images.shape == batch.images.shape
    assert not torch.equal(images, batch.images)
    assert torch.equal(images, changed(1)[0])
    assert not torch.equal(images, changed(2)[0])
    torch.testing.assert_close(shares.sum(1), torch.ones(32))
    mixed = (shares.max(1).values < 1).any().item()
    assert mixed == ("mixup" in switch)
    assert torch.isfinite(images).all()


def test_augmented_training_resumes_to_the_same_bits(digits, tmp_path):
    recipe = Recipe(
        updates=4, batch_size=16, checkpoint_every=2, augment=5, erase=0.3, mixup=0.4, paths="sandwich"
    )
    whole, halves = SupernetRun(TINY, digits, recipe, 0), SupernetRun(TINY, digits, recipe, 0)
    for _ in range(4):
        whole.step()
    for _ in range(2):
        halves.step()
    state = halves.state()
    resumed = SupernetRun(TINY, digits, recipe, 0)
    from aspk.training.checkpoint import save_state

    save_state(tmp_path / "state.pt", state)
    resumed.resume(tmp_path / "state.pt")
    for _ in range(2):
        resumed.step()
    for (name, a), b in zip(
        whole.model.state_dict().items(), resumed.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    assert whole.losses() == resumed.losses()
    assert len(whole.losses()) <= 10


# ---------------------------------------------------------------------- guard rails


def test_silent_and_saturated_sites_are_named_once(digits, capfd):
    run = run_of(digits)
    with torch.no_grad():
        run.model.network.blocks[0].fc1.norm.bias.fill_(-100.0)
        run.model.network.stem[1].norm.bias.fill_(100.0)
    run.monitor()
    run.monitor()
    printed = "".join(capfd.readouterr())
    assert printed.count("blocks.0.fc1 never fires") == 1
    assert printed.count("stem.1 always fires") == 1
    with torch.no_grad():
        run.model.network.blocks[0].fc1.norm.bias.fill_(0.0)
        run.model.network.stem[1].norm.bias.fill_(0.0)
    run.monitor()
    assert "blocks.0.fc1" not in "".join(capfd.readouterr())


def test_an_exploding_loss_stops_and_keeps_the_last_checkpoint(digits, tmp_path, monkeypatch):
    recipe = Recipe(updates=6, batch_size=16, checkpoint_every=2)
    honest = SupernetRun.backward

    def exploding(run, batch, rng, share):
        return honest(run, batch, rng, share) * (1e3 if run.update == 3 else 1)

    monkeypatch.setattr(SupernetRun, "backward", exploding)
    with pytest.raises(TrainingError, match=r"exploded.*update 3; the last checkpoint is kept"):
        train_supernet(TINY, digits, recipe, folder=tmp_path, progress=False)
    run = SupernetRun(TINY, digits, recipe, 0)
    run.resume(tmp_path / "training.pt")
    assert run.update == 2


def test_a_data_set_without_its_standardisation_cannot_be_augmented():
    split = Split(torch.randn(8, 1, 8, 8), torch.arange(8) % 2)
    data = DataSet("mine", (1, 8, 8), 2, split, split, split)
    with pytest.raises(TrainingError, match="'mine' does not say how"):
        augment(split.images, split.labels, Recipe(augment=3), data, seed=0)


def test_event_counts_of_one_channel_are_not_cut_to_pixels():
    counts = torch.randint(0, 9, (8, 4, 1, 6, 6)).float()
    split = Split((counts - 1) / 2, torch.arange(8) % 2)
    data = DataSet("events", (1, 6, 6), 2, split, split, split, standardisation=((1.0, 2.0),))
    with pytest.raises(TrainingError, match=r"RandAugment takes pictures.*not event counts: set augment = 0"):
        augment(split.images, split.labels, Recipe(augment=3), data, seed=0)
    erased, _ = augment(split.images, split.labels, Recipe(erase=1.0), data, seed=0)
    assert erased.shape == split.images.shape


def test_losses_are_means_over_tenths(digits):
    run = run_of(digits, updates=20, batch_size=8)
    losses = [run.step() for _ in range(20)]
    expected = [sum(losses[i : i + 2]) / 2 for i in range(0, 20, 2)]
    assert run.losses() == pytest.approx(expected, rel=1e-5)
    assert all(map(math.isfinite, losses))
