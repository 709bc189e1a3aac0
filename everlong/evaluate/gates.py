"""The gates of Infini-attention over a run, as its training told them: one number a head, layer and record.

Legend: S records, L layers with gates, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from everlong.core.span import label
from everlong.evaluate import plots
from everlong.evaluate.figure import inline_svg
from everlong.evaluate.report import Figure
from everlong.model.language_model import LanguageModel
from everlong.sequence.infini import InfiniAttention
from everlong.train import Record


def gates_over_training(model: LanguageModel, records: Sequence[Record]) -> list[Figure]:
    """The figure of a model's gates; none if it has no gates, or no record of training tells them.

    Raises:
        ConfigError: the extra `report` is not installed.
    """
    heads = [part.heads for part in model.modules() if isinstance(part, InfiniAttention)]
    layers = range(len(heads))
    names = [[label(f"infini/gate, head {h + 1}", i, len(heads)) for h in range(heads[i])] for i in layers]
    told = [record for record in records if heads and names[0][0] in record]
    if not told:
        return []
    shares = np.array([[[record[name] for name in own] for own in names] for record in told])
    title = "Gates over training"
    drawn = inline_svg(plots.gates([int(record["step"]) for record in told], shares), title)
    return [Figure(title, drawn, "How much of what a head hears comes from the memory, sigmoid(beta), head by head.")]
