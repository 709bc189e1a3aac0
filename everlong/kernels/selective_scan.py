"""The selective scan (Gu & Dao 2023, arXiv 2312.00752, algorithm 2): a diagonal recurrence with a rate for each number.

Legend: B batch rows, T positions, E channels, N state size; c chunks of Q positions.

    h_t = exp(dt_t A) * h_{t-1} + dt_t x_t B_t^T,   y_t = h_t C_t                    h and A are E x N

Every number decays at its own rate, so it is no matrix product. All chunks are taken at once, position after position:
first from 0, which gives what each chunk adds and how it decays; then the states before the chunks follow from one
another; then again from those, for the outputs. That is Q + T / Q steps, and no exponent is above 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor

from everlong.core.errors import ContextError

CHUNK = 32  # positions of a chunk


def selective_scan(
    x_BTE: Float[Tensor, "b t e"],
    dt_BTE: Float[Tensor, "b t e"],
    A_EN: Float[Tensor, "e n"],
    B_BTN: Float[Tensor, "b t n"],
    C_BTN: Float[Tensor, "b t n"],
    *,
    state: Float[Tensor, "*given"] | None = None,
    documents: Int64[Tensor, "b t"] | None = None,
) -> tuple[Float[Tensor, "b t e"], Float[Tensor, "b e n"]]:
    """Continues the recurrence by T positions, in float32 or better.

    Args:
        dt_BTE: step sizes, at least 0; 0 where a position is not real.
        A_EN: rates, below 0.
        state: h before the first position (B, E, N); `None`: zeros.
        documents: 0 for what goes on with the state, one more at every position that begins a document.

    Returns:
        y at every position, and h after the last, both in at least float32.

    Raises:
        ContextError: no positions, or a state of another shape.
    """
    B, T, E = x_BTE.shape
    exact = torch.promote_types(x_BTE.dtype, torch.float32)
    x, dt, A, b, c = (z.to(exact) for z in (x_BTE, dt_BTE, A_EN, B_BTN, C_BTN))
    shape = B, E, A.shape[1]
    if T == 0:
        raise ContextError("x_BTE", "0 positions", "must hold at least one position")
    if state is not None and state.shape != shape:
        raise ContextError("state", tuple(state.shape), f"must be {shape}: pass what this very part returned")
    h_BEN = x.new_zeros(shape) if state is None else state.to(exact)
    begins_BT = torch.zeros_like(dt[..., 0]) if documents is None else _begins(documents)
    return _chunks(x * dt, dt, A, b, c, 1 - begins_BT.to(exact), h_BEN)


def _begins(documents: Tensor) -> Tensor:
    """Where a number is not that of the position before; 0 comes before the first."""
    return documents.diff(dim=1, prepend=documents.new_zeros(len(documents), 1)) != 0


def _chunks(
    X: Tensor, dt: Tensor, A: Tensor, b: Tensor, c: Tensor, goes_on: Tensor, h_BEN: Tensor
) -> tuple[Tensor, Tensor]:
    T = X.shape[1]
    chunk = min(CHUNK, T)
    X, dt, b, c = (_cut(z, chunk) for z in (X, dt, b, c))
    goes_on = _cut(goes_on[..., None], chunk, filler=1.0)
    steps = range(chunk)
    decays = [(dt[:, :, i, :, None] * A).exp() * goes_on[:, :, i, :, None] for i in steps]  # b c e n
    added = [X[:, :, i, :, None] @ b[:, :, i, None, :] for i in steps]  # b c e n
    h = _starts(decays, added, h_BEN) if X.shape[1] > 1 else h_BEN[:, None]
    outputs = []
    for i in steps:
        h = torch.addcmul(added[i], decays[i], h)
        outputs.append((h @ c[:, :, i, :, None])[..., 0])
    y_BTE = rearrange(torch.stack(outputs, dim=2), "b c q e -> b (c q) e")[:, :T]
    return y_BTE, h[:, -1].clone()


def _cut(x: Tensor, chunk: int, filler: float = 0.0) -> Tensor:
    """Chunks, b c q e, of which the last is filled up: with steps of 0, which change nothing."""
    missing = -x.shape[1] % chunk
    x = F.pad(x, (0, 0, 0, missing), value=filler) if missing else x
    return x.unflatten(1, (-1, chunk))


def _starts(decays: list[Tensor], added: list[Tensor], h_BEN: Tensor) -> Tensor:
    """The state before every chunk, b c e n."""
    end, total = added[0], decays[0]
    for add, decay in zip(added[1:], decays[1:], strict=True):
        end, total = torch.addcmul(add, decay, end), total * decay
    states = [h_BEN]
    for c in range(end.shape[1] - 1):
        states.append(torch.addcmul(end[:, c], total[:, c], states[-1]))
    return torch.stack(states, dim=1)
