"""Prints how far a compiled model's loss and gradients lie from the model's own, relative to their size.

python compiled.py FAMILY
"""

from __future__ import annotations

import json
import sys

import torch

import everlong
from everlong.data import Batch
from everlong.train.learner import Learner


def main(family: str) -> None:
    torch.manual_seed(0)
    model = everlong.build(f"{family}:nano", layers=2, width=16, heads=2)
    ids_BT = torch.randint(0, 256, (4, 17))
    documents_BT = torch.arange(16).expand(4, 16) // 10
    batches = [
        Batch(ids_BT[:, :-1].clone(), ids_BT[:, 1:].clone(), documents, torch.full((4,), 16), fresh=True)
        for documents in (None, documents_BT)
    ]
    worst = {"loss": 0.0, "gradient": 0.0}
    for batch in batches:
        outcomes = []
        for compile_ in (False, True):
            model.zero_grad()
            nats = Learner(Learner.Config(precision="float32", compile=compile_), model).differentiate(batch).nats
            grads = [parameter.grad for parameter in model.parameters()]
            gradient = torch.cat([grad.flatten() for grad in grads if grad is not None])
            outcomes.append((nats, gradient))
        for name, own, compiled in zip(worst, *outcomes, strict=True):
            worst[name] = max(worst[name], ((own - compiled).norm() / own.norm()).item())
    sys.stdout.write(json.dumps(worst))


if __name__ == "__main__":
    main(*sys.argv[1:])
