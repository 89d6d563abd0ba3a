"""No call that measures a network changes it: parameters, buffers, modes, hooks, membranes, random state.

The calls are found, not listed: every public function of aspk that takes a network, and every public method
of a class that holds one, has to stand in one of the two tables below.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import warnings

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import layer, neuron
from torch import nn

import aspk
import aspk.profiling
from aspk.data import Split
from aspk.engines import Population, choose_engine
from aspk.engines.slices import Slices
from aspk.evaluation.exported import ExportedNetwork
from aspk.evaluation.supernet import SupernetEvaluator, measure
from aspk.families import Supernet
from aspk.families.base import Product
from aspk.families.random_weights import calibrated_random_network, firing_rates
from aspk.metrics import Metrics
from aspk.profiling import profile_energy
from aspk.report.energy import NetworkAccount
from aspk.space.file import load_space
from aspk.spec.settings import EvaluationSettings, Recipe
from aspk.standalone.export import export_network
from aspk.training.checkpoint import save_supernet
from aspk.training.network import NetworkRun
from aspk.training.supernet import SupernetRun

SPACE = load_space("tiny")
SHAPE, CLASSES = (1, 8, 8), 10
CONFIG = SPACE.reference


class Recurrent(nn.Module):
    """A user's module with all kinds of state: batch normalisation, membranes, a list, a counter."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(layer.Conv2d(1, 4, 3), nn.BatchNorm2d(4), neuron.LIFNode(v_threshold=0.2))
        self.again = neuron.IFNode(v_threshold=0.1)
        self.head = nn.Sequential(nn.Dropout(), nn.Linear(4 * 36, 10))
        self.history, self.calls, self.last = [], 0, None
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.history.append(float(x.sum()))
        self.seen += 1
        noise = torch.rand_like(x)
        self.last = sum(self.again(self.body(x + 0.1 * noise)).flatten(1) for _ in range(3))
        return self.head(self.last)


def users_module():
    torch.manual_seed(3)
    module = Recurrent().train()
    module(torch.rand(2, 1, 8, 8))  # leaves membranes, statistics and a history behind
    return module


def network():
    return calibrated_random_network(CONFIG, SPACE.settings, shape=SHAPE, classes=CLASSES)[0]


def supernet():
    return Supernet(SPACE, shape=SHAPE, classes=CLASSES)


def images(count=6):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def split():
    return Split(images(), torch.arange(6) % CLASSES)


def on(make, call):
    """A case: a network to measure, and how."""
    return lambda digits, folder: (held := make(), lambda: call(held, digits, folder))


def training_run(kind):
    def case(digits, _):
        recipe = Recipe(updates=2, batch_size=4)
        arguments = (SPACE,) if kind is SupernetRun else (CONFIG, SPACE.settings)
        run = kind(*arguments, digits, recipe, 0, *([None] if kind is NetworkRun else []))
        return run.model, run.measure

    return case


def evaluate(held, digits, _):
    for statistics in ("own", "shared_time", "running"):
        settings = EvaluationSettings(calibration_images=16, images=8, statistics=statistics)
        evaluator = SupernetEvaluator(held, digits, settings=settings)
        evaluator.evaluate([CONFIG, SPACE.smallest])
        evaluator.network(CONFIG)


def populate(held, _, __):
    engine = choose_engine("torch", device=torch.device("cpu"), dtype=torch.float32, memory=1 << 28)
    population = Population(held, [CONFIG], engine)
    population.calibrate(images())
    population.run(images())
    population.counts(CONFIG), population.shapes(CONFIG), population.image_bytes()


def slices(held, _, __):
    weights = Slices(held)
    for operation in held.program(CONFIG).operations:
        if isinstance(operation, Product):
            weights.layer(operation)


def export(held, digits, folder):
    metrics = Metrics(accuracy=0.5, energy_mj=1.0)
    export_network(folder, held, data=digits, weights="inherited", metrics=metrics, provenance={})


def exported():
    description = {"weights": "inherited", "provenance": {}}
    return ExportedNetwork(network(), preprocess=None, classes="0123456789", **description)


