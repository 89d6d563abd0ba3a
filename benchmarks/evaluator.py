"""Evaluating a population of networks, against evaluating each one alone with spikingjelly's layers.

The baseline is how a careful user of the libraries would write it: the network of each candidate on its own,
calibrated at its own T, spikingjelly's multi-step LIFNode for every neuron, batch normalisation as a layer,
the image repeated T times, batches of 128, linear layers in the faster of two forms; it counts nothing. aspk
evaluates the whole population and counts every operation. Both run in one process in alternating order;
figures are processor time, the ratio is above 1 where aspk needs less. Both evaluate the same networks on the
same images; printed is how many predictions differ, and how many would if the baseline's first normalisation
counted every value of a still image once, as aspk's does, and not T times.

``small`` is the space fashion_small with the supernet that comes with aspk. ``paper`` is auto_spikformer on
Fashion-MNIST at 32x32, with weights of ``--updates`` updates of the recipe ``cpu``, which are kept in
``runs/benchmarks``. There the baseline runs on a few networks, spread over the costs, and is scaled to the
population by dense operations.

    python benchmarks/evaluator.py [--quick] [--json FILE] [--threads N] [--spaces small paper]
    python benchmarks/evaluator.py --ladder       # what each idea brings
    python benchmarks/evaluator.py --precision    # the effect of rounding on both sides
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from training import BASELINES, spikingjelly_layers

from aspk.costs import cost
from aspk.data import DataSet, load_data
from aspk.engines import Engine, NativeEngine, Population, TorchEngine
from aspk.engines.native_states import Spikes, Stream
from aspk.families import Supernet, calibrate
from aspk.space.file import load_space
from aspk.space.genes import SubnetConfig
from aspk.space.operators import mutate
from aspk.spec.settings import DataSettings, Recipe
from aspk.training import train_supernet
from aspk.training.checkpoint import load_supernet

Result = TypeVar("Result")
_BATCH = 128  # the baseline's
_FOLDER = Path("runs/benchmarks/evaluator")
_SHIPPED = Path(__file__).resolve().parent.parent / "studies" / "fashion_mnist" / "supernet.safetensors"


@dataclass(frozen=True)
class Setup:
    """What is measured on one space.

    Attributes:
        calibration: images of the statistics.
        images: images of the accuracy.
        alone: networks that the baseline runs on.
        populations: sizes of the populations.
        rounds: repetitions in alternating order.
    """

    calibration: int
    images: int
    alone: int
    populations: tuple[int, ...]
    rounds: int


SETUPS = {
    "small": Setup(32, 512, 50, (50, 200), 2),
    "paper": Setup(16, 64, 8, (50, 200), 2),
}
QUICK = {
    "small": Setup(32, 256, 8, (50, 200), 1),
    "paper": Setup(1, 16, 3, (50, 200), 1),
}


class WithoutIncrements(NativeEngine):
    """The native engine, but products with the residual stream are taken with its whole sum."""

    def stream(self, *spikes: Spikes, keep: bool) -> Stream:
        """See :class:`~aspk.engines.base.Engine`."""
        return super().stream(*spikes, keep=False)


class Bench:
    """One space, its supernet and its images."""

    def __init__(self, supernet: Supernet, data: DataSet, setup: Setup) -> None:
        self.supernet, self.space, self.setup = supernet.eval(), supernet.space, setup
        self.calibration = data.train.images[: setup.calibration]
        self.images = data.search.images[: setup.images]

    # ------------------------------------------------------------------ what is compared

    @functools.cached_property
    def form(self) -> str:
        """The faster form of the baseline's linear layers, on the reference network."""
        self.alone(self.space.reference, "linear")
        seconds = {form: timed(lambda: self.alone(self.space.reference, form))[0] for form in BASELINES}  # noqa: B023
        return min(seconds, key=seconds.__getitem__)

    @torch.no_grad()
    def alone(self, config: SubnetConfig, form: str, *, once: bool = False) -> Tensor:
        """The baseline: predictions of one network.

        Args:
            config: the network.
            form: of the linear layers.
            once: in the variance of the first normalisation every value counts once. The baseline repeats the
                image before it, so that PyTorch's unbiased variance, n / (n - 1) of the biased one, has T
                times as many values n; aspk does not repeat it.
        """

        def repeated(images: Tensor) -> Tensor:
            return images.expand(config.time_steps, *images.shape).contiguous()

        with spikingjelly_layers(form):
            network = calibrate(self.supernet.extract(config), repeated(self.calibration))
            if once:
                values = self.calibration[:, 0].numel()  # of one channel; the convolution keeps the size
                repeats = values * config.time_steps
                network.stem[0].norm.running_var *= values / (values - 1) * (repeats - 1) / repeats
            return torch.cat([network(repeated(part)).argmax(1) for part in self.images.split(_BATCH)])

    def together(
        self, configs: Sequence[SubnetConfig], engine: Engine, *, count: bool = True, statistics: str = "own"
    ) -> dict[SubnetConfig, Tensor]:
        """Predictions of a population."""
        population = Population(self.supernet, configs, engine, statistics=statistics, count=count)
        population.calibrate(self.calibration)
        found: dict[SubnetConfig, list[Tensor]] = {config: [] for config in configs}
        for part in self.images.split(engine.images):
            for config, logits in population.run(part).items():
                found[config].append(logits.argmax(1))
        if count:
            self.rates = [population.counts(config) for config in configs]
        return {config: torch.cat(parts) for config, parts in found.items()}

    # ------------------------------------------------------------------ populations

    def random(self, count: int, seed: int = 0) -> list[SubnetConfig]:
        """Different random networks, every gene uniform over its choices."""
        rng, configs = np.random.default_rng(seed), dict[SubnetConfig, None]()
        while len(configs) < count:
            configs |= dict.fromkeys(self.space.decode(x) for x in self.space.sample_choices(count, rng))
        return list(configs)[:count]

    def children(self, count: int, seed: int = 1) -> list[SubnetConfig]:
        """Different mutants of ten random networks."""
        rng = np.random.default_rng(seed)
        parents = np.stack([self.space.encode(config) for config in self.random(10, seed)])
        configs = dict[SubnetConfig, None]()
        while len(configs) < count:
            X = mutate(self.space, parents[rng.integers(len(parents), size=count)], rng)
            configs |= dict.fromkeys(self.space.decode(x) for x in X)
        return list(configs)[:count]

    def operations(self, config: SubnetConfig) -> int:
        """Dense operations of one network."""
        supernet = self.supernet
        shapes = cost.layer_shapes(config, self.space.settings, supernet.shape, supernet.classes)
        return cost.operations(shapes)

    def spread(self, configs: Sequence[SubnetConfig], count: int) -> list[SubnetConfig]:
        """Some of them, evenly spread over their costs."""
        ordered = sorted(configs, key=self.operations)
        return [ordered[i] for i in np.linspace(0, len(ordered) - 1, count).round().astype(int)]

    def baseline_seconds(self, configs: Sequence[SubnetConfig]) -> tuple[float, dict[SubnetConfig, Tensor]]:
        """Processor time of the baseline on the population, scaled where only some of it was run."""
        sample = list(configs) if len(configs) <= self.setup.alone else self.spread(configs, self.setup.alone)
        form = self.form
        seconds, found = timed(lambda: {config: self.alone(config, form) for config in sample})
        share = sum(map(self.operations, configs)) / sum(map(self.operations, sample))
        return seconds * share, found

    def compare(self, configs: Sequence[SubnetConfig], engine: Engine) -> dict[str, float]:
        """Ratio of the baseline's processor time to ours."""
        ratios, times = [], []
        for number in range(self.setup.rounds):
            if number % 2:
                seconds, ours = timed(lambda: self.together(configs, engine))
                alone, theirs = self.baseline_seconds(configs)
            else:
                alone, theirs = self.baseline_seconds(configs)
                seconds, ours = timed(lambda: self.together(configs, engine))
            ratios.append(alone / seconds)
            times.append(seconds)
        different = sum(int((ours[config] != found).sum()) for config, found in theirs.items())
        once = different and sum(
            int((ours[config] != self.alone(config, self.form, once=True)).sum()) for config in theirs
        )
        predictions = sum(map(len, theirs.values()))
        return {
            "ratio": statistics.median(ratios),
            "ratio_low": min(ratios),
            "ratio_high": max(ratios),
            "networks_per_second": len(configs) / statistics.median(times),
            "predictions": predictions,
            "different_predictions": different,
            "different_counted_once": once,
        }

    def counting_overhead(self, configs: Sequence[SubnetConfig], engine: Engine) -> float:
        """What counting adds to the pass, as a share of it."""
        without = functools.partial(self.together, configs, engine, count=False)
        return added(without, functools.partial(self.together, configs, engine), 2 * self.setup.rounds + 1)

    def increments_overhead(self, configs: Sequence[SubnetConfig]) -> float:
        """What building on kept products of the stem's output adds to the pass, as a share of it."""
        without, more = (
            functools.partial(self.together, configs, kind()) for kind in (WithoutIncrements, NativeEngine)
        )
        return added(without, more, self.setup.rounds)

    def precision(self) -> str:
        """How many predictions of 32 networks rounding changes, on each side."""
        sizes, form = self.setup.populations, self.form
        wanted = (self.children(sizes[0]), self.random(sizes[-1]))
        configs = list(dict.fromkeys(config for some in wanted for config in self.spread(some, 16)))
        single = {
            "aspk's native engine": self.together(configs, NativeEngine()),
            "spikingjelly's layers": {config: self.alone(config, form, once=True) for config in configs},
        }
        double = copy.copy(self)
        double.supernet = copy.deepcopy(self.supernet).double()
        double.calibration, double.images = self.calibration.double(), self.images.double()
        exact = double.together(configs, NativeEngine(dtype=torch.float64))
        moved = [
            f"{sum(int((found[config] != exact[config]).sum()) for config in configs)} ({name})"
            for name, found in single.items()
        ]
        return f"of {len(configs) * len(self.images)} predictions single precision moves {', '.join(moved)}"

    def firing_rates(self) -> str:
        """Mean values that the layers of the latest population read, by kind."""
        kinds: dict[str, list[float]] = {}
        for layers in self.rates:
            for layer in layers:
                if layer.source != "image":
                    name = (
                        "stem" if layer.name.startswith(("stem", "position")) else layer.name.split(".")[-1]
                    )
                    kinds.setdefault(name, []).append(layer.firing_rate_in)
        return ", ".join(f"{name} {statistics.mean(rates):.3f}" for name, rates in kinds.items())

    def ladder(self, configs: Sequence[SubnetConfig]) -> list[tuple[str, float]]:
        """Processor time of the population, with one more idea at each rung."""
        native, plain = NativeEngine(), TorchEngine()
        one_by_one = lambda engine: [self.together([config], engine) for config in configs]  # noqa: E731
        return [
            ("spikingjelly's layers, each network alone", self.baseline_seconds(configs)[0]),
            ("torch engine, each network alone", timed(lambda: one_by_one(plain))[0]),
            ("torch engine, shared prefixes", timed(lambda: self.together(configs, plain))[0]),
            ("native engine, each network alone", timed(lambda: one_by_one(native))[0]),
            (
                "native engine, shared prefixes, no increments",
                timed(lambda: self.together(configs, WithoutIncrements()))[0],
            ),
            ("native engine, shared prefixes", timed(lambda: self.together(configs, native))[0]),
            (
                "and statistics shared over T (another question)",
                timed(lambda: self.together(configs, native, statistics="shared_time"))[0],
            ),
        ]


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Processor time of all threads, and the result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def added(without: Callable[[], object], more: Callable[[], object], pairs: int) -> float:
    """What extra work adds to a pass, as a share of it: the median of several pairs in alternating order."""
    shares = []
    for number in range(pairs):
        order = (without, more) if number % 2 else (more, without)
        seconds = {work: timed(work)[0] for work in order}
        shares.append(seconds[more] / seconds[without] - 1)
    return statistics.median(shares)


