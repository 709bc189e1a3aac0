"""What n-gram memory does: which of its rows text reaches, how n-grams share them, and what a model is without it.

Legend: B rows of a batch, T positions, A addresses a position, N n-grams.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from everlong.core.config import check
from everlong.core.span import Span
from everlong.data import TokenStore
from everlong.evaluate.bits_per_byte import evaluate
from everlong.memory.engram import Engram
from everlong.memory.over_encoding import OverEncoding
from everlong.model.language_model import LanguageModel


@dataclass(frozen=True)
class Occupancy:
    """How the n-grams of one order lie in the tables of one memory."""

    memory: str
    """Its name in the model."""
    order: int
    heads: int
    rows: int
    """Of a head, on average."""
    reads: int
    """Positions that were read."""
    distinct: int
    """N, different n-grams among them, as they are hashed."""
    used: float
    """Share of the rows that one of them addresses, mean over heads."""
    colliding: float
    """Share of them that share their row with another, mean over heads."""
    colliding_everywhere: float
    """Share of them that share their row with some other in every head."""
    hits: float
    """Share of the reads that found a row that training has written to, mean over heads."""


@dataclass(frozen=True)
class MemoryReport:
    """What the n-gram memories of a model do for some documents."""

    without: float
    """Bits per byte of the model with its memories switched off."""
    without_error: float | None
    """Its standard error over documents."""
    occupancy: list[Occupancy]


def memory_report(
    model: LanguageModel, documents: TokenStore, *, batch: int = 16, context: int | None = None
) -> MemoryReport:
    """Measures documents without the model's n-gram memories, and looks into these.

    Args:
        batch, context: as in `evaluate`.

    Raises:
        ConfigError: the model has no n-gram memory.
    """
    device = next(model.parameters()).device
    with switched_off(model):
        without = evaluate(model, documents, batch=batch, context=context)
    ids = (documents.document(i).astype(np.int64) for i in range(len(documents)))
    texts = [torch.from_numpy(ids_T)[None].to(device) for ids_T in ids]
    return MemoryReport(without.bits_per_byte, without.standard_error, occupancy(model, texts))


def memories(model: nn.Module) -> dict[str, Engram | OverEncoding]:
    """The n-gram memories of a model, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Engram | OverEncoding)}


@contextmanager
def switched_off(model: nn.Module) -> Iterator[None]:
    """The model without what its n-gram memories add, inside the context. Its states stay as they would be.

    Raises:
        ConfigError: it has no n-gram memory.
    """
    found = memories(model)
    check(bool(found), "model", type(model).__name__, "has no n-gram memory that could be switched off")

    def nothing(_module: nn.Module, _inputs: Any, answer: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        return torch.zeros_like(answer[0]), answer[1]

    def unchanged(_module: nn.Module, inputs: tuple[Any, ...], answer: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        return inputs[0], answer[1]

    with ExitStack() as stack:
        for memory in found.values():
            hook = memory.register_forward_hook(nothing if isinstance(memory, Engram) else unchanged)
            stack.callback(hook.remove)
        yield


@torch.no_grad()
def occupancy(model: nn.Module, texts: Iterable[Tensor]) -> list[Occupancy]:
    """How the n-grams of some texts lie in the tables of a model, each row of ids a document.

    Args:
        texts: ids (rows, positions); memory is needed for all their n-grams at once.

    Raises:
        ConfigError: the model has no n-gram memory, or there is no text.
    """
    found, texts = memories(model), list(texts)
    check(bool(found), "model", type(model).__name__, "has no n-gram memory to look into")
    check(bool(texts), "texts", len(texts), "must hold at least one batch of ids")
    return [one for name, memory in found.items() for one in _of_memory(name, memory, texts)]


def _of_memory(name: str, memory: Engram | OverEncoding, texts: list[Tensor]) -> Iterator[Occupancy]:
    addresses_RA = torch.cat([memory.hash(Span.plain_from(ids_BT))[0].flatten(0, 1) for ids_BT in texts])
    hash, first = memory.hash.config, 0
    for order, primes in zip(hash.orders, hash.primes, strict=True):
        own_RK = addresses_RA[:, first : first + len(primes)]
        first += len(primes)
        grams_NK = _grams(memory, order, texts, own_RK)
        shared_NK = torch.stack([_shared(row_N) for row_N in grams_NK.T], dim=1)
        used = [len(row_N.unique()) / prime for row_N, prime in zip(grams_NK.T, primes, strict=True)]
        yield Occupancy(
            memory=name,
            order=order,
            heads=len(primes),
            rows=round(sum(primes) / len(primes)),
            reads=len(own_RK),
            distinct=len(grams_NK),
            used=sum(used) / len(used),
            colliding=shared_NK.double().mean().item(),
            colliding_everywhere=shared_NK.all(1).double().mean().item(),
            hits=_written(memory, own_RK).double().mean().item(),
        )


def _grams(memory: Engram | OverEncoding, order: int, texts: list[Tensor], address_RK: Tensor) -> Tensor:
    """The addresses of every different n-gram of an order, once each."""
    ids_RN = torch.cat([_windows(memory, ids_BT, order) for ids_BT in texts])
    _, which_R = ids_RN.unique(dim=0, return_inverse=True)
    first_N = torch.full((int(which_R.max()) + 1,), len(which_R), device=which_R.device)
    first_N = first_N.scatter_reduce(0, which_R, torch.arange(len(which_R), device=which_R.device), "amin")
    return address_RK[first_N]


def _windows(memory: Engram | OverEncoding, ids_BT: Tensor, order: int) -> Tensor:
    """The n-gram that ends at each position, as it is hashed."""
    hash = memory.hash
    ids_BT = ids_BT if hash.compressed_V is None else hash.compressed_V[ids_BT]
    before_BL = ids_BT.new_full((len(ids_BT), order - 1), hash.pad)
    return torch.cat([before_BL, ids_BT], dim=1).unfold(1, order, 1).flatten(0, 1)


def _written(memory: Engram | OverEncoding, address_RK: Tensor) -> Tensor:
    """Which addresses have a row that is not zero, as all are at first."""
    row_U, which_RK = address_RK.unique(return_inverse=True)
    return (memory.table.rows[row_U.to(memory.table.rows.device)] != 0).any(1).to(which_RK.device)[which_RK]


def _shared(row_N: Tensor) -> Tensor:
    """Which n-grams have their row not for themselves."""
    _, which_N, count = row_N.unique(return_inverse=True, return_counts=True)
    return count[which_N] > 1
