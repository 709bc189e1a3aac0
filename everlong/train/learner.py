"""One step of learning, whatever the model: differentiate, clip, and update the weights, if everything is finite."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import Any

import torch
from torch import Tensor, nn

from everlong.core.config import Config, check
from everlong.core.errors import ConfigError
from everlong.core.state import detach
from everlong.data import Batch
from everlong.model.language_model import LanguageModel
from everlong.train.objective import Predictor, Surprisal, surprisal
from everlong.train.optimizers import AdamW, Optimizer
from everlong.train.precision import Precision, autocast, native_precision
from everlong.train.progress import Update


class Learner:
    """A model and its optimizer.

    Args:
        model: in the dtype in which weights and optimizer are to be kept; on its device.

    Raises:
        ConfigError: the optimizer does not fit the model, or it cannot be compiled here.
    """

    class Config(Config):
        optimizer: Optimizer.Config = AdamW.Config()
        """How gradients become updates."""
        clip: float | None = 1.0
        """Largest norm of the gradient; `None`: any."""
        accumulation: int = 1
        """Pieces that a batch is cut into, to save memory; the result is the same."""
        precision: Precision = field(default_factory=native_precision)
        """Of matrix products; weights and their updates stay in float32. By default bfloat16 where the default device
        multiplies it natively."""
        carry: bool = False
        """Rows continue where the last batch ended: the model hears from its past through its state, which the
        gradient does not follow (truncated backpropagation through time)."""
        compile: bool = False
        """Compile the model with `torch.compile`. It changes nothing but speed."""

        def __post_init__(self) -> None:
            check(self.clip is None or self.clip > 0, "trainer.clip", self.clip, "must be above 0, or None; 1 is usual")
            check(self.accumulation >= 1, "trainer.accumulation", self.accumulation, "must be at least 1")
            known = ("float32", "bfloat16")
            check(self.precision in known, "trainer.precision", self.precision, f"must be one of {known}")

    def __init__(self, config: Learner.Config, model: LanguageModel) -> None:
        self.config, self.model = config, model
        self.device = next(model.parameters()).device
        self.optimizer = config.optimizer.build(model)
        self.predictor = compiled(model) if config.compile else model
        self.streams: tuple[Any, ...] | None = None
        """Where carried streams stand, one state for every piece of a batch; `None`: at their beginning."""

    def learn(self, batch: Batch, factor: float) -> Update:
        """Updates the weights at `factor` times the base learning rate.

        If a loss or the gradient is not finite, nothing changes: weights, optimizer and streams stay as they were.
        """
        if batch.fresh:
            self.streams = None
        found = self.differentiate(batch)
        limit = math.inf if self.config.clip is None else self.config.clip
        norm = clip(self.optimizer.parameters, limit)
        values = [found.nats, norm, *found.auxiliary.values(), *found.observed.values()]
        told_V = torch.stack([value.to(found.nats) for value in values])
        nats, norm, *told = told_V.tolist()  # the step's only wait for a device
        losses, shown = told[: len(found.auxiliary)], told[len(found.auxiliary) :]
        finite = all(math.isfinite(value) for value in (nats, norm, *losses))
        if finite:
            self.optimizer.step(factor)
            self.streams = found.state
        self.optimizer.clear()
        return Update(
            nats=nats,
            gradient_norm=norm,
            auxiliary=dict(zip(found.auxiliary, losses, strict=True)),
            observed=dict(zip(found.observed, shown, strict=True)),
            learning_rate=self.config.optimizer.learning_rate * factor,
            skipped=not finite,
        )

    def differentiate(self, batch: Batch) -> Surprisal:
        """Adds the gradient of the loss to the parameters: the mean nats of all the batch's learnt targets, and
        the model's own losses, as means over its pieces.

        Returns:
            Summed nats, the model's own losses and what it showed, and the streams after the batch.
        """
        pieces = batch.to(self.device).split(self.config.accumulation)
        before, targets = self.streams or (None,) * len(pieces), max(1, batch.learnt)
        total, auxiliary, observed, after = torch.zeros((), device=self.device), {}, {}, []
        with training(self.model), autocast(self.device, self.config.precision):
            for piece, stream in zip(pieces, before, strict=True):
                found = surprisal(self.predictor, piece, stream, carry=self.config.carry)
                loss = found.nats / targets + sum(found.auxiliary.values()) / len(pieces)
                with autocast(self.device, "float32"):  # the backward takes its types from the forward
                    loss.backward()
                after.append(detach(found.state))
                total = total + found.nats.detach()
                for means, values in ((auxiliary, found.auxiliary), (observed, found.observed)):
                    for name, value in values.items():
                        means[name] = means.get(name, 0.0) + value.detach().to(total) / len(pieces)
        return Surprisal(total, auxiliary, observed, tuple(after) if self.config.carry else None)


@contextmanager
def training(model: nn.Module) -> Iterator[None]:
    """The model in training mode inside the context, in evaluation mode after it."""
    model.train()
    try:
        yield
    finally:
        model.eval()


def clip(parameters: Iterable[Tensor], limit: float) -> Tensor:
    """Scales the gradients, in place, so that their common norm is at most `limit`; returns the norm before. Torch's
    own function takes no sparse gradients, which are merged here to hold each row once."""
    gradients = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            gradients.append(parameter.grad.values())
        elif parameter.grad is not None:
            gradients.append(parameter.grad)
    norm = torch.nn.utils.get_total_norm(gradients)
    factor = (limit / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor)
    return norm


def compiled(model: LanguageModel) -> Predictor:
    """The model's compiled form, which shares its weights.

    Raises:
        ConfigError: this machine cannot compile.
    """
    try:
        torch.compile(torch.neg)(torch.zeros(8, device=next(model.parameters()).device))
    except Exception as error:  # whatever a missing or broken compiler leads to
        remedy = f"does not work here ({type(error).__name__}: {error}): install a C++ compiler, or leave it off"
        raise ConfigError("trainer.compile", True, remedy) from error
    return torch.compile(model)
