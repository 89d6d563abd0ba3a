"""Other forms of an export give the same logits, and need no aspk."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from spaces import HIERARCHICAL, MIXERS, NEURONS

from aspk.cli.main import main
from aspk.errors import CheckpointError
from aspk.families import Supernet, program_of
from aspk.families.base import Program
from aspk.families.layers import calibrate, initialise
from aspk.families.registry import network_of
from aspk.metrics import Metrics
from aspk.standalone.export import export_network, load_exported
from aspk.standalone.formats import write_format
from aspk.standalone.formats.onnx_file import load_onnx
from aspk.standalone.formats.spikingjelly_code import code, weights


@pytest.fixture(scope="module")
def exported(tmp_path_factory, digits):
    """An export of the tiny space's largest network, with statistics of the digits."""
    from aspk.space.file import load_space

    space, folder = load_space("tiny"), tmp_path_factory.mktemp("exported")
    network = network_of(space.largest, space.settings, shape=digits.shape, classes=digits.classes)
    initialise(network, seed=0)
    calibrate(network, digits.split("train").images[:200])
    origin = {"study": 'a """name""" {of} C:\\New\\yours', "trial": 3}
    export_network(folder, network, data=digits, weights="inherited", metrics=METRICS, provenance=origin)
    return folder


@pytest.fixture(scope="module")
def onnx_file(exported):
    return write_format("onnx", load_exported(exported), exported)


METRICS = Metrics(accuracy=0.5, energy_mj=0.001)


def spikingjelly_network(folder):
    """The written module, imported by its file alone."""
    space = {"__file__": str(folder / "model.py"), "__name__": "model"}
    exec(compile((folder / "model.py").read_text(), "model.py", "exec"), space)
    return space["load_network"]()


def test_spikingjelly_module_is_the_network_in_float64_and_trains_on(exported, digits):
    model = load_exported(exported)
    folder = write_format("spikingjelly", model, exported)
    twin = spikingjelly_network(folder)
    assert not any(type(part).__module__.startswith("aspk") for part in twin.modules())
    images, labels = digits.split("test").images[:32], digits.split("test").labels[:32]
    with torch.no_grad():
        expected = model.double()(images.double())
        assert expected.std() > 0.01
        torch.testing.assert_close(twin.double()(images.double()), expected, rtol=1e-10, atol=1e-10)
    twin.float().train()
    optimizer, losses = torch.optim.AdamW(twin.parameters(), lr=2e-3), []
    for _ in range(12):
        loss = torch.nn.functional.cross_entropy(twin(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.2


def test_learnt_time_constants_come_along(tmp_path, digits):
    from aspk.space.file import load_space

    space = load_space("tiny_genes")
    blocks = tuple(replace(block, neuron="plif") for block in space.superset.blocks)
    config = replace(space.superset, blocks=blocks, stem_neuron="plif")
    network = network_of(config, space.settings, shape=digits.shape, classes=digits.classes)
    initialise(network, seed=1)
    constants = [part.w for part in network.modules() if getattr(part, "w", None) is not None]
    with torch.no_grad():
        for number, w in enumerate(constants):
            w.add_(0.1 * (number % 7) - 0.3)
    calibrate(network, digits.split("train").images[:200])
    export_network(tmp_path, network, data=digits, weights="inherited", metrics=METRICS, provenance={})
    model = load_exported(tmp_path)
    twin = spikingjelly_network(write_format("spikingjelly", model, tmp_path)).double()
    images = digits.split("test").images[:16].double()
    expected = model.double()(images)
    torch.testing.assert_close(twin(images), expected, rtol=1e-10, atol=1e-10)
    assert expected.std() > 0.001
    twin(images).square().sum().backward()
    assert (
        sum(name.endswith(".w") and bool(part.grad) for name, part in twin.named_parameters())
        > len(constants) / 2
    )


def test_gradients_are_those_of_the_network(exported, digits):
    model = load_exported(exported)
    twin = spikingjelly_network(write_format("spikingjelly", model, exported))
    images = digits.split("test").images[:8].double()
    found = []
    for one in (model.network.double(), twin.double()):
        one(images).square().sum().backward()
        found.append(one.head.weight.grad)
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-12)
    stems = (model.network.stem[0].conv.weight.grad, twin.stem_0[0].weight.grad)
    torch.testing.assert_close(stems[1], stems[0], rtol=1e-7, atol=1e-12)


def test_every_network_of_every_shipped_space_can_be_written():
    from aspk.space.file import load_space
    from aspk.util.shipped import shipped_files

    for name in shipped_files("search_spaces"):
        space = load_space(name)
        for config in (space.smallest, space.reference):
            program = program_of(config, space.settings, shape=(2, 16, 16), classes=7)
            tree = ast.parse(code(program))
            defined = {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}
            called = {
                one.func.id for one in ast.walk(tree) if isinstance(getattr(one, "func", None), ast.Name)
            }
            assert defined - called == {"load_network"}, name


@pytest.mark.parametrize("space", [*MIXERS, NEURONS[0], HIERARCHICAL], ids=lambda space: space.name)
def test_every_mixer_family_and_neuron_is_the_network_in_float64(space):
    """Spikingjelly's layers and neurons compute what engines and modules do, spike by spike."""
    shape = (1, 8, 8)
    supernet = Supernet(space, shape=shape, classes=4, seed=2).double().eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in supernet.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.5)
            elif parameter.dim() == 0:
                parameter.uniform_(-1.5, 1.5, generator=generator)
    x = torch.randn(3, *shape, generator=generator).double()
    for row in space.sample_choices(8, np.random.default_rng(4)):
        network = calibrate(supernet.extract(space.decode(row)), x)
        program = program_of(network.config, space.settings, shape=shape, classes=4)
        module = {"__file__": "model.py", "__name__": "model"}
        exec(compile(code(program), "model.py", "exec"), module)
        twin = module["Network"]().double().eval()
        twin.load_state_dict(weights(program, network.state_dict()))
        with torch.no_grad():
            torch.testing.assert_close(twin(x), network(x), rtol=1e-10, atol=1e-10)


