"""The compressive memory of Infini-attention (Munkhdalai et al. 2024, arXiv 2404.07143, section 2.1.2) and its updates.

Legend: B batch rows, S segments, N positions of a segment, G key/value heads, E head size (of keys), F (of values).

A memory is a matrix M (E, F) and a normaliser z (E) a head. With sigma(x) = ELU(x) + 1, row by row,

    recall(s) = s M / (s z),                              0 where s z = 0: nothing was written        (eq. 7)
    linear:        M' = M + sigma(K)^T V                                                             (eq. 8)
    delta:         M' = M + sigma(K)^T (V - sigma(K) M / (sigma(K) z))                               (eq. 9)
    delta, stable: M' = M + sigma(K)^T (V - sigma(K) M / (sigma(K) z'))
    all:           z' = z + sum_t sigma(K_t).

The paper's delta rule divides by what was there before, and so amplifies what it should replace where a segment
outweighs the past. Divided by z', which counts the segment itself, it never does: with D = diag(sigma(K) z'), the rows
of D^-1 sigma(K) sigma(K)^T are not negative and sum to sigma(K_i) (z' - z) / (sigma(K_i) z') <= 1, so that the
symmetric matrix sigma(K)^T D^-1 sigma(K) has eigenvalues in [0, 1].

The gated delta rule (after Yang et al. 2024, arXiv 2412.06464, at the pace of segments) also forgets, and chooses how
much each position writes. With a strength b_t = sigmoid(w_b k_t + c_b) a position, and one decay a segment,
a = exp(-mean_t softplus(w_a k_t + c_a)),

    z' = a z + sum_t b_t sigma(k_t),   M' = a M + sum_t b_t sigma(k_t)^T (v_t - a sigma(k_t) M / (sigma(k_t) z')),

which is the stable rule at a = b = 1, and no more expansive than it. The gates read the raw key, which the open segment
keeps anyhow.

Many segments at once: every rule is M' = a (M - C M) + W with C (E, E) and W (E, F) from keys, values and z alone, and
z is known in advance. So C and W are batched products, and only (E, E) (E, F) is left to be done in order.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from everlong.core.config import Config, Configurable, check
from everlong.core.exact import softplus
from everlong.core.state import State
from everlong.kernels.recall import recall, sigma
from everlong.kernels.writing import corrections, written


class Memory(State):
    """What older segments left, in float32 or better; both are zero before anything was written. Any dimensions may
    stand between the batch rows and the heads."""

    m_BGEF: Float[Tensor, "b *s g e f"]
    z_BGE: Float[Tensor, "b *s g e"]

    @property
    def beside(self) -> Float[Tensor, "b *s g e k"]:
        """M and z side by side, K = F + 1, for one product with both."""
        return torch.cat([self.m_BGEF, self.z_BGE[..., None]], dim=-1)


class Update(nn.Module, Configurable):
    """How a closed segment is written. `write` is the rule; `scan` gives the same for many segments."""

    class Config(Config):
        def build(self, kv_heads: int, head: int) -> Update:
            """The rule for memories of so many heads of this size."""
            return self.builds(self, kv_heads, head)  # type: ignore[misc]  # set by Configurable

    def __init__(self, config: Update.Config, kv_heads: int, head: int) -> None:
        super().__init__()

    def write(self, k_BGNE: Float[Tensor, "b g n e"], v_BGNF: Float[Tensor, "b g n f"], memory: Memory) -> Memory:
        """The memory after one more segment of raw keys and values."""
        raise NotImplementedError

    def scan(
        self,
        k_BSNGE: Float[Tensor, "b s n g e"],
        v_BSNGF: Float[Tensor, "b s n g f"],
        memory: Memory,
        fresh_BS: Bool[Tensor, "b s"] | None = None,
    ) -> Memory:
        """The memories before every one of the segments and after the last, along a dimension of S + 1.

        Args:
            fresh_BS: where a segment is the first of a document, which begins with an empty memory.
        """
        raise NotImplementedError

    def flops(self, N: int, head: int) -> int:
        """FLOPs of `write` for one head."""
        raise NotImplementedError


class Linear(Update):
    """Sums (eq. 8)."""

    class Config(Update.Config):
        pass

    def write(self, k_BGNE: Tensor, v_BGNF: Tensor, memory: Memory) -> Memory:
        s_BGNE = sigma(k_BGNE)
        return Memory(memory.m_BGEF + s_BGNE.mT @ v_BGNF, memory.z_BGE + s_BGNE.sum(-2))

    def scan(self, k_BSNGE: Tensor, v_BSNGF: Tensor, memory: Memory, fresh_BS: Tensor | None = None) -> Memory:
        new_BSGEK = written(k_BSNGE.flatten(0, 1), v_BSNGF.flatten(0, 1)).unflatten(0, k_BSNGE.shape[:2])
        return Memory(
            _sums(memory.m_BGEF, new_BSGEK[..., :-1], fresh_BS), _sums(memory.z_BGE, new_BSGEK[..., -1], fresh_BS)
        )

    def flops(self, N: int, head: int) -> int:
        return 2 * N * head * head


class Delta(Update):
    """Writes what differs from what is recalled (eq. 9), as in the paper: not stable where segments or keys vary."""

    class Config(Update.Config):
        pass

    def write(self, k_BGNE: Tensor, v_BGNF: Tensor, memory: Memory) -> Memory:
        s_BGNE = sigma(k_BGNE)
        strength_BNG, decay_BG = self.gates(k_BGNE.transpose(1, 2))
        w_BGNE = s_BGNE if strength_BNG is None else s_BGNE * strength_BNG.transpose(1, 2)[..., None]
        before = _decayed(memory, decay_BG)
        z_BGE = before.z_BGE + w_BGNE.sum(-2)
        old_BGNF, _ = recall(s_BGNE, Memory(before.m_BGEF, self.divisor(before.z_BGE, z_BGE)).beside)
        return Memory(before.m_BGEF + w_BGNE.mT @ (v_BGNF - old_BGNF), z_BGE)

    def scan(self, k_BSNGE: Tensor, v_BSNGF: Tensor, memory: Memory, fresh_BS: Tensor | None = None) -> Memory:
        many = k_BSNGE.shape[:2]
        strength_BSNG, decay_BSG = self.gates(k_BSNGE)
        k, v = k_BSNGE.flatten(0, 1), v_BSNGF.flatten(0, 1)
        strength = None if strength_BSNG is None else strength_BSNG.flatten(0, 1)
        new_BSGEK = written(k, v, strength).unflatten(0, many)
        keep_BSG = _kept(decay_BSG, fresh_BS)
        z_BSGE = _recurrence(memory.z_BGE, new_BSGEK[..., -1], keep_BSG)
        before_BSGE = z_BSGE[:, :-1] if keep_BSG is None else z_BSGE[:, :-1] * keep_BSG[..., None]
        divisor_BSGE = self.divisor(before_BSGE, z_BSGE[:, 1:])
        c_BSGEE = corrections(k, divisor_BSGE.flatten(0, 1), strength).unflatten(0, many)
        return Memory(_recurrence(memory.m_BGEF, new_BSGEK[..., :-1], keep_BSG, c_BSGEE), z_BSGE)

    def divisor(self, before_BGE: Tensor, after_BGE: Tensor) -> Tensor:
        """The normaliser by which recalled values are divided."""
        return before_BGE

    def gates(self, k_BNGE: Float[Tensor, "*b n g e"]) -> tuple[Tensor | None, Tensor | None]:
        """How strongly each position writes, (B, N, G), and the segment's decay, (B, G); where there are such."""
        return None, None

    def flops(self, N: int, head: int) -> int:
        return 2 * N * head * (head + 1) + 2 * N * head * head