# The name of a call, or of a class with all of its methods, and cases of it.
MEASURING = {
    "profile_energy": [
        on(network, lambda held, *_: profile_energy(held, images())),
        on(exported, lambda held, *_: profile_energy(held, images())),
        on(users_module, lambda held, *_: profile_energy(held, images())),
        on(lambda: nn.Sequential(network()), lambda held, *_: profile_energy(held, images(), time_steps=4)),
    ],
    "measure": [on(network, lambda held, *_: measure(held, split(), batch_size=4))],
    "firing_rates": [on(network, lambda held, *_: firing_rates(held, images()))],
    "export_network": [on(network, export)],
    "save_supernet": [
        on(supernet, lambda held, _, folder: save_supernet(folder / "it.safetensors", held, {}))
    ],
    "SupernetEvaluator": [on(supernet, evaluate)],
    "Population": [on(supernet, populate)],
    "Slices": [on(supernet, slices)],
    "Supernet.calibrate": [on(supernet, lambda held, *_: held.calibrate(images(), CONFIG))],
    "Supernet.program": [on(supernet, lambda held, *_: held.program(CONFIG))],
    "NetworkAccount": [
        on(network, lambda held, *_: NetworkAccount(title="it", layers=(), run=(held, images())).others())
    ],
    "Supernet.extract": [on(supernet, lambda held, *_: held.extract(CONFIG))],
    "SupernetRun.measure": [training_run(SupernetRun)],
    "NetworkRun.measure": [training_run(NetworkRun)],
}

# Calls that are meant to change what they get, or that only hold it.
CHANGING = {
    "load_weights": "fills a network",
    "initialise": "draws weights",
    "calibrate": "sets statistics",
    "evaluation_mode": "its end is what is tested above",
    "LoadedSupernet": "a record",
    "Supernet.forward": "updates statistics in training mode, as torch's modules do",
    "Network.forward": "updates statistics in training mode, as torch's modules do",
    "Network.features": "the part of forward without the head",
    "Network.configure": "makes it another network",
    "Spikformer.features": "the part of forward without the head",
    "Membrane.features": "the part of forward without the head",
    "Hierarchical.features": "the part of forward without the head",
    "Hierarchical.configure": "makes it another network",
    "Classifier.forward": "that of its network",
    "Classifier.preprocess": "looks at images only",
    "Classifier.placed": "looks at images only",
    "ExportedNetwork.description": "reads what was given to it",
    "OnnxNetwork.forward": "holds no network of torch's",
    "ConvNorm.forward": "a layer",
    "ConvNorm.current": "a layer",
    "LinearNorm.forward": "a layer",
    "LinearNorm.current": "a layer",
    "MixingBlock.mixed": "a part of a layer",
    "MixingBlock.neurons": "a part of a layer",
    "MixingBlock.site": "a part of a layer",
    "Site.fire": "a part of a layer",
    "Site.reciprocal_tau": "a part of a layer",
    "Block.forward": "a layer",
    "Stage.forward": "layers",
    "Embedding.spikes": "a part of a layer",
    "Embedding.convolved": "a part of a layer",
    "Embedding.pointwise": "a part of a layer",
    "ImageEmbedding.forward": "a layer",
    "StageEmbedding.forward": "a layer",
    "Run": "trains",
    "optimizer_of": "holds its parameters",
    "MovingAverage": "follows a model that is trained, in a copy",
}


# ---------------------------------------------------------------------- the tables are complete

_NETWORKS = re.compile(r"\b(Module|Network|Supernet|Spikformer|LoadedSupernet)\b")


def takes_network(function) -> bool:
    annotations = inspect.get_annotations(function)
    return any(_NETWORKS.search(str(text)) for name, text in annotations.items() if name != "return")


