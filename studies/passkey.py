"""Passkey retrieval through Infini-attention's memory: four digits, said once, asked for after many segments.

    python -m studies.passkey --update linear                    # trains, measures, writes the result as JSON
    python -m studies.passkey --update delta --ablation detached

Symbols, not text, so that a model of 1e5 parameters learns it on one CPU core within minutes: a haystack of 24 symbols,
a mark and four digits in it, and at the end another mark, after which the four digits are to be said. The digits never
stand in the last segment, so that all that is right came through the memory. In the haystack the same 40 symbols go
round (as the passkey of Mohtashami & Jaggi 2023 repeats one line), or every symbol is random. With several keys, each
has a name, and one of them is asked for; in training all are, and half of the questions' digits are hidden from what
reads them, or else a digit is looked up by the one before, and never by the name. Names are few at first.

Texts grow longer in stages, from two segments on to 64. The loss is that of the digits; at first also a tenth of
that of all symbols, which teaches what they are, and later would ask the memory for the haystack.

Accuracy is measured by streaming, in constant memory, with the key at the start, in the middle, and at the end (just
before the last segment). A digit is right if it is the likeliest one after the right digits before it.

Ablations are what implementations of Infini-attention have been found to do: `detached`, no gradient through what is
written; `dead-gate`, the memory's share begins at sigmoid(-10); `slow-gate`, the gate moves by hundredths in all, as it
does at the learning rate of a large model; `decayed-gate`, weight decay of 0.1 pulls it back to a half.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from rich.console import Console
from torch import Tensor

import everlong
from everlong import LanguageModel
from everlong.core.accounting import parameter_count
from everlong.core.state import detach, state_bytes
from everlong.sequence.infini import InfiniAttention
from everlong.sequence.position import Rotary
from everlong.train import Muon
from everlong.train.optimizers import Hinted
from studies.passkey_texts import ANSWER, NAMES, QUERY, VOCABULARY, Haystack, Recipe, Texts, texts

CHUNK = 16_384  # symbols of a call when streaming, over all rows
DEPTHS = {"start": 0.0, "middle": 0.5, "end": 1.0}
AT_START = 1 / 8  # share of the texts of training whose only key stands at the start
HIDDEN = 1 / 2  # share of the digits that are not shown to a model that learns several keys

Ablation = Literal["none", "detached", "dead-gate", "slow-gate", "decayed-gate"]
PROGRESS = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Stage:
    """A stretch of training."""

    steps: int
    segments: tuple[int, int]
    """The fewest and the most that a text has, or as many as its keys need; each step draws its own number, evenly by
    its logarithm."""
    learning_rate: float
    tokens: int
    """About as many a step."""
    symbols: float
    """Weight of the loss of all symbols, beside that of the digits."""
    names: int = NAMES
    """From how many those of the keys are drawn; from as many as there are keys, if those are more."""


ONE_KEY = (
    Stage(steps=300, segments=(2, 8), learning_rate=1e-2, tokens=2048, symbols=0.1),
    Stage(steps=700, segments=(4, 64), learning_rate=1e-2, tokens=4096, symbols=0.0),
    Stage(steps=600, segments=(64, 64), learning_rate=2e-2, tokens=16_384, symbols=0.0),
)
"""The longest text of training has 64 segments of 16, 1,024 symbols: the training length. The last stage has no others:
what a haystack writes beside the key adds up over a text, and only long ones ask for it to become less. That takes a
high learning rate, which four times the texts a step keep from breaking what was learnt."""

SEVERAL_KEYS = (
    Stage(steps=400, segments=(4, 8), learning_rate=1e-2, tokens=2048, symbols=0.1, names=4),
    Stage(steps=800, segments=(4, 16), learning_rate=5e-3, tokens=2048, symbols=0.0, names=4),
    Stage(steps=700, segments=(4, 16), learning_rate=5e-3, tokens=2048, symbols=0.0, names=8),
    Stage(steps=1500, segments=(4, 16), learning_rate=5e-3, tokens=2048, symbols=0.0),
    Stage(steps=800, segments=(4, 64), learning_rate=5e-3, tokens=4096, symbols=0.0),
    Stage(steps=500, segments=(64, 64), learning_rate=2.5e-3, tokens=4096, symbols=0.0),
)
"""Names are few at first: of sixteen, whether any are told apart is chance."""


@dataclass(frozen=True)
class Settings:
    """One run."""

    update: Literal["linear", "delta", "delta_stable", "gated_delta"] = "linear"
    """How segments are written."""
    ablation: Ablation = "none"
    haystack: Haystack = "repetitive"
    keys: int = 1
    """Keys that are hidden."""
    seed: int = 0
    layers: int = 2
    width: int = 64
    heads: int = 4
    segment: int = 16
    embedding: float = 0.05
    """Size of the embeddings at first. Those of size 1, the model's own, drown what is recalled."""
    stages: tyro.conf.Suppress[tuple[Stage, ...] | None] = None
    """Of training; if there are none, those for one key or for several."""
    weight_decay: float = 0.01
    warm_up: int = 50
    """Steps at the beginning of each stage."""
    lengths: tuple[int, ...] = (128, 1024, 8192, 32768, 131072, 1048576)
    """Positions at which accuracy is measured."""
    rows: int = 64
    """Most texts of each length and depth."""
    read: int = 262_144
    """Symbols of the texts of each length and depth, at most, if that is more than one text."""
    out: Path = field(default=Path("studies/results/passkey"))
    """Folder of the result."""

    @property
    def training(self) -> tuple[Stage, ...]:
        """The stages of the run."""
        return self.stages or (ONE_KEY if self.keys == 1 else SEVERAL_KEYS)

    @property
    def recipe(self) -> Recipe:
        """Of the texts: one key is asked for."""
        return Recipe(self.haystack, self.keys, self.segment)

    def lessons(self, names: int = NAMES) -> Recipe:
        """Of the texts of training: all keys are asked for, whose names are some of so many."""
        return Recipe(self.haystack, self.keys, self.segment, questions=self.keys, names=max(names, self.keys))

    @property
    def name(self) -> str:
        """Of the result's file."""
        parts = [self.update, self.ablation, self.haystack, f"keys{self.keys}", f"seed{self.seed}"]
        return "-".join(part for part in parts if part not in ("none", "repetitive", "keys1"))