def test_what_is_not_known_is_named():
    from aspk.families.base import Operation

    strange = Program((Operation(reads=("x",), writes="x"),), time_steps=1)
    with pytest.raises(CheckpointError, match="cannot express Operation of this network; use"):
        code(strange)


def test_torch_program_is_the_network_for_any_number_of_images(exported, digits):
    model = load_exported(exported)
    path = write_format("torch", model, exported)
    extra = {"aspk.json": ""}
    program = torch.export.load(path, extra_files=extra).module()
    for count in (1, 5):
        images = digits.split("test").images[:count]
        torch.testing.assert_close(program(images), model(images))
    assert json.loads(extra["aspk.json"])["classes"] == list(model.classes)


def test_onnx_file_predicts_like_the_export(exported, onnx_file, digits, capsys, tmp_path):
    model, twin = load_exported(exported), load_onnx(onnx_file)
    assert twin.classes == model.classes
    for count in (1, 7):
        images = digits.split("test").images[:count]
        torch.testing.assert_close(twin(images), model(images), rtol=1e-4, atol=1e-4)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 24), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    told = []
    for given in (exported, onnx_file):
        assert main(["predict", str(given), str(tmp_path / "picture.png"), "--json"]) == 0
        told.append(json.loads(capsys.readouterr().out)[0]["classes"])
    for own, other in zip(*told, strict=True):
        assert own["class"] == other["class"]
        assert own["probability"] == pytest.approx(other["probability"], abs=1e-4)


def test_an_onnx_file_is_not_said_to_run_on_a_graphics_card(tmp_path, capsys):
    assert main(["predict", str(tmp_path / "network.onnx"), "picture.png", "--device", "cuda"]) == 1
    assert "network.onnx: an ONNX file runs on the CPU here" in capsys.readouterr().err


def test_foreign_and_damaged_onnx_files_are_named(tmp_path, onnx_file):
    path = tmp_path / "network.onnx"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match=r"network\.onnx: not an ONNX file that onnxruntime runs"):
        load_onnx(path)
    import onnx

    proto = onnx.load(onnx_file)
    del proto.metadata_props[:]
    onnx.save(proto, path)
    with pytest.raises(CheckpointError, match=r"its metadata 'aspk' is missing or damaged"):
        load_onnx(path)


def test_command_writes_forms_beside_the_export(study_file, tmp_path, capsys):
    from aspk.spec.study import load_study_file
    from aspk.study import load_problem, run_study

    spec = load_study_file(study_file)
    run_study(spec, load_problem(spec, device="cpu"), progress=False)
    folder, forms = tmp_path / "out", ["--format", "spikingjelly", "--format", "spikingjelly"]
    assert main(["export", str(study_file), "--trial", "0", "--output", str(folder), *forms]) == 0
    assert capsys.readouterr().out.count(f"spikingjelly: {folder / 'spikingjelly'}") == 1
    assert load_exported(folder).config
    script = (
        "import sys; sys.modules['aspk'] = None\n"
        "from model import load_network; import torch\n"
        "print(load_network()(torch.rand(2, 1, 8, 8)).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder / "spikingjelly",
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout == "torch.Size([2, 10])\n"
    again = ["export", str(study_file), "--output", str(folder), "--trial"]
    assert main([*again, "0", "--format", "torch"]) == 0  # the same network: all forms belong to it
    assert (folder / "spikingjelly" / "model.py").is_file()
    (folder / "spikingjelly" / "mine.txt").write_text("mine")
    capsys.readouterr()
    assert main([*again, "1"]) == 0
    assert f"removed the network that was there before: {folder / 'network.pt2'}" in capsys.readouterr().out
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert left == {"network.json", "network.safetensors", "spikingjelly/mine.txt"}