def calls_on_networks() -> set[str]:
    found = set()
    for info in pkgutil.walk_packages(aspk.__path__, "aspk."):
        if info.name.endswith("__main__"):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old import paths
            module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != info.name:
                continue
            if info.name.startswith("aspk.profiling.") and name not in aspk.profiling.__all__:
                continue  # parts of profile_energy
            if inspect.isfunction(value) and takes_network(value):
                found.add(name)
            elif inspect.isclass(value) and issubclass(value, nn.Module):
                found |= {f"{name}.{own}" for own in vars(value) if public_method(value, own)}
            elif inspect.isclass(value) and takes_network(value.__init__):
                found |= {name, *(f"{name}.{own}" for own in vars(value) if public_method(value, own))}
    return found


def public_method(cls: type, name: str) -> bool:
    return not name.startswith("_") and inspect.isfunction(getattr(cls, name, None))


def test_every_public_call_that_takes_a_network_is_in_a_table():
    found = calls_on_networks()
    tables = set(MEASURING) | set(CHANGING)
    assert len(found) > 20
    assert {call for call in found if call not in tables and call.partition(".")[0] not in tables} == set()


def test_the_tables_hold_nothing_else():
    found = calls_on_networks()
    runs = {"SupernetRun.measure", "NetworkRun.measure"}  # subclasses of Run, which holds the network
    assert (set(MEASURING) | set(CHANGING)) - found == runs


# ---------------------------------------------------------------------- nothing is changed


def traces(module: nn.Module) -> dict[str, object]:
    """All that a measurement could change, as plain values."""
    found: dict[str, object] = {"random": torch.get_rng_state().tolist()}
    for name, part in module.named_modules():
        for key, value in part.__dict__.items():
            if key not in ("_modules", "_parameters", "_buffers"):
                found[f"{name}.{key}"] = plain(value)
        for key, value in (*part._parameters.items(), *part._buffers.items()):
            found[f"{name}.{key}"] = plain(value)
            found[f"{name}.{key} identity"] = id(value)
    return found


def plain(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return (value.detach().tolist(), str(value.dtype), value.requires_grad, plain(value.grad_fn is None))
    if isinstance(value, dict):
        return [(str(key), plain(item)) for key, item in value.items()]
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    return value if isinstance(value, bool | int | float | str | type(None)) else id(value)


CASES = {f"{name}-{index}": case for name, cases in MEASURING.items() for index, case in enumerate(cases)}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@settings(max_examples=2)
@given(seed=st.integers(0, 1000), modes=st.tuples(st.booleans(), st.booleans()), gradients=st.booleans())
@example(seed=0, modes=(True, True), gradients=True)
def test_measuring_leaves_no_traces(case, seed, modes, gradients, digits, tmp_path_factory):
    module, call = case(digits, tmp_path_factory.mktemp("measured"))
    torch.manual_seed(seed)
    parts = list(module.modules())
    for index, part in enumerate(parts):
        part.training = modes[index % 2]
    parts[-1].register_forward_hook(lambda *_: None)
    before = traces(module)
    with torch.set_grad_enabled(gradients):
        call()
    after = traces(module)
    assert {name for name in before | after if before.get(name) != after.get(name)} == set()


@pytest.mark.parametrize("spoil", ["mode", "weights", "buffer", "state", "hook", "random"])
def test_a_trace_would_be_seen(spoil):
    """The test above can fail."""
    module = users_module()
    before = traces(module)
    with torch.no_grad():
        {
            "mode": module.head.eval,
            "weights": lambda: module.head[1].weight.mul_(2),
            "buffer": lambda: module(images()),
            "state": module.again.reset,
            "hook": lambda: module.head.register_forward_hook(lambda *_: None),
            "random": lambda: torch.rand(()),
        }[spoil]()
    assert traces(module) != before


def test_the_bill_does_not_depend_on_mode_or_membranes():
    ours, theirs = network(), users_module()
    for module in (ours, theirs):
        first = profile_energy(module.eval(), images())
        assert profile_energy(module.train(), images()) == first
        module(images())
        if module is theirs:
            assert profile_energy(module.eval(), images()) != first  # other statistics
    accuracy = [measure(network().train(training), split()) for training in (True, False)]
    assert accuracy[0] == accuracy[1]