def paper_supernet(updates: int) -> tuple[Supernet, DataSet]:
    """The paper's space on Fashion-MNIST at 32x32; trained once, then read."""
    data = load_data(DataSettings(name="fashion_mnist", search=10_000, resize=32))
    folder = _FOLDER / f"paper-{updates}"
    if not (folder / "supernet.safetensors").exists():
        sizes = {"updates": updates, "batch_size": 8, "checkpoint_every": updates}
        recipe = Recipe(**sizes, learning_rate=1e-3, amp=False)  # the same on every processor
        train_supernet(load_space("auto_spikformer"), data, recipe, folder=folder)
    return load_supernet(folder / "supernet.safetensors").supernet, data


def bench(name: str, setup: Setup, updates: int) -> Bench:
    """One of the two spaces."""
    if name == "small":
        data = load_data(DataSettings(name="fashion_mnist", search=10_000))
        return Bench(load_supernet(_SHIPPED).supernet, data, setup)
    return Bench(*paper_supernet(updates), setup)


def product_speed() -> float:
    """GFLOP/s of a large matrix product on the threads in use: the machine's peak, as PyTorch reaches it."""
    a = torch.rand(1024, 1024)
    a @ a
    start = time.perf_counter()
    for _ in range(10):
        a @ a
    return 10 * 2 * 1024**3 / (time.perf_counter() - start) / 1e9