class StableDelta(Delta):
    """The delta rule with the segment's own keys in the divisor: never expansive, whatever the segments."""

    class Config(Update.Config):
        pass

    def divisor(self, before_BGE: Tensor, after_BGE: Tensor) -> Tensor:
        return after_BGE


class GatedDelta(StableDelta):
    """The stable delta rule with a decay of every segment and a strength of every position, both from the keys."""

    class Config(Update.Config):
        forgetting: float = 0.01
        """-log a at first: how much of the memory a segment makes forget, before anything is learnt."""

    def __init__(self, config: GatedDelta.Config, kv_heads: int, head: int) -> None:
        super().__init__(config, kv_heads, head)
        remedy = "must lie between 0 and 10; 0.01 is usual"
        check(0 < config.forgetting < 10, "gated_delta.forgetting", config.forgetting, remedy)
        before_softplus = torch.tensor(config.forgetting).expm1().log().item()
        self.decay_key, self.strength_key = (nn.Parameter(torch.zeros(kv_heads, head)) for _ in range(2))
        self.decay_bias = nn.Parameter(torch.full((kv_heads,), before_softplus))
        self.strength_bias = nn.Parameter(torch.zeros(kv_heads))

    def gates(self, k_BNGE: Float[Tensor, "*b n g e"]) -> tuple[Tensor, Tensor]:
        weight_DG, strength_G, bias_G = (x.to(k_BNGE.dtype) for x in (self.keys(), self.strength_bias, self.decay_bias))
        strength_BNG, forget_BNG = (k_BNGE.flatten(-2) @ weight_DG).chunk(2, dim=-1)
        return torch.sigmoid(strength_BNG + strength_G), torch.exp(-softplus(forget_BNG + bias_G).mean(-2))

    def flops(self, N: int, head: int) -> int:
        return super().flops(N, head) + 4 * N * head * len(self.decay_bias)  # as `keys` has it

    def keys(self) -> Float[Tensor, "d g"]:
        """Both gates' weights as one matrix from the keys of all heads, D = G E, to 2 G: a head's gates see its own."""
        return torch.cat([torch.block_diag(*x_GE[..., None]) for x_GE in (self.strength_key, self.decay_key)], dim=1)


