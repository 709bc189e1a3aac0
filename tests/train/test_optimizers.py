"""Who is trained how, and that optimizers remember by name."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from everlong.core.accounting import Hint
from everlong.core.errors import CheckpointError, ConfigError
from everlong.train import AdamW, Muon


class Gate(nn.Module):
    """Asks for a fifth of the rate and no decay for its table, which is no hidden matrix; and has a vector."""

    hints = {"table": Hint(learning_rate=0.2, decay=False, matrix=False)}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(2, 3).t())  # whose rows do not lie side by side
        self.mix, self.scale = (nn.Parameter(torch.ones(shape)) for shape in ((2, 2), (2,)))


class Tied(nn.Module):
    """Two names for one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.gate = nn.Linear(4, 4, bias=False), Gate()
        self.other = nn.Linear(4, 4, bias=False)
        self.other.weight = self.one.weight


def grouped(optimizer) -> dict[tuple[str, float, float], list[str]]:
    keys = ("optimizer", "multiplier", "weight_decay")
    return {tuple(group[key] for key in keys): group["parameters"] for group in optimizer.groups()}


def differentiate(model: nn.Module) -> None:
    for i, parameter in enumerate(model.parameters()):
        values = torch.linspace(-1, 1 + i, parameter.numel()).reshape(parameter.shape)
        parameter.grad = torch.empty_like(parameter).copy_(values)


def test_adamw_groups_by_hint():
    assert grouped(AdamW.Config(weight_decay=0.3).build(Tied())) == {
        ("AdamW", 1.0, 0.3): ["one.weight", "gate.mix"],
        ("AdamW", 0.2, 0.0): ["gate.table"],
        ("AdamW", 1.0, 0.0): ["gate.scale"],
    }


def test_muon_takes_hidden_matrices_only():
    assert grouped(Muon.Config(weight_decay=0.3).build(Tied())) == {
        ("MatrixMuon", 1.0, 0.3): ["one.weight", "gate.mix"],
        ("AdamW", 0.2, 0.0): ["gate.table"],
        ("AdamW", 1.0, 0.0): ["gate.scale"],
    }


def test_muon_leaves_embedding_and_head_to_adamw(small):
    groups = grouped(Muon.Config().build(small()))
    assert groups["AdamW", 1.0, 0.0][0] == "embedding.weight"
    assert groups["AdamW", 1.0, 0.1] == ["head.weight"]
    assert all("body.blocks" in name for name in groups["MatrixMuon", 1.0, 0.1])


@pytest.mark.parametrize("config", [AdamW.Config(), Muon.Config()])
def test_every_parameter_is_held_once(config, small):
    model = small()
    held = [name for group in config.build(model).groups() for name in group["parameters"]]
    assert sorted(held) == sorted(name for name, _ in model.named_parameters())


def test_a_frozen_parameter_is_left_out():
    model = Tied()
    model.gate.mix.requires_grad_(False)
    assert "gate.mix" not in AdamW.Config().build(model).names.values()


def test_rate_is_base_times_multiplier_times_schedule():
    model = Tied()
    optimizer = AdamW.Config(learning_rate=0.5, weight_decay=0.0).build(model)
    before = [parameter.detach().clone() for parameter in (model.gate.table, model.gate.mix)]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(0.1)  # Adam's first update is the rate itself, against the gradient's sign
    table, mix = (old - new for old, new in zip(before, (model.gate.table, model.gate.mix), strict=True))
    torch.testing.assert_close(table, torch.full_like(table, 0.5 * 0.2 * 0.1))
    torch.testing.assert_close(mix, torch.full_like(mix, 0.5 * 0.1))


def test_muon_updates_have_the_size_of_adamws():
    model = nn.Linear(256, 256, bias=False)
    before = model.weight.detach().clone()
    model.weight.grad = torch.randn(256, 256)
    Muon.Config(learning_rate=0.01, weight_decay=0.0).build(model).step(1.0)
    size = (model.weight - before).square().mean().sqrt().item()
    assert 0.1 * 0.01 < size < 0.4 * 0.01  # AdamW's is 0.2 to 0.4 of its rate (arXiv 2502.16982, section 2.2)


@pytest.mark.parametrize("config", [AdamW.Config(), Muon.Config()])
def test_what_it_remembers_goes_by_name_and_is_exact(config, tmp_path):
    models = [Tied(), Tied()]
    models[1].load_state_dict(models[0].state_dict())
    saved, fresh = (config.build(model) for model in models)
    differentiate(models[0])
    saved.step(1.0)
    assert {"exp_avg:gate.table", "step:gate.scale"} <= saved.tensors().keys()
    models[1].load_state_dict(models[0].state_dict())
    save_file(saved.tensors(), tmp_path / "optimizer.safetensors")
    fresh.load(load_file(tmp_path / "optimizer.safetensors"), json.loads(json.dumps(saved.groups())))
    for model, optimizer in zip(models, (saved, fresh), strict=True):
        differentiate(model)
        optimizer.step(0.5)
    for name, parameter in models[0].named_parameters():
        assert torch.equal(parameter, models[1].get_parameter(name)), name


def test_another_grouping_is_refused():
    adamw, muon = AdamW.Config().build(Tied()), Muon.Config().build(Tied())
    with pytest.raises(CheckpointError) as caught:
        muon.load(adamw.tensors(), adamw.groups())
    assert caught.value.field == "optimizer.groups"


def test_memory_of_an_unknown_parameter_is_refused():
    optimizer = AdamW.Config().build(Tied())
    with pytest.raises(CheckpointError) as caught:
        optimizer.load({"exp_avg:nobody": torch.ones(1)}, optimizer.groups())
    assert caught.value.value == "exp_avg:nobody"


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: AdamW.Config(learning_rate=0.0), "optimizer.learning_rate"),
        (lambda: AdamW.Config(learning_rate=float("nan")), "optimizer.learning_rate"),
        (lambda: AdamW.Config(weight_decay=-1.0), "optimizer.weight_decay"),
        (lambda: AdamW.Config(betas=(0.9, 1.0)), "optimizer.betas"),
        (lambda: AdamW.Config(epsilon=0.0), "optimizer.epsilon"),
        (lambda: Muon.Config(momentum=1.0), "optimizer.momentum"),
        (lambda: AdamW.Config(learning_rate=20.0).build(Tied()), "optimizer.weight_decay"),
        (lambda: Muon.Config().build(nn.LayerNorm(4)), "optimizer"),
        (lambda: AdamW.Config().build(nn.ReLU()), "model"),
    ],
)
def test_what_cannot_train_is_refused(make, field):
    with pytest.raises(ConfigError) as caught:
        make()
    assert caught.value.field == field
