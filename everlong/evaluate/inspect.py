"""What a model makes of a text: surprisal, where chunks are opened, which positions are routed, what gates let in.

Parts show what they do through `Span.observe`. What has a value for every position of the text is drawn on it; what has
one for every chunk of the stage outside is drawn where those chunks are opened; of everything else the mean is told.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from everlong.core.errors import DataError
from everlong.core.span import by_part
from everlong.data.codec import Codec
from everlong.evaluate.report import Headline, Mark, Marked, Section, Table, render
from everlong.model.language_model import LanguageModel

OPENED = "chunks/opened"
"""The name under which hierarchies show where they open chunks, the outermost first."""


@dataclass(frozen=True)
class Track:
    """One value a token; NaN where there is none."""

    name: str
    value_T: Float[Tensor, " t"]


@dataclass(frozen=True)
class Inspection:
    """What was seen of a text."""

    texts: Sequence[str]
    """What each token adds to the text; empty where a character is not complete."""
    bytes: int
    bits_T: Float[Tensor, " t"]
    """Surprisal of every token."""
    stages: Sequence[Track]
    """1 where a stage opens a chunk, 0 where it could have; the outermost first."""
    tracks: Sequence[Track]
    """What else has a value for tokens."""
    means: Mapping[str, float]
    """Of what has none."""

    @property
    def bits_per_byte(self) -> float:
        return float(self.bits_T.sum()) / self.bytes


@torch.inference_mode()
def inspect(model: LanguageModel, codec: Codec, data: bytes) -> Inspection:
    """Reads a text as one document.

    Raises:
        DataError: there is no text, or more than the model can take.
    """
    ids_T = torch.from_numpy(codec.encode(data))
    if not len(ids_T):
        raise DataError("text", data, "is empty: there is nothing to look at")
    limit = model.config.context_limit
    if limit is not None and len(ids_T) >= limit:
        raise DataError("text", f"{len(ids_T)} tokens", f"the model takes {limit - 1}: give a shorter one")
    device = next(model.parameters()).device
    read_T = torch.cat([torch.tensor([codec.bos]), ids_T]).to(device)
    output = model(read_T[None])
    bits_T = F.cross_entropy(output.logits[0, :-1].double(), read_T[1:], reduction="none") / math.log(2)
    stages, tracks, means = _sorted(output.observed, len(read_T))
    return Inspection(_texts(codec, ids_T.tolist()), len(data), bits_T.cpu(), stages, tracks, means)


def _texts(codec: Codec, ids: list[int]) -> list[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [decoder.decode(codec.decode([token]), final=t == len(ids) - 1) for t, token in enumerate(ids)]


def _sorted(observed: Mapping[str, list[Tensor]], T: int) -> tuple[list[Track], list[Track], dict[str, float]]:
    """Stages of chunks, other tracks, and means, of T positions of which the first stands before the text."""
    places_by_length, stages = _stages(observed.get(OPENED, []), T)
    tracks, means = [], {}
    for label, value in by_part({name: shown for name, shown in observed.items() if name != OPENED}):
        places = places_by_length.get(value.shape[1]) if value.ndim == 2 and len(value) == 1 else None
        if places is None:
            means[label] = float(value.float().mean())
        else:
            tracks.append(Track(label, _spread(value[0], places, T)))
    return stages, tracks, means


def _stages(opened: Sequence[Tensor], T: int) -> tuple[dict[int, Tensor], list[Track]]:
    """Where the positions of every resolution stand in the text, by their number, and each stage's track. A stage whose
    resolution has no place, such as one inside patches, is left out."""
    places_by_length, stages = {T: torch.arange(T)}, []
    for i, opened_1T in enumerate(opened):
        places = places_by_length.get(opened_1T.shape[1])
        if places is None:
            continue
        stages.append(Track(f"Chunks, stage {i + 1}", _spread(opened_1T[0], places, T)))
        inner = places[opened_1T[0].cpu()]
        places_by_length.setdefault(len(inner), inner)
    return places_by_length, stages


def _spread(value_K: Tensor, places_K: Tensor, T: int) -> Tensor:
    """Values at their places, without that of the token before the text."""
    value_T = torch.full((T,), math.nan, dtype=torch.float64)
    value_T[places_K] = value_K.double().cpu()
    return value_T[1:]


def inspection_report(found: Inspection, title: str, model: str, more: Sequence[Section] = ()) -> str:
    """The HTML: one text a view, and more sections behind them."""
    lead = f"{found.bytes:,} bytes as {model} sees them. Point at a stretch of text to read its numbers."
    headlines = [Headline(f"{found.bits_per_byte:.3f}", "bits per byte", best=True)]
    headlines += [
        Headline(f"{_rate(found, i):.2f}", f"bytes per chunk, stage {i + 1}") for i in range(len(found.stages))
    ]
    footer = "Made by `everlong inspect`. This page needs no network."
    return render(title, lead, headlines, [*_views(found), *more], footer)


def _rate(found: Inspection, stage: int) -> float:
    return found.bytes / max(1.0, float(found.stages[stage].value_T.nan_to_num().sum()))


def _views(found: Inspection) -> Iterator[Section]:
    outer = found.stages[0].value_T if found.stages else torch.zeros_like(found.bits_T)
    most = max(8.0, float(found.bits_T.max()))
    chunks = " A line stands where a chunk is opened." if found.stages else ""
    yield _view(
        "Surprisal", found, found.bits_T / most, outer, f"Darker is more surprising, up to {most:.0f} bits.{chunks}"
    )
    for stage in found.stages[1:]:
        yield _view(stage.name, found, stage.value_T, stage.value_T, "A line stands where this stage opens a chunk.")
    for track in found.tracks:
        low, high = (float(f(track.value_T[~track.value_T.isnan()])) for f in (torch.min, torch.max))
        caption = f"From {low:.3g}, without colour, to {high:.3g}."
        strength_T = (track.value_T - low) / max(high - low, 1e-12)
        yield _view(track.name, found, strength_T, outer, caption)
    if found.means:
        rows = [(name, f"{mean:.4g}") for name, mean in found.means.items()]
        yield Table("Means", ("what", "mean"), rows, "Of what parts show besides.")


def _view(name: str, found: Inspection, strength_T: Tensor, begins_T: Tensor, caption: str) -> Marked:
    marks = [
        Mark(text or "·", strength, begins == 1, told)
        for text, strength, begins, told in zip(
            found.texts, strength_T.nan_to_num().clamp(0, 1).tolist(), begins_T.tolist(), _told(found), strict=True
        )
    ]
    return Marked(name, marks, caption)


def _told(found: Inspection) -> list[str]:
    """All numbers of every token."""
    shown = [Track("surprisal", found.bits_T), *found.stages, *found.tracks]
    columns = [(track.name, track.value_T.tolist()) for track in shown]
    return [
        ", ".join(f"{name} {values[t]:.3g}" for name, values in columns if not math.isnan(values[t]))
        for t in range(len(found.texts))
    ]
