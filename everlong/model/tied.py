"""A language model whose head is its embedding (Press & Wolf 2017, arXiv 1608.05859).

    x_t = 10 sqrt(D) E[id_t],   logits_t = E y_t

The factor gives inputs of unit size while E is as small as a head should be (Vaswani et al. 2017, arXiv 1706.03762,
sec. 3.4, without the 10): so small that an untrained model, whose y_t still is much like x_t, does not expect each
token to follow itself.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from everlong.core.accounting import Hint
from everlong.model.language_model import LanguageModel


class TiedLanguageModel(LanguageModel):
    """A language model with one table for input and output."""

    hints = {"embedding": Hint(matrix=False, decay=False), "head": Hint(matrix=False, decay=False)}  # noqa: RUF012

    class Config(LanguageModel.Config):
        pass

    def _initialise(self) -> None:
        self.head.weight = self.embedding.weight
        nn.init.normal_(self.embedding.weight, std=1 / self._factor)

    def _embed(self, ids_BT: Tensor) -> Tensor:
        return super()._embed(ids_BT) * self._factor

    @property
    def _factor(self) -> float:
        return 10 * math.sqrt(self.config.body.width)
