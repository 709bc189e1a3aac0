"""Fixed patches: a wide inner part that hears whole patches, and a small local part inside each patch.

Legend: B batch rows, T positions of this call, P positions of a patch, K patches begun in this call, L local width,
G width that a position has in the inner part, whose own width is P G; N patches taken as batch rows.

MEGABYTE's scheme (arXiv 2305.07185, sec. 2) between vectors. Position n of a document is slot p = n mod P of patch
k = floor(n / P), and has h_n = embed(x_n):

    optionally, h = encoder(h), along the whole stream
    patch 0 is told a learned vector; patch k > 0 the concatenation of h over the P positions up to and with n = k P
    g_k = inner(what patch k is told)
    l_n = W g_k[p] + x_n,   at slot 0, but for the document's first position, a learned vector in place of x_n
    y_n = local(l_n), which hears its own patch only

A language model's input is its text shifted by one token, so what arrives at slot 0 is the last byte of the patch
before: that is the paper's shift of the inner part by a patch and of the local part by a byte, and y_n predicts slot p
of patch k. The token that opens a document (BOS) stands at slot 0 of patch 0, in place of the paper's local pad, and is
in no patch that the inner part is told.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from everlong.core.accounting import Hint, element_bytes, linear_flops
from everlong.core.config import check, check_divides
from everlong.core.part import Part
from everlong.core.span import Span
from everlong.core.state import State
from everlong.resolution.chunks import Chunks, places, real_positions, starts
from everlong.resolution.patch_rows import in_patches


class PatchesState(State):
    """Half a patch, what the inner part said of it, and the states of both parts."""

    pending_BRG: Float[Tensor, "b r g"]
    """h of the positions since the last complete patch, right-aligned."""
    slots_BPG: Float[Tensor, "b p g"]
    """g of the open patch."""
    heard_B: Int64[Tensor, " b"]
    """Positions of each row's document so far."""
    inner: Any
    local: Any
    encoder: Any = None
    length_B: Int64[Tensor, " b"] | None = None
    """How many of `pending_BRG` are real; `None`: all, in every row."""


