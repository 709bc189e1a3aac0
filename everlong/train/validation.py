"""A look at held-out data from time to time: bits per byte over the same few windows."""

from __future__ import annotations

import itertools
import time

import torch

from everlong.core.config import check
from everlong.data import Batch, Loader, TokenStore
from everlong.model.language_model import LanguageModel
from everlong.train.callbacks import Callback
from everlong.train.objective import surprisal
from everlong.train.precision import Precision, autocast
from everlong.train.progress import Record, Step, bits_per_byte


class Validation(Callback):
    """Makes a record of kind "validation" of every `every` updates, and of the last.

    Every window begins without a past, so the figure is that of short contexts; `everlong evaluate` streams
    whole documents.
    """

    def __init__(self, model: LanguageModel, batches: list[Batch], every: int, precision: Precision) -> None:
        self.model, self.batches, self.every = model, batches, every
        self.precision: Precision = precision

    def on_step(self, step: Step) -> Record | None:
        if step.skipped or (step.step % self.every and step.step < step.steps):
            return None
        begun = time.perf_counter()
        loss = self.bits_per_byte()
        return {
            "kind": "validation",
            "step": step.step,
            "bits_per_byte": loss,
            "seconds": time.perf_counter() - begun,
        }

    @torch.no_grad()
    def bits_per_byte(self) -> float:
        """Surprisal of the windows, in bits per true byte."""
        device = next(self.model.parameters()).device
        training = self.model.training
        self.model.eval()
        with autocast(device, self.precision):
            nats = sum(surprisal(self.model, batch.to(device)).nats.item() for batch in self.batches)
        self.model.train(training)
        return bits_per_byte(nats, sum(batch.byte_count for batch in self.batches))


def held_out(store: TokenStore, *, window: int, batch: int, windows: int) -> list[Batch]:
    """The windows to look at: at least `windows`, or all that there are, in batches of at most `batch` rows.

    Raises:
        ConfigError: there is not one whole window.
    """
    there = len(store.tokens) // window
    remedy = f"is longer than the {len(store.tokens)} held-out tokens: hold out more, or set evaluate_every to none"
    check(there >= 1, "trainer.window", window, remedy)
    rows = min(batch, windows, there)
    loader = Loader(store, window=window, batch=rows, seed=0)
    return list(itertools.islice(loader, min(-(-windows // rows), loader.steps)))
