"""Hierarchies, one position after the other.

Legend: T positions of one document, D width, K chunks, P positions of a patch, G a position's share of a patch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from everlong.model.entropy import EntropyRise, EntropyThreshold
from everlong.model.tied import TiedLanguageModel
from everlong.resolution.capped import Capped
from everlong.resolution.chunkers import Chunker, FixedPatches, SpaceLike
from everlong.resolution.convolutions import Convolutions
from everlong.resolution.hierarchy import Hierarchy
from everlong.resolution.megabyte import CrossPatchMegabyte, Megabyte
from everlong.resolution.patches import Patches
from everlong.resolution.routing import PaperRouting, Routing
from tests.oracles.parts import Weights, oracle, run, under


def opened(config: Chunker.Config, weights: Weights, e_TD: Tensor, ids: list[int]) -> list[tuple[bool, Tensor | None]]:
    """Whether each position opens a chunk, and its p if the chunker has learnt it."""
    found: list[tuple[bool, Tensor | None]] = []
    if isinstance(config, Capped.Config):
        opened_in: dict[int, int] = {}
        for t, (opens, p) in enumerate(opened(config.inner, under(weights, "inner."), e_TD, ids)):
            stretch = t // config.positions
            opened_in[stretch] = opened_in.get(stretch, 0) + opens
            found.append((opens and opened_in[stretch] <= config.chunks, p))
        return found
    if isinstance(config, EntropyThreshold.Config):
        ids_T = torch.tensor(ids)
        p_TV = run(config.model, weights, e_TD.new_zeros(len(ids), config.model.body.width), ids_T).softmax(-1)
        entropy = [-sum(p * math.log2(p) for p in p_V) for p_V in p_TV.tolist()]
        before = [0.0, *entropy] if isinstance(config, EntropyRise.Config) else [0.0] * len(ids)
        return [(t == 0 or entropy[t] - before[t] > config.threshold, None) for t in range(len(ids))]
    for t, token in enumerate(ids):
        match config:
            case FixedPatches.Config():
                found.append((t % config.size == 0, None))
            case SpaceLike.Config():
                word = [any(low <= i <= high for low, high in config.word) for i in (ids[t - 1], token)]
                found.append((t == 0 or word == [True, False], None))
            case Routing.Config():
                p = e_TD.new_ones(())
                if t > 0:
                    q, k = weights["q.weight"], weights["k.weight"]
                    paper = isinstance(config, PaperRouting.Config)
                    a, b = (q @ e_TD[t], k @ e_TD[t - 1]) if paper else (q @ e_TD[t - 1], k @ e_TD[t])
                    p = (1 - (a @ b) / (a.norm() * b.norm())) / 2
                found.append((bool(p > 0.5), p))
    return found


@oracle(Hierarchy.Config)
def hierarchy(config: Hierarchy.Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """s_k = P_k z_k + (1 - P_k) s_{k-1}; y = decoder(c_t / |c_t| s_{chunk of t} + W e_t + b), the quotient having the
    gradient of c alone."""
    e_TD = run(config.encoder, under(weights, "encoder."), x_TD, ids_T)
    opening = opened(config.chunker, under(weights, "chunker."), e_TD, ids_T.tolist())
    index = [t for t, (opens, _) in enumerate(opening) if opens]
    told_KI = e_TD[index]
    if "wider" in weights:
        told_KI = torch.cat([told_KI, weights["wider"].expand(len(index), -1)], dim=1)
    z_KI = run(config.inner, under(weights, "inner."), told_KI, ids_T[index])
    s_D, k, rows = e_TD.new_zeros(config.width), 0, []
    for opens, p in opening:
        if opens:
            gain = 1.0 if p is None else p.clamp(1e-4, 1 - 1e-4)
            s_D, k = gain * z_KI[k, : config.width] + (1 - gain) * s_D, k + 1
        c = 1.0 if p is None else p if opens else 1 - p
        rows.append(s_D * (c if p is None else c - c.detach() + 1))
    inside_TD = torch.stack(rows) + e_TD @ weights["residual.weight"].T + weights["residual.bias"]
    return run(config.decoder, under(weights, "decoder."), inside_TD, ids_T)


@oracle(Convolutions.Config)
def convolutions(config: Convolutions.Config, weights: Weights, x_TD: Tensor, _ids_T: Tensor) -> Tensor:
    """h_t <- h_t + relu(b + sum_j W_j h_{t-j}), layer by layer; W_j are side by side in a layer's matrix."""
    for i, K in enumerate(config.taps):
        taps_KGG = weights[f"layers.{i}.weight"].split(config.width, dim=1)
        rows = []
        for t, x_D in enumerate(x_TD):
            heard_D = weights[f"layers.{i}.bias"]
            for j in range(min(K, t + 1)):
                heard_D = heard_D + taps_KGG[j] @ x_TD[t - j]
            rows.append(x_D + heard_D.clamp(min=0))
        x_TD = torch.stack(rows)
    return x_TD


@oracle(Patches.Config, Megabyte.Config, CrossPatchMegabyte.Config)
def patches(config: Patches.Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """Patch by patch: what the inner part is told, what it says to each slot, and the local part on it."""
    P = config.patch
    if isinstance(config, Megabyte.Config):
        h_TG = weights["embed.weight"][ids_T]
        if config.positions is not None:
            position_NG = weights["position.weight"]
            h_TG = h_TG + torch.cat([position_NG[:1], position_NG[: len(h_TG) - 1]])
    else:
        h_TG = x_TD @ weights["embed.weight"].T
    if config.encoder is not None:
        h_TG = run(config.encoder, under(weights, "encoder."), h_TG, ids_T)
    begins = range(0, len(x_TD), P)
    told = [weights["first_patch"].flatten()] + [torch.cat(list(h_TG[n - P + 1 : n + 1])) for n in begins[1:]]
    g_KX = run(config.inner, under(weights, "inner."), torch.stack(told), ids_T[list(begins)])
    outputs = []
    for k, begin in enumerate(begins):
        rows = []
        for p, x_D in enumerate(x_TD[begin : begin + P]):
            heard_D = weights["first_slot"] if p == 0 and k > 0 else x_D
            rows.append(weights["told.weight"] @ g_KX[k].split(config.inner.width // P)[p] + heard_D)
        outputs.append(torch.stack(rows))
    local = under(weights, "local.")
    if isinstance(config, CrossPatchMegabyte.Config):  # whose attention knows the patches
        return run(config.local, local, torch.cat(outputs), ids_T)
    patches = zip(outputs, ids_T.split(P), strict=True)
    return torch.cat([run(config.local, local, l_PD, ids_P) for l_PD, ids_P in patches])


@oracle(TiedLanguageModel.Config)
def tied(config: TiedLanguageModel.Config, weights: Weights, x_TD: Tensor, ids_T: Tensor) -> Tensor:
    """E body(10 sqrt(D) (E[id] + x)); the catalogue adds the vectors to the embeddings."""
    inner = under(weights, "model.")
    e_VD = inner["embedding.weight"]
    inside_TD = 10 * math.sqrt(config.body.width) * (e_VD[ids_T] + x_TD)
    return run(config.body, under(inner, "body."), inside_TD, ids_T) @ e_VD.T