class Patches(Part):
    """Fixed patches between vectors. State: half a patch, and those of the parts."""

    class Config(Part.Config):
        patch: int
        """P, positions of a patch."""
        inner: Part.Config
        """Hears one vector a patch; its width is P G. Token ids in it are those of the last position of the patch
        that it is told."""
        local: Part.Config
        """Hears the positions of one patch; of the width of the whole."""
        encoder: Part.Config | None = None
        """Reads h before it is cut into patches, such as `Convolutions`; its width is G. What opens a document (BOS)
        is its first left context."""

    def __init__(self, config: Patches.Config) -> None:
        super().__init__()
        check(config.patch >= 1, "patches.patch", config.patch, "must be at least 1")
        check_divides(config.patch, config.inner.width, "patches.patch", "patches.inner.width")
        own = config.local.width
        check(own == config.width, "patches.local.width", own, f"must be the width of the whole, {config.width}")
        self.patch, self.share = config.patch, config.inner.width // config.patch
        self.inner, self.local = config.inner.build(), config.local.build()
        encoder = config.encoder
        if encoder is not None:
            remedy = f"must be what a position has in the inner part, {self.share}"
            check(encoder.width == self.share, "patches.encoder.width", encoder.width, remedy)
        self.encoder = None if encoder is None else encoder.build()
        self.make_embedding(config)
        self.told = nn.Linear(self.share, config.width, bias=False)
        self.first_patch = nn.Parameter(torch.randn(self.patch, self.share))  # zeros would explode in the first norm
        self.first_slot = nn.Parameter(torch.randn(config.width))

    hints = {"first_patch": Hint(matrix=False, decay=False)}  # noqa: RUF012

    def make_embedding(self, config: Patches.Config) -> None:
        """Makes what `embedded` needs."""
        self.embed = nn.Linear(config.width, self.share, bias=False)

    def embedded(self, x_BTL: Tensor, span: Span) -> Tensor:
        """h, what a position is in the inner part (B, T, G)."""
        return self.embed(x_BTL)

    def embedding_flops(self, T: int) -> int:
        """FLOPs of `embedded`."""
        return linear_flops(self.embed, T=T)

    def _encoded(self, x_BTL: Tensor, span: Span, state: PatchesState | None) -> tuple[Tensor, Any]:
        """h, read by the encoder if there is one, and its state."""
        h_BTG = self.embedded(x_BTL, span)
        if self.encoder is None:
            return h_BTG, None
        return self.encoder(h_BTG, span, None if state is None else state.encoder)

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: PatchesState | None = None
    ) -> tuple[Float[Tensor, "b t d"], PatchesState]:
        ragged = not span.plain or (state is not None and state.length_B is not None)
        return (self._ragged if ragged else self._plain)(x_BTD, span, state)

    # --- All rows alike ----------------------------------------------------------------------------------------

    def _plain(self, x_BTL: Tensor, span: Span, state: PatchesState | None) -> tuple[Tensor, PatchesState]:
        """Every row is at the same slot, known from the shape of what is pending."""
        T, steps_T = x_BTL.shape[1], torch.arange(x_BTL.shape[1], device=x_BTL.device)
        first = 0 if state is None else state.pending_BRG.shape[1] + 1  # slot of the first position; P: a new patch
        slot_T = (first + steps_T) % self.patch
        heard_B = torch.zeros_like(span.ids_BT[:, 0]) if state is None else state.heard_B
        h_BTG, encoder = self._encoded(x_BTL, span, state)
        told_BKX, pending_BRG = self._complete(h_BTG, state)
        g_BSG, inner = self._asked(told_BKX, span, heard_B, steps_T[-first % self.patch :: self.patch], state)
        begins_T = (slot_T == 0) & (steps_T > (0 if state is None else -1))  # BOS stands at the first slot of all
        x_BTL = torch.where(begins_T[:, None], self.first_slot.to(x_BTL.dtype), x_BTL)
        l_BTL = self.told(g_BSG[:, first : first + T]) + x_BTL
        y_BTL, local = self._local_plain(l_BTL, span, slot_T, first, None if state is None else state.local)
        slots_BPG = g_BSG[:, -self.patch :].clone()
        return y_BTL, PatchesState(pending_BRG, slots_BPG, heard_B + T, inner, local, encoder)

    def _asked(
        self, told_BKX: Tensor, span: Span, heard_B: Tensor, begin_K: Tensor, state: PatchesState | None
    ) -> tuple[Tensor, Any]:
        """g of every slot, from those of the open patch on (B, S, G), and the inner state."""
        g_BSG = told_BKX.new_zeros(len(told_BKX), 0, self.share) if state is None else state.slots_BPG
        inner = None if state is None else state.inner
        if not told_BKX.shape[1]:
            return g_BSG, inner
        place_BK = (heard_B[:, None] + begin_K) // self.patch
        shown = {"auxiliary": span.auxiliary, "observed": span.observed}
        y_BKX, inner = self.inner(told_BKX, Span(span.ids_BT[:, begin_K], place_BK, **shown), inner)
        new_BSG = rearrange(y_BKX, "b k (p g) -> b (k p) g", p=self.patch)
        return torch.cat([g_BSG.to(new_BSG.dtype), new_BSG], dim=1), inner

    def _complete(self, h_BTG: Tensor, state: PatchesState | None) -> tuple[Tensor, Tensor]:
        """What the inner part is told of the patches begun in this call (B, K, P G), and what is pending after it."""
        h_BSG = h_BTG[:, 1:] if state is None else torch.cat([state.pending_BRG.to(h_BTG.dtype), h_BTG], dim=1)
        whole = h_BSG.shape[1] // self.patch * self.patch
        told_BKX = rearrange(h_BSG[:, :whole], "b (k p) g -> b k (p g)", p=self.patch)
        if state is None:
            first_X = self.first_patch.to(h_BTG.dtype).flatten()
            told_BKX = torch.cat([first_X.expand(len(h_BTG), 1, -1), told_BKX], dim=1)
        return told_BKX, h_BSG[:, whole:].clone()

    def _local_plain(self, l_BTL: Tensor, span: Span, slot_T: Tensor, first: int, state: Any) -> tuple[Tensor, Any]:
        """The local part over the open patch, over all whole patches but the last as one batch, and over the last."""
        B, T, _ = l_BTL.shape
        whole = min(-first % self.patch, T)  # where the patches that this call begins do begin
        last = T - (T - whole - 1) % self.patch - 1 if whole < T else T
        outputs = []
        for begin, end, length, past in (
            (0, whole, whole, state),
            (whole, last, self.patch, None),
            (last, T, T - last, None),
        ):
            if begin == end:
                continue
            ids_NP = span.ids_BT[:, begin:end].reshape(-1, length)
            slot_1P = slot_T[begin : begin + length][None]
            inside = Span(ids_NP, slot_1P, auxiliary=span.auxiliary, observed=span.observed)
            y_NPL, state = self.local(l_BTL[:, begin:end].reshape(len(ids_NP), length, -1), inside, past)
            outputs.append(y_NPL.reshape(B, end - begin, -1))
        return torch.cat(outputs, dim=1), state

    # --- Rows at different slots -------------------------------------------------------------------------------

    def _ragged(self, x_BTL: Tensor, span: Span, state: PatchesState | None) -> tuple[Tensor, PatchesState]:
        """Rows hold several documents, or bring different numbers of real positions."""
        real_BT = real_positions(span)
        before = self._nothing(x_BTL) if state is None else state
        start_BT = starts(span, before.heard_B)
        place_BT, heard_B = places(real_BT, start_BT, before.heard_B)
        slot_BT = place_BT % self.patch
        opens_BT = real_BT & (slot_BT == 0)
        chunks = Chunks.of(opens_BT, alike=False)
        h_BTG, encoder = self._encoded(x_BTL, span, state)
        told_BKX, pending = self._complete_ragged(h_BTG, real_BT, start_BT, chunks, before, heard_B)
        g_BJPG, inner = before.slots_BPG[:, None].to(x_BTL.dtype), before.inner
        if chunks.count:
            y_BKX, inner = self.inner(told_BKX, chunks.span(span, start_BT, place_BT // self.patch), inner)
            y_BKX = torch.where(_real(chunks)[..., None], y_BKX, 0)
            g_BJPG = torch.cat([g_BJPG, rearrange(y_BKX, "b k (p g) -> b k p g", p=self.patch)], dim=1)
        row_B1 = torch.arange(len(x_BTL), device=x_BTL.device)[:, None]
        begins_BT1 = (opens_BT & ~start_BT)[..., None]
        x_BTL = torch.where(begins_BT1, self.first_slot.to(x_BTL.dtype), x_BTL)
        l_BTL = self.told(g_BJPG[row_B1, chunks.which_BT, slot_BT]) + x_BTL
        y_BTL, local = self._local_ragged(l_BTL, span, chunks, slot_BT, opens_BT, before.local)
        slots_BPG = g_BJPG[row_B1[:, 0], chunks.which_BT[:, -1]]
        return y_BTL, PatchesState(pending[0], slots_BPG, heard_B, inner, local, encoder, pending[1])

    def _local_ragged(
        self, l_BTL: Tensor, span: Span, chunks: Chunks, slot_BT: Tensor, opens_BT: Tensor, state: Any
    ) -> tuple[Tensor, Any]:
        """The local part over every patch by itself."""
        return in_patches(self.local, l_BTL, span, chunks, slot_BT, opens_BT, self.patch, state)

    def _nothing(self, x_BTL: Tensor) -> PatchesState:
        """What a stream begins with."""
        B = len(x_BTL)
        none_B = torch.zeros(B, dtype=torch.int64, device=x_BTL.device)
        pending_BRG, slots_BPG = (x_BTL.new_zeros(B, rows, self.share) for rows in (0, self.patch))
        return PatchesState(pending_BRG, slots_BPG, none_B, None, None, length_B=none_B)

    def _complete_ragged(
        self, h_BTG: Tensor, real_BT: Tensor, start_BT: Tensor, chunks: Chunks, before: PatchesState, heard_B: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """What the inner part is told (B, K, P G); what is pending after the call, and how much of it is real."""
        B, R = len(real_BT), before.pending_BRG.shape[1]
        order_BT = torch.argsort((~real_BT).byte(), dim=1, stable=True)  # real positions first
        h_BTG = torch.where(real_BT[..., None], h_BTG, 0)
        h_BTG = h_BTG.gather(1, order_BT[..., None].expand(-1, -1, self.share))
        h_BSG = torch.cat([before.pending_BRG.to(h_BTG.dtype), h_BTG], dim=1)
        row_B1 = torch.arange(B, device=h_BSG.device)[:, None]
        last_BK = R + real_BT.cumsum(1).gather(1, chunks.index_BK) - 1  # joined place of a patch's last position
        place_BKP = last_BK[..., None] - torch.arange(self.patch - 1, -1, -1, device=h_BSG.device)
        told_BKPG = h_BSG[row_B1[..., None], place_BKP.clamp(min=0)]
        first_BK11 = start_BT.gather(1, chunks.index_BK)[..., None, None]
        told_BKPG = torch.where(first_BK11, self.first_patch.to(h_BSG.dtype), told_BKPG)
        told_BKX = torch.where(_real(chunks)[..., None], told_BKPG.flatten(2), 0)
        length_B = (heard_B - 1).clamp(min=0) % self.patch
        S = int(length_B.max())
        step_S = torch.arange(S, device=h_BSG.device)
        place_BS = (R + real_BT.sum(1))[:, None] - S + step_S
        kept_BSG = h_BSG[row_B1, place_BS.clamp(min=0)]
        hole_BS = step_S < S - length_B[:, None]
        return told_BKX, (kept_BSG.masked_fill(hole_BS[..., None], 0), length_B)

    # --- What it costs -----------------------------------------------------------------------------------------

    def flops(self, T: int) -> int:
        encoder = 0 if self.encoder is None else self.encoder.flops(T)
        whole = self.embedding_flops(T) + encoder + linear_flops(self.told, T=T) + self.inner.flops(-(-T // self.patch))
        return whole + self.local_flops(T)

    def local_flops(self, T: int) -> int:
        """FLOPs of the local part."""
        whole, rest = divmod(T, self.patch)
        return whole * self.local.flops(self.patch) + (self.local.flops(rest) if rest else 0)

    def state_bytes(self, T: int) -> int:
        pending = (T - 1) % self.patch
        held = 8 + (pending + self.patch) * self.share * element_bytes(self)
        encoder = 0 if self.encoder is None else self.encoder.state_bytes(T)
        return held + encoder + self.inner.state_bytes(-(-T // self.patch)) + self.local_state_bytes(T)

    def local_state_bytes(self, T: int) -> int:
        """Bytes of the local part's state."""
        return self.local.state_bytes((T - 1) % self.patch + 1)


def _real(chunks: Chunks) -> Tensor:
    assert chunks.real_BK is not None
    return chunks.real_BK