def measure(on: Bench) -> dict[str, object]:
    """All figures of one space, printed as they come."""
    setup, engine, figures = on.setup, NativeEngine(), dict[str, object]()
    for size in setup.populations:
        for kind, configs in (("random", on.random(size)), ("children", on.children(size))):
            result = on.compare(configs, engine)
            key = f"population_{size}" if kind == "random" else f"children_{size}"
            dense = sum(map(on.operations, configs)) * 2 * setup.images / 1e9
            result["equivalent_gflops"] = dense * result["networks_per_second"] / size
            figures[key] = result
            print(
                f"  {size} {kind}: {result['ratio']:.1f} times ({result['ratio_low']:.1f} to "
                f"{result['ratio_high']:.1f}), {result['networks_per_second']:.2f} networks a second, "
                f"{result['different_predictions']} of {result['predictions']} predictions differ "
                f"({result['different_counted_once']} with every pixel counted once); as if dense: "
                f"{result['equivalent_gflops']:.0f} GFLOP/s; values read: {on.firing_rates()}"
            )
    first = on.random(setup.populations[0])
    figures["torch_engine"] = result = on.compare(first, TorchEngine())
    print(f"  torch engine, {len(first)} random: {result['ratio']:.1f} times")
    figures["counting_overhead"] = on.counting_overhead(first, engine)
    print(f"  counting adds {figures['counting_overhead']:.1%}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  peak memory of this process, both sides: {peak:.1f} GiB")
    return figures


