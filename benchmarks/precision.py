"""What the machine multiplies natively: a training step of `transformer:tiny` on rows of 512 bytes in float32 and in
bfloat16, and an update of its matrices by Muon here and by torch's own, which orthogonalises in bfloat16 everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import torch

import everlong
from benchmarks.harness import interleave, record
from everlong.core.accounting import parameter_hints
from everlong.data import Batch, ByteCodec, Loader
from everlong.train import DataConfig
from everlong.train.learner import Learner
from everlong.train.matrix_muon import MatrixMuon
from everlong.train.precision import Precision, native_precision

PRESET, WINDOW, ROWS = "transformer:tiny", 512, 4


def main() -> None:
    """Times both and keeps the result."""
    batch = next(Loader(DataConfig().open(ByteCodec()).train, window=WINDOW, batch=ROWS, seed=0))
    steps, step_ratios = interleave({precision: _step(precision, batch) for precision in get_args(Precision)})
    updates, update_ratios = interleave({"ours": _update(MatrixMuon), "torch": _update(torch.optim.Muon)})
    results = {
        "native": native_precision(torch.device("cpu")),
        "steps": {"timings": steps, "ratio_to_float32": step_ratios},
        "muon": {"timings": updates, "ratio_to_ours": update_ratios},
    }
    record("precision", results)


def _step(precision: Precision, batch: Batch) -> Callable[[], object]:
    learner = Learner(Learner.Config(precision=precision), everlong.build(PRESET))
    return lambda: learner.learn(batch, 1.0)


def _update(kind: type[torch.optim.Optimizer]) -> Callable[[], object]:
    """An update of the preset's hidden matrices, from gradients at random."""
    hinted = parameter_hints(everlong.build(PRESET))
    matrices = [parameter for _, parameter, hint in hinted if hint.matrix and parameter.ndim == 2]
    for matrix in matrices:
        matrix.grad = torch.randn_like(matrix)
    return kind(matrices).step


if __name__ == "__main__":
    main()
