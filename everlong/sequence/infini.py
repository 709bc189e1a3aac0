"""Infini-attention: causal attention within segments, and a compressive memory of everything before them.

Source: Munkhdalai, Faruqui & Gopal 2024, "Leave No Context Behind", arXiv 2404.07143, section 2.1.

Legend: B batch rows, T positions, S cached and new positions, D width, H query heads, G key/value heads, E head size;
N positions of a segment, K segments that a call closes, J stretches of new positions that lie in one segment each, L
positions of such a stretch.

The document is cut into segments of N positions, counted from its start. Per head, for a position t of segment s,

    A_dot = softmax over the positions of segment s up to t, with position encoding,
    A_mem = sigma(q_t) M_{s-1} / (sigma(q_t) z_{s-1}),      queries and keys without position encoding   (eq. 7)
    A     = g A_mem + (1 - g) A_dot,    g = sigmoid(beta), one beta a head                               (eq. 10)

and once segment s is full its keys and values are written into (M, z), by one of the rules of `infini_memory.py`. What
is read is always what closed segments have written; no segment reads itself.

The paper leaves open what happens while nothing is written, where A_mem is 0/0. Here the gate is shut there, g = 0, and
not only A_mem = 0: the first segment is plain causal attention, and a document of at most N positions is attended to
exactly as by `Attention` with the same weights. Scores are divided by sqrt(E), where the paper prints the width's root.

A gate has only its own few numbers to move, and an average learning rate leaves it where it starts: it asks for a
multiple of it, and not to decay.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from everlong.core.accounting import Hint, element_bytes
from everlong.core.config import check
from everlong.core.span import Span
from everlong.core.state import State
from everlong.kernels.pieces import Piece, Pieces, View, Visibility
from everlong.kernels.recall import read
from everlong.sequence.attention import Attention
from everlong.sequence.cache import KeyValues, Ragged, join, keep_last
from everlong.sequence.infini_memory import Memory, StableDelta, Update
from everlong.sequence.infini_segments import Segments, stretches


class InfiniState(State):
    """The memory of closed segments, and the open segment."""

    memory: Memory
    open: KeyValues
    """Keys (turned, if positions are encoded) and values of the open segment, fewer than N."""
    raw_BSGE: Float[Tensor, "b s g e"] | None
    """The same keys as they will be written; `None` where keys are not turned."""


class InfiniAttention(Attention):
    """Local attention and compressive memory, mixed by a gate. State: constant, but for the open segment."""

    class Config(Attention.Config):
        segment: int
        """N, positions of a segment."""
        update: Update.Config = StableDelta.Config()
        """How a full segment is written."""
        gate: float = 0.0
        """beta at first; sigmoid(beta) is the share of the memory."""
        gate_learning_rate: float = 10.0
        """Multiplier of beta's learning rate."""

    def __init__(self, config: InfiniAttention.Config) -> None:
        super().__init__(config)
        check(config.segment >= 1, "infini_attention.segment", config.segment, "must be at least 1")
        rate = config.gate_learning_rate
        check(rate > 0, "infini_attention.gate_learning_rate", rate, "must be positive; 10 is usual")
        self.segment = self.reach = config.segment
        self.update = config.update.build(self.kv_heads, self.head)
        self.gate = nn.Parameter(torch.full((self.heads,), float(config.gate)))
        self.hints = {"gate": Hint(learning_rate=rate, decay=False)}

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, state: InfiniState | None = None
    ) -> tuple[Float[Tensor, "b t d"], InfiniState]:
        q_BTHE = rearrange(self.q(x_BTD), "b t (h e) -> b t h e", h=self.heads)
        k_BTGE, v_BTGE = (rearrange(f(x_BTD), "b t (g e) -> b t g e", g=self.kv_heads) for f in (self.k, self.v))
        state = self.empty(k_BTGE) if state is None else state
        ragged = not span.plain or state.open.length_B is not None
        hear = self.hear_ragged if ragged else self.hear_plain
        o_BTHE, state = hear(q_BTHE, k_BTGE, v_BTGE, span, state)
        for head, share in enumerate(torch.sigmoid(self.gate), 1):
            span.observe(f"infini/gate, head {head}", share)
        return self.out(rearrange(o_BTHE, "b t h e -> b t (h e)")), state

    def empty(self, k_BTGE: Tensor) -> InfiniState:
        """The state before a document's first position."""
        B, _, G, E = k_BTGE.shape
        exact = torch.promote_types(k_BTGE.dtype, torch.float32)
        memory = Memory(k_BTGE.new_zeros(B, G, E, E, dtype=exact), k_BTGE.new_zeros(B, G, E, dtype=exact))
        none = k_BTGE[:, :0]
        return InfiniState(memory, KeyValues(none, none), none if self.position else None)

    def turned(self, q_BTHE: Tensor, k_BTGE: Tensor, span: Span) -> tuple[Tensor, Tensor]:
        """Queries and keys for local attention."""
        return self.position.turn(span.position_BT, q_BTHE, k_BTGE) if self.position else (q_BTHE, k_BTGE)

    # --- Rows that are one document each, and equally long ----------------------------------------------------

    def hear_plain(
        self, q_BTHE: Tensor, k_BTGE: Tensor, v_BTGE: Tensor, span: Span, state: InfiniState
    ) -> tuple[Tensor, InfiniState]:
        """Stretches of whole segments, as rows of a batch; before them the rest of an open one, after them another."""
        turned_BTHE, turned_BTGE = self.turned(q_BTHE, k_BTGE, span)
        k_BSGE, raw_BSGE, v_BSGE = self.joined(turned_BTGE, k_BTGE, v_BTGE, state)
        memories, last = self.closed(raw_BSGE, v_BSGE, state.memory)
        past, first, heard = k_BSGE.shape[1] - q_BTHE.shape[1], 0, []
        for begin, count, length in stretches(q_BTHE.shape[1], past, self.segment):
            new, shape = slice(begin, begin + count * length), (count, length)
            local_BLHE = self.local(turned_BTHE[:, new], k_BSGE, v_BSGE, past + begin, shape)
            memory = Memory(*(x[:, first : first + count] for x in (memories.m_BGEF, memories.z_BGE)))
            heard.append(self.read(q_BTHE[:, new].unflatten(1, shape), local_BLHE.unflatten(1, shape), memory))
            first += count
        o_BTHE = heard[0].flatten(1, 2) if len(heard) == 1 else torch.cat([x.flatten(1, 2) for x in heard], dim=1)
        rest = k_BSGE.shape[1] % self.segment
        raw = keep_last(raw_BSGE, raw_BSGE, rest).k_BSGD if self.position else None
        return o_BTHE, InfiniState(last, keep_last(k_BSGE, v_BSGE, rest), raw)

    def local(self, q_BTHE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor, place: int, shape: tuple[int, int]) -> Tensor:
        """Local attention of `shape` segments and positions; the first query stands at a place of the joined keys."""
        count, length = shape
        before = place % self.segment  # of the segment; 0 if there are several
        rows, keys = q_BTHE.shape[0] * count, slice(place - before, place + count * length)
        q_RLHE = q_BTHE.reshape(rows, length, *q_BTHE.shape[2:])
        k_RLGE, v_RLGE = (x[:, keys].reshape(rows, before + length, *x.shape[2:]) for x in (k_BSGE, v_BSGE))
        o_RLHE = self.meet(q_RLHE, k_RLGE, v_RLGE, super().plain_pieces(rows, length, before + length))
        return o_RLHE.reshape(q_BTHE.shape)

    # --- Rows of several documents, or of different lengths ---------------------------------------------------

    def hear_ragged(
        self, q_BTHE: Tensor, k_BTGE: Tensor, v_BTGE: Tensor, span: Span, state: InfiniState
    ) -> tuple[Tensor, InfiniState]:
        """Each document has segments of its own, counted from its start."""
        ragged = Ragged.of(span, state.open)
        new = (*self.turned(q_BTHE, k_BTGE, span), q_BTHE, k_BTGE, v_BTGE)
        turned_BTHE, k_BTGE, q_BTHE, raw_BTGE, v_BTGE = (ragged.compact(x) for x in new)
        k_BSGE, raw_BSGE, v_BSGE = self.joined(k_BTGE, raw_BTGE, v_BTGE, state)
        segments = Segments.of(ragged, span, self.segment)
        memories, last = self.closed_ragged(segments, raw_BSGE, v_BSGE, state.memory)
        local_BTHE = self.local_ragged(ragged, segments, turned_BTHE, k_BSGE, v_BSGE)
        q_BJLHE, local_BJLHE = segments.stretches(q_BTHE), segments.stretches(local_BTHE)
        y_BJLHE = self.read(q_BJLHE, local_BJLHE, segments.before(memories))
        o_BTHE = ragged.restore(segments.places(y_BJLHE, local_BTHE))
        raw = ragged.keep(raw_BSGE, raw_BSGE, segments.rest_B).k_BSGD if self.position else None
        return o_BTHE, InfiniState(last, ragged.keep(k_BSGE, v_BSGE, segments.rest_B), raw)

    def local_ragged(
        self, ragged: Ragged, segments: Segments, q_BTHE: Tensor, k_BSGE: Tensor, v_BSGE: Tensor
    ) -> Tensor:
        """Local attention; as pieces alone where nothing is cached, or else by visibility."""
        (B, T), S = q_BTHE.shape[:2], k_BSGE.shape[1]
        if not ragged.past:
            return self.meet(q_BTHE, k_BSGE, v_BSGE, self.document_pieces(ragged, T))
        visibility = Visibility(segments.begin_BT, ragged.high_BT, ragged.order_BS)
        return self.meet(q_BTHE, k_BSGE, v_BSGE, self.ragged_pieces(B, T, S), visibility)

    def plain_pieces(self, B: int, T: int, S: int) -> Pieces:
        """Causal squares, one a segment, of rows that begin where a segment does; nothing is cached."""
        whole, rest = divmod(T, self.segment)
        pieces = []
        for row in range(B):
            for begin, count, length in ((0, whole, self.segment), (T - rest, 1, rest)):
                if count and length:
                    view = View(row * T + begin, count, self.segment, length)
                    pieces.append(Piece(view, view, high=0))
        return tuple(pieces)

    # --- The memory -------------------------------------------------------------------------------------------

    def joined(
        self, k_BTGE: Tensor, raw_BTGE: Tensor, v_BTGE: Tensor, state: InfiniState
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Keys as they are attended to, keys as they are written, and values: of the open segment, and new ones."""
        if not state.open.k_BSGD.shape[1]:
            return k_BTGE, raw_BTGE, v_BTGE
        k_BSGE, v_BSGE = join(state.open, k_BTGE, v_BTGE)
        if state.raw_BSGE is None:
            return k_BSGE, k_BSGE, v_BSGE
        return k_BSGE, torch.cat([state.raw_BSGE.to(raw_BTGE.dtype), raw_BTGE], dim=1), v_BSGE

    def closed(self, raw_BSGE: Tensor, v_BSGE: Tensor, memory: Memory) -> tuple[Memory, Memory]:
        """The memories that segment after segment reads, (B, 1 + K), and the one that is left."""
        count = raw_BSGE.shape[1] // self.segment
        if not count:
            return Memory(memory.m_BGEF[:, None], memory.z_BGE[:, None]), memory
        shape = (raw_BSGE.shape[0], count, self.segment, *raw_BSGE.shape[2:])
        k, v = (x[:, : count * self.segment].reshape(shape) for x in (raw_BSGE, v_BSGE))
        memories = self.written(k, v, memory)
        return memories, Memory(memories.m_BGEF[:, -1].clone(), memories.z_BGE[:, -1].clone())

    def closed_ragged(
        self, segments: Segments, raw_BSGE: Tensor, v_BSGE: Tensor, memory: Memory
    ) -> tuple[Memory, Memory]:
        """As `closed`, for the segments that rows close, each row its own number of them."""
        memories = Memory(memory.m_BGEF[:, None], memory.z_BGE[:, None])
        if segments.closed_BKN.shape[1]:
            k, v = (segments.closed(x) for x in (raw_BSGE, v_BSGE))
            memories = self.written(k, v, memory, segments.fresh_BK)
        return memories, segments.after(memories)

    def written(self, k_BKNGE: Tensor, v_BKNGE: Tensor, memory: Memory, fresh_BK: Tensor | None = None) -> Memory:
        """The memories before, between and after segments; a single one is written by the rule itself."""
        exact = memory.m_BGEF.dtype
        with torch.autocast(k_BKNGE.device.type, enabled=False):  # the sums outgrow bfloat16
            k, v = k_BKNGE.to(exact), v_BKNGE.to(exact)
            if k.shape[1] > 1 or fresh_BK is not None:
                return self.update.scan(k, v, memory, fresh_BK)
            new = self.update.write(k[:, 0].transpose(1, 2), v[:, 0].transpose(1, 2), memory)
            return Memory(torch.stack([memory.m_BGEF, new.m_BGEF], 1), torch.stack([memory.z_BGE, new.z_BGE], 1))

    def read(self, q_BJLHE: Tensor, local_BJLHE: Tensor, memory: Memory) -> Tensor:
        """Eq. 7 and 10 for stretches of one memory each: what they recall, mixed with what they heard locally."""
        q_NLHE, local_NLHE, memory_NGEK = (x.flatten(0, 1) for x in (q_BJLHE, local_BJLHE, memory.beside))
        share_H = torch.sigmoid(self.gate.to(memory_NGEK.dtype))
        return read(q_NLHE, local_NLHE, memory_NGEK, share_H).view_as(local_BJLHE)

    # --- Accounting -------------------------------------------------------------------------------------------

    def flops(self, T: int) -> int:
        read = 2 * T * self.heads * self.head * (self.head + 1)
        written = T // self.segment * self.kv_heads * self.update.flops(self.segment, self.head)
        return super().flops(T) + read + written

    def visible_pairs(self, T: int) -> int:
        whole, rest = divmod(T, self.segment)
        return (whole * self.segment * (self.segment + 1) + rest * (rest + 1)) // 2

    def state_bytes(self, T: int) -> int:
        memory = self.memory_floats * max(4, element_bytes(self))
        vectors = (3 if self.position else 2) * (T % self.segment) * self.kv_heads
        return memory + vectors * self.head * element_bytes(self)

    @property
    def memory_floats(self) -> int:
        """Numbers of (M, z) over all heads: E (E + 1) each."""
        return self.kv_heads * self.head * (self.head + 1)