# --- Training ------------------------------------------------------------------------------------------------


class DecaysGates(Muon):
    """Muon that decays gates, too, which ask not to be."""

    class Config(Muon.Config):
        pass

    def make(self, hinted: list[Hinted]) -> list[torch.optim.Optimizer]:
        return super().make(
            [(n, p, dataclasses.replace(hint, decay=hint.decay or n.endswith(".gate"))) for n, p, hint in hinted]
        )


def model_of(settings: Settings) -> LanguageModel:
    """The model of a run, with its ablation."""
    ablation = settings.ablation
    model = everlong.build(
        "infini:nano",
        layers=settings.layers,
        width=settings.width,
        heads=settings.heads,
        segment=settings.segment,
        update=settings.update,
        position=Rotary.Config(base=1000.0),
        gate=-10.0 if ablation == "dead-gate" else 0.0,
        gate_learning_rate=0.01 if ablation == "slow-gate" else 3.0,
        vocabulary=VOCABULARY,
    )
    torch.nn.init.normal_(model.embedding.weight, std=settings.embedding)
    if ablation == "detached":
        for part in _parts(model):
            part.written = _detached(part.written)
    return model


def _detached(written: Any) -> Any:
    return lambda *arguments: detach(written(*arguments))


def _parts(model: LanguageModel) -> list[InfiniAttention]:
    return [module for module in model.modules() if isinstance(module, InfiniAttention)]


def train(settings: Settings, model: LanguageModel) -> Iterator[dict[str, Any]]:
    """Trains stage after stage; tells every fiftieth step."""
    step, began = 0, time.process_time()
    rate = settings.training[0].learning_rate
    optimizer = _optimizer(settings, rate).build(model)
    for number, stage in enumerate(settings.training):
        for i in range(stage.steps):
            loss, right = _loss(model, _batch(settings, stage, step), stage.symbols, _hidden(settings, step))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step(stage.learning_rate / rate * _schedule(i, stage.steps, settings.warm_up))
            optimizer.clear()
            step += 1
            if step % 50 == 0 or i == stage.steps - 1:
                shares = [torch.sigmoid(part.gate).tolist() for part in _parts(model)]
                told = {"step": step, "stage": number, "loss": loss.item(), "digits": right, "gates": shares}
                yield {**told, "cpu_seconds": time.process_time() - began}


def _optimizer(settings: Settings, rate: float) -> Muon.Config:
    decayed = settings.ablation == "decayed-gate"
    kind, decay = (DecaysGates, 0.1) if decayed else (Muon, settings.weight_decay)
    return kind.Config(learning_rate=rate, betas=(0.9, 0.98), weight_decay=decay)


