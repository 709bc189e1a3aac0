"""Reading prompts of any lengths, in one pass.

Legend: B batch rows, T positions, V vocabulary.

Rows are padded on the right, with the padding marked as not real; calls without padding are plain, so prompts of one
length keep a model on its fast path, for decoding too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from everlong.core.errors import ContextError
from everlong.data.codec import Codec
from everlong.generate.stream import longest_call
from everlong.generate.text import as_bytes
from everlong.model.language_model import LanguageModel, StreamState

PIECE = 4096
"""Most positions of one call."""

Ids = list[Int64[np.ndarray, " _"]]
"""Of every row, what it is to read."""


def prefill(
    model: LanguageModel, codec: Codec, prompts: Sequence[bytes | str], state: StreamState | None = None
) -> tuple[Float[Tensor, "b v"], StreamState]:
    """Reads prompts.

    Args:
        prompts: one a row; an empty one is BOS alone.
        state: streams that the prompts continue, row by row. `None`: every prompt begins a document.

    Returns:
        Logits of every row's next token, and the state after its prompt.

    Raises:
        ContextError: no prompts, a state of other rows, an empty prompt that continues a state, or a prompt that
            exceeds the model's `context_limit`; all before any work.
        DataError: a prompt is no text.
    """
    return read(model, prompt_ids(model, codec, prompts, state, new=1), codec.pad, state)


def prompt_ids(
    model: LanguageModel, codec: Codec, prompts: Sequence[bytes | str], state: StreamState | None, *, new: int
) -> Ids:
    """The ids that each row is to read, checked against the model's limit with `new` tokens to be made of them."""
    begin = np.array([codec.bos] if state is None else [], dtype=np.int64)
    ids = [np.concatenate([begin, codec.encode(as_bytes(prompt, "prompt"))]) for prompt in prompts]
    if not ids:
        raise ContextError("prompts", 0, "give at least one; an empty prompt is BOS alone")
    if not all(len(row) for row in ids):
        raise ContextError("prompt", "", "a state predicts nothing by itself: continue it with at least one token")
    read_B = [0] * len(ids) if state is None else state.position_B.tolist()
    if len(read_B) != len(ids):
        raise ContextError("state", f"{len(read_B)} rows", f"there are {len(ids)} prompts: use repeat_rows")
    limit = model.config.context_limit
    for i, (row, read) in enumerate(zip(ids, read_B, strict=True)):
        if limit is not None and (needed := read + len(row) + new - 1) > limit:  # the last token is not read
            what = f"{read + len(row)} tokens (BOS included), and {new} new"
            remedy = f"{needed} positions exceed this model's context_limit, {limit}: shorten it, or make fewer tokens"
            raise ContextError(f"prompt {i}", what, remedy)
    return ids


@torch.inference_mode()
def read(
    model: LanguageModel, ids: Ids, pad: int, state: StreamState | None
) -> tuple[Float[Tensor, "b v"], StreamState]:
    """Reads every row to its end; the logits are those behind its last token."""
    ids_BT, real_BT = right_padded(ids, pad, next(model.parameters()).device)
    B, T = ids_BT.shape
    end_B, rows = real_BT.sum(1), torch.arange(B, device=ids_BT.device)
    logits_BV = torch.empty(0)
    piece = min(PIECE, longest_call(model, B))
    for start in range(0, T, piece):
        real = real_BT[:, start : start + piece]
        output = model(ids_BT[:, start : start + piece], state, real=None if bool(real.all()) else real)
        state = output.state
        last_BV = output.logits[rows, (end_B - start - 1).clamp(0, real.shape[1] - 1)]
        logits_BV = torch.where((end_B > start)[:, None], last_BV, logits_BV) if start else last_BV
    assert state is not None  # every row has a token
    return logits_BV, state


def right_padded(ids: Ids, pad: int, device: torch.device) -> tuple[Int64[Tensor, "b t"], Bool[Tensor, "b t"]]:
    """Rows of one length, and which of their positions are real."""
    T = max(map(len, ids))
    ids_BT = torch.full((len(ids), T), pad)
    for row, ids_T in zip(ids_BT, ids, strict=True):
        row[: len(ids_T)] = torch.from_numpy(ids_T)
    length_B1 = torch.tensor([[len(ids_T)] for ids_T in ids])
    return ids_BT.to(device), (torch.arange(T) < length_B1).to(device)
