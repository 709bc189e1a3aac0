"""Chunks by the doubt of a small language model (Byte Latent Transformer, Pagnoni et al. 2024, arXiv 2412.09871,
sec. 2.3).

Legend: B batch rows, T positions of this call, V vocabulary.

    H_t = - sum_v p(v | tokens up to t) log2 p(v | tokens up to t)           of the token that follows position t

    a chunk is opened where   H_t > threshold              (global constraint, `EntropyThreshold`)
                              H_t - H_{t-1} > threshold    (approximate monotonic constraint, `EntropyRise`)

The paper begins a patch at the token that was hard to foretell; its predecessor, at which it was to be foretold, opens
the chunk here, so that the inner part's answer is there in time. The small model is frozen: it hears the same tokens,
documents and padding, it takes no gradient, it never leaves evaluation mode, and its losses are not learnt. Its weights
are parameters like any others in checkpoints, counts and FLOPs; optimizers leave out what requires no gradient.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from everlong.core.accounting import element_bytes
from everlong.core.config import check
from everlong.core.errors import CheckpointError
from everlong.core.span import Span
from everlong.core.state import State
from everlong.model.language_model import LanguageModel, StreamState
from everlong.resolution.chunkers import Chunker, Opening
from everlong.resolution.chunks import previous, real_positions


class EntropyThreshold(Chunker):
    """Chunks are opened where the small model is in doubt. State: its own."""

    shown_share = "chunks/share by entropy"

    class Config(Chunker.Config):
        model: LanguageModel.Config
        """The small model; its vocabulary must be that of the tokens."""
        threshold: float
        """Bits of entropy above which a chunk is opened; see `everlong.generate.entropy_threshold`."""
        bytes_per_chunk: float
        """The nominal rate, such as the one that the threshold was picked for."""
        weights: str | None = None
        """A safetensors file of the small model's weights, read where the whole is built. It may be gone later, since
        they are in every checkpoint of the whole. `None`: random weights, until a checkpoint brings others."""

        @property
        def rate(self) -> float:
            return self.bytes_per_chunk

        @property
        def vocabulary(self) -> int:
            return self.model.vocabulary

    def __init__(self, config: EntropyThreshold.Config) -> None:
        super().__init__()
        rate = config.bytes_per_chunk
        check(rate >= 1, "entropy.bytes_per_chunk", rate, "must be at least 1")
        check(math.isfinite(config.threshold), "entropy.threshold", config.threshold, "must be a finite number of bits")
        self.threshold, self.bytes_per_chunk, self.weights = config.threshold, rate, config.weights
        self.model = config.model.build().requires_grad_(False)
        self.register_buffer("filled", torch.tensor(config.weights is None or self._read(Path(config.weights))))

    filled: Tensor
    """Whether the weights that were asked for are here; it is saved with them."""

    def _read(self, path: Path) -> bool:
        """Fills the small model; whether the file was there."""
        if not path.is_file():
            return False
        if self.model.embedding.weight.is_meta:  # built to be weighed
            return True
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError("entropy.weights", str(path), f"cannot be read ({error})") from error
        own = self.model.state_dict(keep_vars=True)
        there = {id(own[name]) for name in tensors if name in own}  # tied ones are saved once
        wrong = [name for name in tensors if name not in own or own[name].shape != tensors[name].shape]
        wrong += [name for name in own if id(own[name]) not in there]
        if wrong:
            raise CheckpointError("entropy.weights", str(path), f"is of another model: {wrong[0]} does not fit")
        self.model.load_state_dict(tensors, strict=False)
        return True

    def train(self, mode: bool = True) -> EntropyThreshold:
        super().train(mode)
        self.model.eval()
        return self

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, start_BT: Bool[Tensor, "b t"], state: Any = None
    ) -> tuple[Opening, Any]:
        entropy_BT, state = self.entropy(span, start_BT, state)
        return self.opening(entropy_BT > self.threshold, span, start_BT), state

    @torch.no_grad()
    def entropy(
        self, span: Span, start_BT: Bool[Tensor, "b t"], state: StreamState | None
    ) -> tuple[Float[Tensor, "b t"], StreamState]:
        """H of every position in bits, and the small model's state.

        Raises:
            CheckpointError: the weights that the configuration names were not found, and no checkpoint brought them.
            ContextError: a token that the small model does not know, or a document longer than it can take.
        """
        if not bool(self.filled):
            remedy = "was not there when this model was built: restore it, or load a checkpoint of the whole model"
            raise CheckpointError("entropy.weights", self.weights, remedy)
        documents_BT = None
        if not span.plain:
            before_B1 = span.ids_BT.new_full((len(start_BT), 1), -1) if state is None else state.document_B[:, None]
            documents_BT = before_B1 + start_BT.cumsum(1)
        with torch.autocast(span.ids_BT.device.type, enabled=False):  # chunks must not depend on the precision
            output = self.model(span.ids_BT, state, documents=documents_BT, real=span.real_BT)
        p_BTV = output.logits.to(torch.promote_types(output.logits.dtype, torch.float32)).softmax(-1)
        entropy_BT = torch.special.entr(p_BTV).sum(-1) / math.log(2)
        span.observe("chunks/entropy", entropy_BT)
        for name, shown in output.observed.items():
            span.observed.setdefault(name, []).extend(shown)
        return entropy_BT, output.state

    def opening(self, doubtful_BT: Tensor, span: Span, start_BT: Tensor) -> Opening:
        """Where chunks are opened: in doubt, and where documents begin."""
        return Opening(real_positions(span) & (start_BT | doubtful_BT), alike=span.plain and len(start_BT) == 1)

    def flops(self, T: int) -> int:
        return self.model.flops(T)

    def state_bytes(self, T: int) -> int:
        return self.model.state_bytes(T)


class RiseState(State):
    """The small model's state, and each row's last entropy, in float32 or better."""

    stream: StreamState
    last_B: Float[Tensor, " b"]


class EntropyRise(EntropyThreshold):
    """Chunks are opened where the small model's doubt rises. State: its own, and one number."""

    class Config(EntropyThreshold.Config):
        pass

    def forward(
        self, x_BTD: Float[Tensor, "b t d"], span: Span, start_BT: Bool[Tensor, "b t"], state: RiseState | None = None
    ) -> tuple[Opening, RiseState]:
        entropy_BT, stream = self.entropy(span, start_BT, None if state is None else state.stream)
        before_B = torch.zeros_like(entropy_BT[:, 0]) if state is None else state.last_B
        was_BT, last_B = previous(entropy_BT, real_positions(span), before_B)
        return self.opening(entropy_BT - was_BT > self.threshold, span, start_BT), RiseState(stream, last_B)

    def state_bytes(self, T: int) -> int:
        return super().state_bytes(T) + max(4, element_bytes(self))