def _batch(settings: Settings, stage: Stage, step: int) -> Texts:
    """The texts of a step, equally long; of an eighth of them the key stands at the start, and else anywhere. The first
    segment, which finds no memory, is like no other, and long texts would hardly ever have their key there. Where there
    are several, all stand anywhere: the place must not tell which is asked for."""
    generator = np.random.default_rng((settings.seed, 1, step))
    lessons = settings.lessons(stage.names)
    fewest, most = (max(segments, lessons.least_segments) for segments in stage.segments)
    length = round(float(np.exp(generator.uniform(*np.log((fewest, most)))))) * settings.segment
    at_start = AT_START if settings.keys == 1 else 0
    depths = [DEPTHS["start"] if at < at_start else None for at in generator.random(max(1, stage.tokens // length))]
    return texts(lessons, length, depths, (settings.seed, 2, step))


def _hidden(settings: Settings, step: int) -> np.random.Generator | None:
    """Draws which digits are hidden in a step; nothing is where there is one key, whose digits tell nothing else."""
    return np.random.default_rng((settings.seed, 4, step)) if settings.keys > 1 else None


def _schedule(i: int, steps: int, warm_up: int) -> float:
    """A linear warm-up, then a cosine down to a tenth."""
    if i < warm_up:
        return (i + 1) / warm_up
    return 0.55 + 0.45 * math.cos(math.pi * (i - warm_up) / max(1, steps - warm_up))


def _loss(
    model: LanguageModel, batch: Texts, symbols: float, hidden: np.random.Generator | None = None
) -> tuple[Tensor, float]:
    """Cross-entropy of the digits and, with a weight, of all symbols; and the share of digits that are right. With a
    generator, what is read shows another mark in place of some of the digits."""
    ids_BT, places_A = batch.ids(0, batch.length), torch.from_numpy(batch.answer_A)
    answer_BA, read_BT = ids_BT[:, places_A], ids_BT.clone()
    if hidden is not None:
        hidden_BA = torch.from_numpy(hidden.random(answer_BA.shape) < HIDDEN)
        read_BT[:, places_A] = answer_BA.masked_fill(hidden_BA, QUERY)
    logits_BTV = model(read_BT[:, :-1]).logits
    everything = F.cross_entropy(logits_BTV.flatten(0, 1), ids_BT[:, 1:].flatten())
    logits_BAV = logits_BTV[:, places_A - 1]
    right = (logits_BAV.argmax(-1) == answer_BA).float().mean().item()
    return F.cross_entropy(logits_BAV.flatten(0, 1), answer_BA.flatten()) + symbols * everything, right


# --- Measurement ---------------------------------------------------------------------------------------------


@torch.inference_mode()
def measure(settings: Settings, model: LanguageModel, length: int) -> dict[str, Any]:
    """Accuracy at one length, by the depth of the key; all depths and rows stream side by side."""
    rows = min(settings.rows, max(1, settings.read // length))
    depths = [depth for depth in DEPTHS.values() for _ in range(rows)]
    batch = texts(settings.recipe, length, depths, (settings.seed, 3, length))
    state, last, size = None, torch.empty(len(depths), 0, VOCABULARY), max(1, CHUNK // len(depths))
    for begin in range(0, length - 1, size):
        output = model(batch.ids(begin, min(begin + size, length - 1)), state)
        state, last = output.state, torch.cat([last, output.logits], dim=1)[:, -ANSWER:]
    right_BA = last.argmax(-1).numpy() == batch.answer_BA
    by_depth = right_BA.reshape(len(DEPTHS), rows, ANSWER)
    return {
        "length": length,
        "rows": rows,
        "digits": {name: float(right.mean()) for name, right in zip(DEPTHS, by_depth, strict=True)},
        "exact": {name: float(right.all(-1).mean()) for name, right in zip(DEPTHS, by_depth, strict=True)},
        "by_digit": right_BA.mean(0).tolist(),
        "state_bytes_per_row": state_bytes(state) // len(depths),
    }


def main(settings: Settings) -> Path:
    """Trains, measures and writes; returns the file."""
    torch.manual_seed(settings.seed)
    model = model_of(settings)
    curve = []
    for told in train(settings, model):
        curve.append(told)
        PROGRESS.print(f"step {told['step']}: loss {told['loss']:.3f}, digits {told['digits']:.2f}")
    accuracy = []
    for length in settings.lengths:
        accuracy.append(measure(settings, model.eval(), length))
        PROGRESS.print(json.dumps(accuracy[-1]), soft_wrap=True)
    settings = dataclasses.replace(settings, stages=settings.training)
    result = {
        "command": " ".join(["python -m studies.passkey", *sys.argv[1:]]),
        "settings": dataclasses.asdict(settings) | {"out": str(settings.out)},
        "model": model.config.to_dict(),
        "parameters": parameter_count(model),
        "compressive_floats": sum(part.memory_floats for part in _parts(model)),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "curve": curve,
        "accuracy": accuracy,
    }
    settings.out.mkdir(parents=True, exist_ok=True)
    path = settings.out / f"{settings.name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path


if __name__ == "__main__":
    PROGRESS.print(str(main(tyro.cli(Settings))))
