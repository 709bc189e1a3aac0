"""Torch's own fused attention, device by device, behind one interface.

Legend: N sequences, L queries, M keys, H query heads, G key/value heads, R query heads of each, D head size.

They are private operators of torch: each is used only if it has the schema that this file was written for. What is
known of them:

CPU, flash: the last dimension must have stride 1; empty queries or keys kill the process; a row whose mask hides every
key gets log-sum-exp 0 instead of -inf; it works through whole tiles of 512 keys, so a causal square of 512 positions
costs as much as the full one.

CUDA, flash: half precision, no mask, a head size of at most 256 that 8 divides. CUDA, efficient: single precision too,
and an additive mask; as many key/value heads as query heads, a head size and rows of the mask that 8 divides, rows of
log-sum-exps that 32 divides; a row whose mask hides every key is undefined.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

aten = torch.ops.aten
HALF = (torch.float16, torch.bfloat16)


class Met(NamedTuple):
    """Queries that meet keys and values; none of them is empty, and last dimensions have stride 1."""

    q_NHLD: Tensor
    k_NGMD: Tensor
    v_NGMD: Tensor
    visible: Tensor | None
    """Pairs, (L, M) or (N, H or 1, L, M); `None`: all of them, or those of a causal square."""
    causal: bool
    scale: float


class Operator:
    """One of torch's."""

    schemas: ClassVar[dict[str, str]]
    """What it calls, with the arguments and results that are counted on."""

    def forward(self, met: Met) -> tuple[Tensor, Tensor]:
        """Output (N, H, L, D), and log-sum-exp (N, H, L), which is -inf where a query sees no key."""
        raise NotImplementedError

    def backward(self, met: Met, grad: Tensor, out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of queries, keys and values, given an output and a log-sum-exp that need not be its own: see
        `attention.py`. A row with log-sum-exp +inf gives none."""
        raise NotImplementedError


def fits(operator: Operator) -> bool:
    """Whether torch has what the operator calls."""
    return all(schema_of(name) == f"aten::{name}{schema}" for name, schema in operator.schemas.items())


def schema_of(name: str) -> str | None:
    """The schema of an operator of torch; `None` if there is none."""
    op = getattr(aten, name, None)
    return None if op is None else str(op.default._schema)


class CpuFlash(Operator):
    """For every floating dtype, without a copy."""

    schemas: ClassVar = {
        "_scaled_dot_product_flash_attention_for_cpu": "(Tensor query, Tensor key, Tensor value, float dropout_p=0., "
        "bool is_causal=False, *, Tensor? attn_mask=None, float? scale=None) -> (Tensor output, Tensor logsumexp)",
        "_scaled_dot_product_flash_attention_for_cpu_backward": "(Tensor grad_out, Tensor query, Tensor key, "
        "Tensor value, Tensor out, Tensor logsumexp, float dropout_p, bool is_causal, *, Tensor? attn_mask=None, "
        "float? scale=None) -> (Tensor grad_query, Tensor grad_key, Tensor grad_value)",
    }

    def forward(self, met: Met) -> tuple[Tensor, Tensor]:
        q, k, v, visible, causal, scale = met
        mask = None if visible is None else _additive(visible, q.dtype)
        out, lse = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, causal, attn_mask=mask, scale=scale)
        return out, _hidden(lse, visible)

    def backward(self, met: Met, grad: Tensor, out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, visible, causal, scale = met
        mask = None if visible is None else _additive(visible, q.dtype)
        return aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, q, k, v, out, lse, 0.0, causal, attn_mask=mask, scale=scale
        )


class CudaFlash(Operator):
    """For half precision, where all pairs are visible or those of a causal square."""

    schemas: ClassVar = {
        "_scaled_dot_product_flash_attention": "(Tensor query, Tensor key, Tensor value, float dropout_p=0., "
        "bool is_causal=False, bool return_debug_mask=False, *, float? scale=None) -> (Tensor output, "
        "Tensor logsumexp, Tensor cum_seq_q, Tensor cum_seq_k, SymInt max_q, SymInt max_k, Tensor rng_state, "
        "Tensor unused, Tensor debug_attn_mask)",
        "_scaled_dot_product_flash_attention_backward": "(Tensor grad_out, Tensor query, Tensor key, Tensor value, "
        "Tensor out, Tensor logsumexp, Tensor cum_seq_q, Tensor cum_seq_k, SymInt max_q, SymInt max_k, "
        "float dropout_p, bool is_causal, Tensor philox_seed, Tensor philox_offset, *, float? scale=None) -> "
        "(Tensor grad_query, Tensor grad_key, Tensor grad_value)",
    }

    @staticmethod
    def takes(met: Met) -> bool:
        """Whether these are for it."""
        return met.q_NHLD.dtype in HALF and met.visible is None and met.q_NHLD.shape[-1] in range(8, 257, 8)

    def forward(self, met: Met) -> tuple[Tensor, Tensor]:
        q, k, v, _, causal, scale = met
        out, lse, *_ = aten._scaled_dot_product_flash_attention(q, k, v, 0.0, causal, scale=scale)
        return out, lse

    def backward(self, met: Met, grad: Tensor, out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, _, causal, scale = met
        seed = torch.zeros(2, dtype=torch.uint64, device=q.device)  # of a dropout that there is not
        lengths = None, None, q.shape[2], k.shape[2]
        return aten._scaled_dot_product_flash_attention_backward(
            grad, q, k, v, out, lse.contiguous(), *lengths, 0.0, causal, seed, seed[:0], scale=scale
        )


class CudaEfficient(Operator):
    """For half and single precision and any pairs; key/value heads are copied for every query head."""

    schemas: ClassVar = {
        "_scaled_dot_product_efficient_attention": "(Tensor query, Tensor key, Tensor value, Tensor? attn_bias, "
        "bool compute_log_sumexp, float dropout_p=0., bool is_causal=False, *, float? scale=None) -> (Tensor output, "
        "Tensor log_sumexp, Tensor philox_seed, Tensor philox_offset)",
        "_scaled_dot_product_efficient_attention_backward": "(Tensor grad_out_, Tensor query, Tensor key, "
        "Tensor value, Tensor attn_bias, Tensor out, Tensor logsumexp, Tensor philox_seed, Tensor philox_offset, "
        "float dropout_p, bool[4] grad_input_mask, bool is_causal=False, *, float? scale=None) -> (Tensor, Tensor, "
        "Tensor, Tensor)",
    }

    def forward(self, met: Met) -> tuple[Tensor, Tensor]:
        (L, D), (q, k, v) = met.q_NHLD.shape[2:], self._wide(met)
        seen = None if met.visible is None else met.visible | ~met.visible.any(-1, keepdim=True)
        out, lse, *_ = aten._scaled_dot_product_efficient_attention(
            q, k, v, self._bias(met, seen), True, 0.0, met.causal, scale=met.scale
        )
        return out[..., :D], _hidden(lse[..., :L], met.visible)

    def backward(self, met: Met, grad: Tensor, out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        D, groups, (q, k, v) = met.q_NHLD.shape[3], met.k_NGMD.shape[1], self._wide(met)
        grad, out, lse = _filled(grad, 8), _filled(out, 8), _filled(lse, 32, torch.inf).contiguous()
        bias, seed = self._bias(met, met.visible), torch.zeros((), dtype=torch.int64)  # of a dropout that there is not
        found = aten._scaled_dot_product_efficient_attention_backward(
            grad, q, k, v, bias, out, lse, seed, seed, 0.0, [True, True, True, False], met.causal, scale=met.scale
        )
        grad_q, grad_k, grad_v = (x[..., :D] for x in found[:3])
        return grad_q, *(x.unflatten(1, (groups, -1)).sum(2) for x in (grad_k, grad_v))

    @staticmethod
    def _wide(met: Met) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values with as many heads, whose size 8 divides."""
        R = met.q_NHLD.shape[1] // met.k_NGMD.shape[1]
        k, v = (x.repeat_interleave(R, dim=1) for x in (met.k_NGMD, met.v_NGMD))
        return _filled(met.q_NHLD, 8), _filled(k, 8), _filled(v, 8)

    @staticmethod
    def _bias(met: Met, visible: Tensor | None) -> Tensor | None:
        """The mask of visible pairs, whose rows begin at multiples of 8."""
        if visible is None:
            return None
        M = met.k_NGMD.shape[2]
        return _filled(_additive(visible, met.q_NHLD.dtype), 8)[..., :M].expand(*met.q_NHLD.shape[:3], M)


class Cuda(Operator):
    """Flash where it can, else efficient attention."""

    flash, efficient = CudaFlash(), CudaEfficient()
    schemas: ClassVar = flash.schemas | efficient.schemas

    def forward(self, met: Met) -> tuple[Tensor, Tensor]:
        return self._of(met).forward(met)

    def backward(self, met: Met, grad: Tensor, out: Tensor, lse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._of(met).backward(met, grad, out, lse)

    def _of(self, met: Met) -> Operator:
        return self.flash if self.flash.takes(met) else self.efficient


def _additive(visible: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a pair is visible, -inf where not."""
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, -torch.inf)


def _hidden(lse_NHL: Tensor, visible: Tensor | None) -> Tensor:
    """The log-sum-exps, -inf for queries that see nothing."""
    return lse_NHL if visible is None else lse_NHL.masked_fill(~visible.any(-1), -torch.inf)


def _filled(x: Tensor, multiple: int, value: float = 0.0) -> Tensor:
    """The last dimension made longer, to a multiple."""
    return F.pad(x, (0, -x.shape[-1] % multiple), value=value) if x.shape[-1] % multiple else x