def _decayed(memory: Memory, decay_BG: Tensor | None) -> Memory:
    if decay_BG is None:
        return memory
    return Memory(memory.m_BGEF * decay_BG[..., None, None], memory.z_BGE * decay_BG[..., None])


def _kept(decay_BSG: Tensor | None, fresh_BS: Tensor | None) -> Tensor | None:
    """What factor of the memory each segment begins with: 0 where it is a document's first; `None`: 1 everywhere."""
    if fresh_BS is None:
        return decay_BSG
    goes_on_BS1 = (~fresh_BS)[..., None]
    return goes_on_BS1 if decay_BSG is None else goes_on_BS1 * decay_BSG


def _sums(start_BG: Tensor, new_BSG: Tensor, fresh_BS: Tensor | None) -> Tensor:
    """The start, and the sums after every segment; from nothing where one is fresh."""
    if fresh_BS is not None:
        return _recurrence(start_BG, new_BSG, _kept(None, fresh_BS))
    return torch.cat([start_BG[:, None], new_BSG], dim=1).cumsum(1)


def _recurrence(start_BG: Tensor, new_BSG: Tensor, keep_BSG: Tensor | None, c_BSGEE: Tensor | None = None) -> Tensor:
    """x_0 = start and x_s = keep_s (x_{s-1} - C_s x_{s-1}) + new_s, stacked."""
    if keep_BSG is None and c_BSGEE is None:
        return _sums(start_BG, new_BSG, None)
    x_BG, found = start_BG, [start_BG]
    for s, new_BG in enumerate(new_BSG.unbind(1)):
        if keep_BSG is not None:
            x_BG = x_BG * keep_BSG[:, s].reshape(*keep_BSG[:, s].shape, *[1] * (x_BG.ndim - 2))
        x_BG = x_BG + new_BG if c_BSGEE is None else x_BG + (new_BG - c_BSGEE[:, s] @ x_BG)
        found.append(x_BG)
    return torch.stack(found, dim=1)
