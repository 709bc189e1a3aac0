"""How much memory training takes, from a configuration alone, without allocating it; and how much a process took.

The tensors that live when a forward pass has ended and gradients of an earlier one are kept,

    weights + gradients + optimizer + activations,

all in float32 but for the activations. The optimizer keeps two numbers a parameter, as AdamW does (Muon keeps one
for its matrices), and one number a row of a table, whose gradient holds only the rows that were looked up and is not
counted. The activations are exactly what autograd saves: a forward pass over fake tensors is run, which
have shapes but no content, and every storage that it saves counts once. So it holds for any architecture.

Not in it: PyTorch itself (some 250 MB), and what single operators need for a moment. Against the growth of resident
memory in three steps of training on Linux (float32 and bfloat16, 0.4M to 32M parameters, 80 MB to 1 GB), the sum
was 5 to 25 % too low for models of less than 2M parameters and 12 % too high for the largest, since gradients grow
while activations go. With glibc's default allocator, which keeps freed blocks, resident memory was up to 1.8 times
the sum; `MALLOC_MMAP_THRESHOLD_=65536` makes it return them.
"""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from everlong.core.accounting import parameter_count, parameter_hints
from everlong.model.language_model import LanguageModel
from everlong.train.precision import Precision, autocast


@dataclass(frozen=True)
class Memory:
    """Bytes of memory for training."""

    weights: int
    gradients: int
    optimizer: int
    activations: int | None
    """`None`: their shapes depend on the data, as those of learned chunks do."""

    @property
    def total(self) -> int:
        """Of what is known."""
        return self.weights + self.gradients + self.optimizer + (self.activations or 0)


def training_memory(config: LanguageModel.Config, *, window: int, batch: int, precision: Precision) -> Memory:
    """Memory for training with AdamW on batches of `batch` rows of `window` tokens; see the top of this file.

    Args:
        precision: of matrix products, while weights stay float32.
    """
    with FakeTensorMode():
        model = config.replace(context_limit=None).build().train()  # a limit is checked by looking at values
        tables = [parameter for _, parameter, hint in parameter_hints(model) if hint.sparse]
        weights, rows = parameter_count(model) * 4, sum(map(len, tables)) * 4
        dense = weights - sum(table.numel() for table in tables) * 4
        activations = _saved_bytes(model, window, batch, precision)
    return Memory(weights=weights, gradients=dense, optimizer=2 * dense + rows, activations=activations)


def _saved_bytes(model: LanguageModel, window: int, batch: int, precision: Precision) -> int | None:
    """Bytes that autograd keeps between the forward and the backward pass, beside the weights; `None` where the model
    looks at values, which fake tensors do not have."""
    known = {id(parameter.untyped_storage()) for parameter in model.parameters()}
    saved: dict[int, torch.UntypedStorage] = {}  # it holds them, so that no two can have the same id

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if id(storage) not in known:
            saved[id(storage)] = storage
        return tensor

    ids_BT = torch.zeros(batch, window, dtype=torch.long)
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        autocast(torch.device("cpu"), precision),
    ):
        try:
            logits_BTV = model(ids_BT).logits
        except (DataDependentOutputException, DynamicOutputShapeException):
            return None
        F.cross_entropy(logits_BTV.flatten(0, 1).float(), ids_BT.flatten())
    return sum(storage.nbytes() for storage in saved.values())


def highest_resident() -> int:
    """The most bytes of memory that this process has held at once."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where `getrusage` begins with the number of the process that started this one
        return 1024 * int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