def ideas(on: Bench) -> dict[str, object]:
    """What each idea brings, printed as it comes."""
    setup, figures = on.setup, dict[str, object]()
    rungs = on.ladder(on.random(setup.populations[0]))
    figures["ladder"] = dict(rungs)
    for rung, seconds in rungs:
        print(f"  {seconds:8.2f} s  {rungs[0][1] / seconds:6.1f} times  {rung}")
    for size in setup.populations:
        for kind, configs in (("random", on.random(size)), ("children", on.children(size))):
            figures[f"increments_{kind}_{size}"] = share = on.increments_overhead(configs)
            print(f"  {size} {kind}: increments add {share:.1%}")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few images and updates, within three minutes")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--threads", type=int, default=1, help="threads (1)")
    parser.add_argument("--spaces", nargs="+", choices=SETUPS, default=list(SETUPS), help="which spaces")
    parser.add_argument("--ladder", action="store_true", help="only: what each idea brings")
    parser.add_argument("--precision", action="store_true", help="only: predictions that rounding moves")
    parser.add_argument("--updates", type=int, help="updates of the paper's supernet (200, quick: 10)")
    options = parser.parse_args()
    options.updates = options.updates or (10 if options.quick else 200)
    torch.set_num_threads(options.threads)
    print(f"matrix products of 1024x1024: {product_speed():.0f} GFLOP/s")
    setups = QUICK if options.quick else SETUPS
    if not NativeEngine.available():
        raise SystemExit("no C++ compiler: nothing to measure")
    figures = dict[str, object]()
    for name in options.spaces:
        on = bench(name, setups[name], options.updates)
        print(
            f"{name}: {on.setup.images} images, statistics from {on.setup.calibration}, {options.threads} "
            f"thread(s); the baseline runs on at most {on.setup.alone} networks of a population, scaled "
            f"by dense operations, its linear layers as {on.form}"
        )
        on.together(on.random(2), NativeEngine())  # compiles
        if options.precision:
            print(f"  {on.precision()}")
        else:
            figures[name] = ideas(on) if options.ladder else measure(on)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
