"""Training in several processes that torchrun started, on one machine or on several."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from aspk.errors import TrainingError
from aspk.families.synchronised import shared_batch

T = TypeVar("T")
_GRACE_S = 5
_CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes that train one model together; by default there is one.

    Attributes:
        rank: this process's number, from 0. The first one writes files and shows progress.
        count: how many there are.
        device: where the tensors that they exchange are, the CPU with gloo.
    """

    rank: int = 0
    count: int = 1
    device: torch.device = _CPU

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model as a pass of training calls it: gradients become the means over the processes."""
        if self.count == 1:
            return model
        # Small networks leave parameters without a gradient; statistics are the same everywhere anyway.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PyTorch 2.6 has no other name for it
            return DistributedDataParallel(model, find_unused_parameters=True, broadcast_buffers=False)

    def share(self, batch: Tensor) -> Tensor:
        """This process's images, or labels, of a batch.

        Raises:
            TrainingError: the batch does not divide.
        """
        if len(batch) % self.count:
            raise TrainingError(
                f"batch_size = {len(batch)} does not divide among {self.count} processes; each takes "
                "an equal share of a batch"
            )
        return batch.chunk(self.count)[self.rank]

    def normalising(self) -> AbstractContextManager[None]:
        """A context for a training pass, in which normalisations use the statistics of the whole batch."""
        return nullcontext() if self.count == 1 else shared_batch()

    def mean(self, value: float) -> float:
        """The mean of the value over all processes."""
        if self.count == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return float(total) / self.count

    def any(self, wish: bool) -> bool:
        """Whether any process wishes so; all of them get the same answer."""
        return self.mean(float(wish)) > 0

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.mean(0.0)

    def from_first(self, value: T) -> T:
        """The first process's value."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0, device=self.device)
        return values[0]


ALONE = Processes()


@contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started; without torchrun there is one.

    Args:
        device: where to train; with CUDA each process of a machine takes a card of its own.

    Raises:
        TrainingError: another process has ended in the meantime.
    """
    if not dist.is_torchelastic_launched() or int(os.environ["WORLD_SIZE"]) == 1:
        yield ALONE
        return
    if threading.current_thread() is threading.main_thread():
        # When one has ended, torchrun ends the others at once; they need time to report why.
        signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(_GRACE_S))
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # DistributedDataParallel imports it; later than now, its default arguments would keep the group for good.
    importlib.import_module("torch.distributed.nn")
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        yield Processes(rank=dist.get_rank(), count=dist.get_world_size(), device=device)
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "onnection" in str(error)):
            raise
        raise TrainingError(
            "another process of this training has ended, or cannot be reached; the same command goes on from "
            f"the last checkpoint ({str(error).strip().splitlines()[0]})"
        ) from None
    finally:
        if dist.is_initialized():
            # Models are in reference cycles and keep the group. Its threads have to end here: one that frees
            # a tensor while the interpreter shuts down aborts the process.
            gc.collect()
            dist.destroy_process_group()
