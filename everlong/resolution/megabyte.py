"""MEGABYTE: patches of bytes with an embedding of their own (arXiv 2305.07185, sec. 2).

Legend: B batch rows, T positions of this call, P bytes of a patch, G width of a byte in the global part, L local width.

    h_n = E_global[x_n] + E_position[n - 1]                                  (what opens a document has E_position[0])

as `Patches` in all else: the global part hears the P embeddings of a patch side by side (width P G), the local part
the language model's own embeddings, a table apart, to which its head is tied (`model/tied.py`). E_position is
optional, since it bounds the length of a document. With cross-patch attention (sec. 2.3.2) the local part hears the
stream as it is, and sees for itself where a patch ends.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from everlong.core.accounting import Hint
from everlong.core.config import check
from everlong.core.errors import ContextError
from everlong.core.span import Span
from everlong.resolution.chunks import Chunks
from everlong.resolution.patches import Patches


class Megabyte(Patches):
    """MEGABYTE's global and local part. Its input is the local embedding of bytes."""

    hints = {  # noqa: RUF012
        **Patches.hints,
        "embed": Hint(matrix=False, decay=False),
        "position": Hint(matrix=False, decay=False),
    }

    class Config(Patches.Config):
        vocabulary: int
        """V, token ids 0 .. V-1 of the global embedding."""
        positions: int | None
        """Rows of E_position, the longest document without its first token (BOS). `None`: no E_position; the parts'
        own position encodings remain."""

    def make_embedding(self, config: Megabyte.Config) -> None:  # type: ignore[override]
        check(config.vocabulary >= 2, "megabyte.vocabulary", config.vocabulary, "must be at least 2")
        positions = config.positions
        check(positions is None or positions >= 1, "megabyte.positions", positions, "must be at least 1, or None")
        self.embed = nn.Embedding(config.vocabulary, self.share)
        self.position = None if positions is None else nn.Embedding(positions, self.share)
        if self.position is None:
            self.hints = {name: hint for name, hint in self.hints.items() if name != "position"}

    def embedded(self, x_BTL: Tensor, span: Span) -> Tensor:
        h_BTG = self.embed(span.ids_BT)
        if self.position is not None:
            place_BT = (span.position_BT - 1).clamp(min=0)
            if span.real_BT is not None:
                place_BT = torch.where(span.real_BT, place_BT, 0)
            self._check(place_BT)
            h_BTG = h_BTG + self.position(place_BT)
        return h_BTG.to(x_BTL.dtype)

    def _check(self, place_BT: Tensor) -> None:
        assert self.position is not None
        longest = int(place_BT.max()) + 1
        limit = self.position.num_embeddings
        if longest > limit:
            remedy = f"this model knows {limit} positions: shorten the document, or build it with positions=None"
            raise ContextError("bytes of a document", longest, remedy)

    def embedding_flops(self, T: int) -> int:
        return 0


class CrossPatchMegabyte(Megabyte):
    """MEGABYTE whose local part also sees the end of the patch before. It must attend so itself: its mixers are
    `PatchAttention` of the same patch."""

    class Config(Megabyte.Config):
        pass

    def _local_plain(self, l_BTL: Tensor, span: Span, slot_T: Tensor, first: int, state: Any) -> tuple[Tensor, Any]:
        return self.local(l_BTL, span, state)

    def _local_ragged(
        self, l_BTL: Tensor, span: Span, chunks: Chunks, slot_BT: Tensor, opens_BT: Tensor, state: Any
    ) -> tuple[Tensor, Any]:
        return self.local(l_BTL, span, state)

    def local_flops(self, T: int) -> int:
        return self.local.flops(T)

    def local_state_bytes(self, T: int) -> int:
        return self.local.state_bytes(T)
