"""Experts: who is chosen, how the load is kept even, and what implementations get wrong besides the laws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

import everlong
from everlong.core.accounting import active_parameter_count, parameter_count, parameter_hints
from everlong.core.errors import ConfigError
from everlong.data import Batch
from everlong.testing.compare import assert_near
from everlong.testing.example import make
from everlong.testing.stream import Stream
from everlong.train.learner import Learner
from everlong.train.optimizers import Muon
from everlong.width.experts import Experts
from everlong.width.experts_balance import BiasBalance, LossBalance, overload
from everlong.width.noop_experts import NoOpExperts
from tests.oracles import experts as oracle

CONFIG = Experts.Config(width=16, hidden=8, experts=6, active=2, shared=1)
HOLES = torch.tensor([[1, 1, 0, 1, 1, 1, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0, 1, 1, 0, 0]]).bool()


def built(config: Experts.Config = CONFIG) -> Experts:
    part = make(config)
    assert isinstance(part, Experts)
    return part


def stream(B: int = 2, T: int = 10) -> Stream:
    return Stream.random(B, T, 16)


def bias(part: Experts) -> torch.nn.Parameter:
    assert isinstance(part.balance, BiasBalance)
    return part.balance.bias_E


def gradient(part: Experts) -> torch.Tensor:
    """That of the bias."""
    found = bias(part).grad
    assert found is not None
    return found


class TestChoice:
    def test_nobody_is_dropped(self) -> None:
        """All positions choose the same experts, and each gets what it would alone."""
        part, data = built(), stream(3, 20)
        with torch.no_grad():
            part.router.weight.zero_()
        y_BTD, _ = part(data.x_BTD, span := data.span)
        assert sorted(span.observed["experts/load"][0].tolist()) == [0, 0, 0, 0, 3, 3]
        weights = dict(part.named_parameters())
        for b in range(3):
            expected = oracle.experts(CONFIG, weights, data.x_BTD[b], data.ids_BT[b])
            assert_near(y_BTD[b], expected, 1e-10, f"row {b}")

    def test_the_order_of_experts_means_nothing(self) -> None:
        part, other, data = built(), built(), stream()
        order = torch.tensor([4, 2, 0, 5, 1, 3])
        with torch.no_grad():
            for weight in (other.router.weight, bias(other), other.input.weight, other.out.weight):
                weight.copy_(weight[order].clone())
        assert_near(
            other(data.x_BTD, data.span)[0], part(data.x_BTD, data.span)[0], 1e-12, "with experts in another order"
        )

    def test_the_order_of_positions_means_nothing(self) -> None:
        part, data = built(), stream(4, 10)
        order = torch.randperm(10)
        y_BTD, _ = part(data.x_BTD, data.span)
        assert_near(part(data.x_BTD[:, order], data.span)[0], y_BTD[:, order], 1e-12, "in another order")

    def test_one_active_teaches_the_router(self) -> None:
        part, data = built(CONFIG.replace(active=1)), stream()
        part(data.x_BTD, data.span)[0].square().sum().backward()
        assert part.router.weight.grad is not None
        assert part.router.weight.grad.abs().max() > 0.01

    def test_padding_is_not_counted(self) -> None:
        data = replace(stream(), document_BT=torch.zeros(2, 10, dtype=torch.int64), real_BT=HOLES)
        built()(data.x_BTD, span := data.span)
        load_E = span.observed["experts/load"][0]
        counts = load_E * int(HOLES.sum()) * 2 / 6
        assert_near(counts, counts.round(), 1e-12, "counts are whole")
        assert counts.sum() == pytest.approx(2 * int(HOLES.sum()))
        assert span.observed["experts/highest_load"][0] == load_E.max()

    def test_only_padding(self) -> None:
        data = replace(stream(), document_BT=torch.zeros(2, 10, dtype=torch.int64), real_BT=torch.zeros_like(HOLES))
        y_BTD, _ = built().train()(data.x_BTD, span := data.span)
        assert y_BTD.isfinite().all()
        assert span.auxiliary["experts/balance"].isfinite()

    def test_training_changes_no_output(self) -> None:
        part, data = built(), stream()
        evaluated = part(data.x_BTD, span := data.span)[0]
        assert not span.auxiliary
        assert torch.equal(part.train()(data.x_BTD, data.span)[0], evaluated)

    def test_under_autocast(self) -> None:
        part, data = CONFIG.build(), stream()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y_BTD, _ = part(data.x_BTD.float(), data.span)
        assert y_BTD.dtype == torch.bfloat16
        y_BTD.float().square().sum().backward()
        assert all(p.grad is not None for name, p in part.named_parameters() if name != "balance.bias_E")


class TestBalance:
    def test_the_bias_learns_the_overload(self) -> None:
        part, data = built(CONFIG.replace(balance=BiasBalance.Config(weight=0.5))).train(), stream()
        part(data.x_BTD, span := data.span)
        loss = span.auxiliary["experts/balance"]
        assert loss == 0
        loss.backward()
        own = {name for name, parameter in part.named_parameters() if parameter.grad is not None}
        assert own == {"balance.bias_E"}
        overload_E = span.observed["experts/load"][0].double() - 1
        torch.testing.assert_close(gradient(part), 0.5 * overload_E)

    def test_pieces_of_a_batch_sum_up(self) -> None:
        """The mean gradient over pieces, as the trainer accumulates it, is that of the whole batch."""
        part, data = built().train(), stream(4)
        gradients = []
        for pieces in ([[0, 1, 2, 3]], [[0, 1], [2, 3]]):
            part.zero_grad()
            for rows in pieces:
                piece = data.rows(rows)
                part(piece.x_BTD, span := piece.span)
                (span.auxiliary["experts/balance"] / len(pieces)).backward()
            gradients.append(gradient(part).clone())
        torch.testing.assert_close(*gradients)

    def test_the_trainer_moves_the_bias(self) -> None:
        """Against the load, by about a tenth of the learning rate; and not in a step that is skipped."""
        model = everlong.build("moe:nano", layers=2)
        learner = Learner(Learner.Config(accumulation=2), model)
        part = model.body.blocks[1].feed_forward
        ids_BT = torch.randint(0, 256, (4, 32))
        batch = Batch(ids_BT, ids_BT, None, torch.full((4,), 32), fresh=True)
        learner.learn(batch, 1.0)
        with torch.no_grad():
            load_E = model(ids_BT).observed["experts/load"][0]
        moved = bias(part).detach().clone()
        assert moved.abs().max() == pytest.approx(0.1 * learner.config.optimizer.learning_rate, rel=0.01)
        assert moved[load_E.argmax()] < 0 < moved[load_E.argmin()]
        with torch.no_grad():
            model.head.weight[0, 0] = torch.nan
        assert learner.learn(batch, 1.0).skipped
        assert torch.equal(bias(part), moved)

    @pytest.mark.parametrize("balance", [BiasBalance.Config(), LossBalance.Config(weight=1.0)], ids=["bias", "loss"])
    def test_the_load_becomes_even(self, balance: Any) -> None:
        """From a router that prefers some experts by far, by its own loss alone."""
        part, data = built(CONFIG.replace(balance=balance)).train(), stream(8, 32)
        with torch.no_grad():
            x_BTD = data.x_BTD + 1.0
            part.router.weight.mul_(0.2)[:2].add_(0.1)
            if isinstance(part.balance, BiasBalance):
                part.balance.bias_E.zero_()
        optimizer = torch.optim.Adam(part.parameters(), lr=0.005)
        highest = []
        for _ in range(120):
            optimizer.zero_grad()
            part(x_BTD, span := data.span)
            span.auxiliary["experts/balance"].backward()
            optimizer.step()
            highest.append(span.observed["experts/highest_load"][0].item())
        assert highest[0] > 2
        assert sum(highest[-10:]) / 10 < 1.2, highest[::10]

    def test_the_classic_loss(self) -> None:
        """E sum_e f_e P_e, with P_e the mean share of the scores."""
        count_E, score_NE = torch.tensor([3, 1, 0, 0]), torch.tensor([[0.4, 0.4, 0.1, 0.1], [0.9, 0.3, 0.3, 0.3]])
        expected = 4 * (0.75 * (0.4 + 0.5) / 2 + 0.25 * (0.4 + 1 / 6) / 2)
        found = LossBalance.Config(weight=0.25).build(4).loss(score_NE, count_E)
        assert found.item() == pytest.approx(0.25 * expected)

    def test_overload(self) -> None:
        assert overload(torch.tensor([2, 2, 2])).tolist() == [0, 0, 0]
        assert overload(torch.tensor([3, 0, 0])).tolist() == [2, -1, -1]
        assert overload(torch.tensor([0, 0])).tolist() == [-1, -1]


class TestAccounting:
    def test_as_many_flops_as_the_dense_model(self) -> None:
        """Expert sizes are those of the dense feed-forward, cut in pieces; the rest are the routers."""
        dense, ours = (everlong.build(f"{family}:nano", layers=4) for family in ("transformer", "moe"))
        routers = 3 * 2 * 64 * 96 * 16
        assert ours.flops(64) == dense.flops(64) + routers

    def test_active_parameters(self) -> None:
        dense, ours = (everlong.build(f"{family}:nano", layers=4) for family in ("transformer", "moe"))
        routing = 3 * (96 * 16 + 16)  # routers and biases
        assert active_parameter_count(dense) == parameter_count(dense)
        assert active_parameter_count(ours) == parameter_count(dense) + routing
        assert parameter_count(ours) == active_parameter_count(ours) + 3 * 13 * 3 * 96 * 64

    def test_stacks_are_trained_as_the_matrices_in_them(self) -> None:
        hints = {name: hint for name, _, hint in parameter_hints(built())}
        assert hints["input.weight"].decay
        assert hints["input.weight"].matrix
        assert not hints["router.weight"].matrix
        assert not hints["balance.bias_E"].decay
        assert hints["common.out.weight"].matrix

    def test_muon_takes_stacks(self) -> None:
        groups = Muon.Config().build(everlong.build("moe:nano")).groups()
        trained = {name: group for group in groups for name in group["parameters"]}
        stacks = [name for name in trained if name.endswith("feed_forward.input.weight") and ".0." not in name]
        assert stacks
        assert all(trained[name]["optimizer"] == "MatrixMuon" and trained[name]["weight_decay"] > 0 for name in stacks)

    def test_a_stack_scales_experts_down(self) -> None:
        """The last matrices of experts write into the residual stream, and are as much smaller as others."""
        sizes = []
        for layers in (2, 8):
            out = everlong.build("moe:nano", layers=layers, dense=0).body.blocks[0].feed_forward.out
            sizes.append(out.weight.std().item())
        assert sizes[0] / sizes[1] == pytest.approx((24 / 6) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"experts": 0}, "experts.experts"),
        ({"active": 0}, "experts.active"),
        ({"active": 7}, "experts.active"),
        ({"hidden": 0}, "experts.hidden"),
        ({"shared": -1}, "experts.shared"),
        ({"score": "cubic"}, "experts.score"),
        ({"scale": 0.0}, "experts.scale"),
        ({"balance": BiasBalance.Config(learning_rate=0.0)}, "balance.learning_rate"),
        ({"balance": BiasBalance.Config(weight=0.0)}, "balance.weight"),
        ({"balance": LossBalance.Config(weight=0.0)}, "balance.weight"),
    ],
)
def test_refuses(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CONFIG.replace(**changes).build()
    assert caught.value.field == field


@pytest.mark.parametrize(("override", "value"), [("dense", 3), ("dense", -1), ("active", 0), ("shared", -1)])
def test_presets_refuse(override: str, value: int) -> None:
    with pytest.raises(ConfigError, match=override):
        everlong.config("moe:nano", **{override: value})


class TestNoOps:
    CONFIG = NoOpExperts.Config(width=16, hidden=8, experts=6, noops=3, active=2)

    def test_who_chooses_no_ops_only_gets_nothing(self) -> None:
        part, data = built(self.CONFIG), stream()
        with torch.no_grad():
            bias(part).copy_(torch.tensor([0.0] * 6 + [9.0] * 3))
        y_BTD, _ = part(data.x_BTD, span := data.span)
        assert not y_BTD.any()
        assert span.observed["experts/computed"][0] == 0

    def test_the_share_that_is_computed_is_shown(self) -> None:
        part, data = built(self.CONFIG), stream()
        with torch.no_grad():
            bias(part).copy_(torch.tensor([9.0] + [0.0] * 5 + [9.0] + [0.0] * 2))  # everybody chooses one of each
        part(data.x_BTD, span := data.span)
        assert span.observed["experts/computed"][0] == 0.5

    def test_active_parameters_are_those_of_the_nominal_rate(self) -> None:
        part = self.CONFIG.build()
        one = 3 * 16 * 8
        assert parameter_count(part) - active_parameter_count(part) == 6 * one - round(2 * 6 / 9 * one)

    def test_a_preset_has_them(self) -> None:
        blocks = everlong.config("moe:nano", noops=4).body.blocks  # type: ignore[attr-defined]
        assert [type(block.feed_forward) for block in blocks[1:]] == [NoOpExperts.Config] * 2
        assert blocks[1].feed_forward.noops == 4

    def test_none_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="noops"):
            self.CONFIG.replace(noops=0).build()
