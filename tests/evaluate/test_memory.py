"""Memory for training is counted as if it had been taken."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import everlong
from everlong.evaluate.memory import training_memory
from everlong.train.precision import autocast

SHAPE = {"layers": 2, "width": 32, "heads": 2}


def really_saved(config, window: int, batch: int, precision) -> int:
    """Bytes that a real forward pass keeps, by the addresses of real memory."""
    model, ids_BT, kept = config.build(), torch.zeros(batch, window, dtype=torch.long), {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        autocast(torch.device("cpu"), precision),
    ):
        logits_BTV = model(ids_BT).logits
        loss = F.cross_entropy(logits_BTV.flatten(0, 1).float(), ids_BT.flatten())
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    total = sum(x.untyped_storage().nbytes() for address, x in kept.items() if address not in own)
    assert loss.isfinite()  # and so the graph lives until here
    return total


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["linear", "sparse", "transformer", "window"])
def test_activations_are_those_of_a_real_pass(family, precision):
    config = everlong.config(f"{family}:nano", **SHAPE)
    found = training_memory(config, window=300, batch=2, precision=precision)
    assert found.activations == pytest.approx(really_saved(config, 300, 2, precision), rel=0.01)


def test_the_other_parts_by_hand():
    config = everlong.config("linear:nano", **SHAPE)
    weights = 4 * sum(parameter.numel() for parameter in config.build().parameters())
    found = training_memory(config, window=16, batch=1, precision="bfloat16")
    assert (found.weights, found.gradients, found.optimizer) == (weights, weights, 2 * weights)
    assert found.activations is not None
    assert found.total == 4 * weights + found.activations


def test_activations_grow_by_the_row():
    config = everlong.config("transformer:nano", **SHAPE)
    one, two, three = (training_memory(config, window=128, batch=B, precision="float32").activations for B in (1, 2, 3))
    assert three - two == two - one > one / 2


def test_a_context_limit_is_no_obstacle():
    limited, free = (everlong.config("transformer:nano", **SHAPE, context_limit=limit) for limit in (64, None))
    found = [training_memory(config, window=64, batch=1, precision="float32") for config in (limited, free)]
    assert found[0] == found[1]


@pytest.mark.parametrize("family", ["hnet", "spacebyte"])
def test_activations_of_learned_chunks_are_not_made_up(family):
    found = training_memory(everlong.config(f"{family}:nano"), window=64, batch=2, precision="float32")
    assert found.activations is None
    assert found.total == found.weights + found.gradients + found.optimizer
