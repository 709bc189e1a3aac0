"""Mixture-of-Depths: what is trained, what is streamed, and what implementations get wrong besides the laws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import everlong
from everlong import Span
from everlong.core.accounting import parameter_hints
from everlong.core.errors import ConfigError
from everlong.core.exact import exactly
from everlong.core.state import state_tensors
from everlong.depth.mixture_of_depths import MixtureOfDepths
from everlong.depth.routing import PredictorRule, RouterRule, best, score, share
from everlong.evaluate.memory import training_memory
from everlong.sequence.attention import Attention
from everlong.testing.compare import assert_near, pattern
from everlong.testing.example import make
from everlong.testing.stream import Stream
from tests.laws.entries.mod import PREDICTOR, ROUTER, mod
from tests.laws.entries.shared import FULL, SHARED, block

AROUND_ATTENTION = mod(block(Attention.Config(**SHARED)), capacity=0.25)
PACKED = torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 3, 3], [0] * 16])
HOLES = torch.tensor([[1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1], [0, 0, 1, 1] * 4]).bool()


def training_part(config: MixtureOfDepths.Config = AROUND_ATTENTION) -> MixtureOfDepths:
    part = make(config).train()
    assert isinstance(part, MixtureOfDepths)
    return part


def packed(seed: int = 0) -> Stream:
    return replace(Stream.random(2, 16, 16, seed), document_BT=PACKED, real_BT=HOLES)


class TestTrainingChoice:
    """Who is routed while training."""

    def test_the_best_by_score(self) -> None:
        score_BT = torch.randn(3, 40)
        routed_BT = best(score_BT, 0.125, Span.plain_from(torch.zeros(3, 40, dtype=torch.long)))
        for row, routed in zip(score_BT[:, 1:], routed_BT, strict=True):
            assert routed[0], "the first position is always routed"
            assert routed.nonzero()[1:, 0].tolist() == sorted((row.topk(4).indices + 1).tolist())

    @pytest.mark.parametrize("capacity", [0.01, 0.125, 0.3, 0.5, 1.0])
    @pytest.mark.parametrize("T", [1, 7, 10, 64])
    def test_exactly_the_share(self, capacity: float, T: int) -> None:
        routed_BT = best(torch.zeros(2, T), capacity, Span.plain_from(torch.zeros(2, T, dtype=torch.long)))
        assert routed_BT.sum(1).tolist() == [share(capacity, T)] * 2

    def test_rounding_is_no_position(self) -> None:
        assert [share(0.1, T) for T in (0, 1, 10, 11, 20, 30)] == [0, 1, 1, 2, 2, 3]
        assert share(0.55, 100) == 55

    def test_every_document_has_its_share(self) -> None:
        stream = packed()
        routed_BT = best(torch.randn(2, 16), 0.25, stream.span)
        assert not (routed_BT & ~HOLES).any()
        for b, index_R in stream.documents():
            assert int(routed_BT[b, index_R].sum()) == share(0.25, len(index_R))
            assert routed_BT[b, index_R[0]]

    def test_goes_on_with_a_document(self) -> None:
        """A stretch that does not begin a document has no first position."""
        score_BT = torch.arange(8.0)[None]
        span = Span.plain_from(torch.zeros(1, 8, dtype=torch.long), torch.tensor([5]))
        assert best(score_BT, 0.25, span)[0].nonzero()[:, 0].tolist() == [6, 7]

    def test_looks_ahead(self) -> None:
        """Training is not causal, and nothing but a perturbation that changes the choice shows it: a last vector along
        the router takes an earlier one's place."""
        part, stream = training_part(), Stream.random(1, 16, 16)
        later = stream.x_BTD.clone()
        later[:, -1] += 100 * part.router.weight[0].sign()
        outputs = [part(x_BTD, stream.span)[0][:, :-1] for x_BTD in (stream.x_BTD, later)]
        assert (outputs[0] - outputs[1]).abs().max() > 0.1
        part.eval()
        assert_near(part(later, stream.span)[0][:, :-1], part(stream.x_BTD, stream.span)[0][:, :-1], 1e-12, "causal")


class TestUpdate:
    """What is done to whom."""

    def test_matches_the_equation_in_training(self) -> None:
        part, stream = training_part(), Stream.random(2, 16, 16)
        y_BTD, _ = part(stream.x_BTD, stream.span)
        rms_BT1 = stream.x_BTD.square().mean(-1, keepdim=True).add(1e-6).sqrt()
        score_BT = (stream.x_BTD / rms_BT1 @ part.router.weight[0]).detach()
        routed_BT = best(score_BT, 0.25, stream.span)
        for b in range(2):
            index_R = routed_BT[b].nonzero()[:, 0]
            x_1RD, ids_1R = stream.x_BTD[b, index_R][None], stream.ids_BT[b, index_R][None]
            inner_1RD, _ = part.inner(x_1RD, Span(ids_1R, index_R[None]))
            update_RD = (inner_1RD - x_1RD)[0] * torch.sigmoid(score_BT[b, index_R])[:, None]
            assert_near(y_BTD[b, index_R], stream.x_BTD[b, index_R] + update_RD, 1e-12, "routed positions")
        assert torch.equal(y_BTD[~routed_BT], stream.x_BTD[~routed_BT])

    def test_leaves_its_input_alone(self) -> None:
        part, stream = training_part(), Stream.random(2, 16, 16)
        before = stream.x_BTD.clone()
        part(stream.x_BTD, stream.span)
        assert torch.equal(stream.x_BTD, before)

    @pytest.mark.parametrize("training", [True, False])
    def test_no_update_is_the_identity(self, training: bool) -> None:
        part, stream = training_part().train(training), Stream.random(2, 16, 16)
        for writer in part.residual_writers():
            torch.nn.init.zeros_(writer.weight)
        assert torch.equal(part(stream.x_BTD, stream.span)[0], stream.x_BTD)

    def test_packed_is_alone_in_training(self) -> None:
        part, stream = training_part(), packed()
        y_BTD, _ = part(stream.x_BTD, stream.span)
        for b, index_R in stream.documents():
            alone = Stream(stream.x_BTD[b, index_R][None], stream.ids_BT[b, index_R][None])
            assert_near(y_BTD[b, index_R], part(alone.x_BTD, alone.span)[0][0], 1e-12, f"row {b}, {index_R.tolist()}")


class TestGradients:
    """Who learns from what."""

    def gradients(self, config: MixtureOfDepths.Config, of: str) -> dict[str, Tensor | None]:
        """From the output, or from the rule's own loss."""
        part, stream = training_part(config), Stream.random(2, 16, 16)
        x_BTD, span = stream.x_BTD.clone().requires_grad_(), stream.span
        y_BTD, _ = part(x_BTD, span)
        loss = (y_BTD * pattern(y_BTD)).sum() if of == "output" else span.auxiliary["depths/rule"]
        loss.backward()
        found = {name: p.grad for name, p in part.named_parameters()} | {"the input": x_BTD.grad}
        return {name: g if g is not None and g.abs().max() > 0 else None for name, g in found.items()}

    @pytest.mark.parametrize("rule", [PREDICTOR, ROUTER])
    def test_the_output_teaches_router_and_block(self, rule: Any) -> None:
        found = self.gradients(AROUND_ATTENTION.replace(rule=rule), "output")
        assert all((g is None) == name.startswith("rule.") for name, g in found.items()), found.keys()

    def test_the_predictor_learns_aside(self) -> None:
        found = self.gradients(AROUND_ATTENTION, "rule")
        assert all((g is not None) == name.startswith("rule.") for name, g in found.items())

    def test_the_router_rule_pulls_at_router_and_input(self) -> None:
        found = self.gradients(AROUND_ATTENTION.replace(rule=ROUTER), "rule")
        assert {name for name, g in found.items() if g is not None} == {"router.weight", "rule.offset", "the input"}

    def test_the_loss_is_weighted_and_skips_padding(self) -> None:
        stream, losses = packed(), []
        for weight, junk in ((1.0, 0.0), (0.25, 0.0), (1.0, 1e3)):
            part = training_part(AROUND_ATTENTION.replace(rule=PredictorRule.Config(weight=weight, hidden=5)))
            x_BTD = stream.x_BTD + junk * ~HOLES[..., None]
            part(x_BTD, span := stream.span)
            losses.append(span.auxiliary["depths/rule"].item())
        assert losses[1] == pytest.approx(losses[0] / 4)
        assert losses[2] == pytest.approx(losses[0])

    @pytest.mark.parametrize(
        "rule", [PredictorRule.Config(hidden=16), RouterRule.Config(weight=1.0)], ids=["predictor", "router"]
    )
    def test_rules_can_be_learnt(self, rule: Any) -> None:
        """A fixed batch is told apart almost perfectly after some steps."""
        part, stream = training_part(AROUND_ATTENTION.replace(rule=rule)), Stream.random(4, 16, 16)
        optimizer = torch.optim.Adam(part.parameters(), lr=0.02)
        for _ in range(80):
            optimizer.zero_grad()
            part(stream.x_BTD, span := stream.span)
            span.auxiliary["depths/rule"].backward()
            optimizer.step()
        assert span.observed["depths/accuracy"][0].double().mean() > 0.95


class TestStream:
    """What is decoded."""

    def test_decoding_is_parallel_evaluation(self) -> None:
        """In float64, by a model whose rows and layers route different numbers of positions."""
        torch.manual_seed(1)
        model = everlong.build("mod:nano", layers=6, width=24, heads=2, hidden=32, vocabulary=17).double()
        ids_BT = torch.randint(17, (3, 48))
        with torch.no_grad():
            whole = model(ids_BT)
            logits, state = [], None
            for t in range(48):
                step = model(ids_BT[:, t : t + 1], state)
                logits.append(step.logits)
                state = step.state
        assert_near(torch.cat(logits, 1), whole.logits, 1e-11, "token by token")
        counts = torch.stack([routed.sum(1) for routed in whole.observed["depths/routed"]])
        assert counts.unique().numel() > 2, counts
        for layer, count_B in zip((1, 3, 5), counts, strict=True):
            assert state is not None
            kept = state_tensors(state.body[layer])[0].shape[1]
            assert kept == int(count_B.max()) < 48, "the cache holds the routed positions, and no others"

    def test_a_token_that_is_not_routed_costs_the_rule_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        part, stream = training_part(AROUND_ATTENTION).eval(), Stream.random(3, 1, 16)
        (x_BTD, span), _ = Stream.random(3, 2, 16).pieces([1])
        _, state = part(x_BTD, span)
        monkeypatch.setattr(part, "choose", lambda x_BTD, span: torch.zeros_like(span.ids_BT, dtype=torch.bool))
        monkeypatch.setattr(part, "inner", None)
        y_BTD, after = part(stream.x_BTD, stream.span, state)
        assert torch.equal(y_BTD, stream.x_BTD)
        assert after is state

    def test_equally_many_in_every_row_is_plain(self) -> None:
        """The block takes its fast path, and leaves a plain cache."""
        part = training_part().eval()
        stream = Stream.random(1, 16, 16)
        assert part(stream.x_BTD, stream.span)[1][0].length_B is None

    def test_training_is_plain(self, monkeypatch: pytest.MonkeyPatch) -> None:
        part, stream, seen = training_part(), Stream.random(3, 16, 16), []
        inner = part.inner.forward
        monkeypatch.setattr(part.inner, "forward", lambda x, span, state: (seen.append(span), inner(x, span, state))[1])
        part(stream.x_BTD, stream.span)
        assert seen[0].plain
        assert seen[0].ids_BT.shape == (3, 4)

    def test_observes(self) -> None:
        part, stream = training_part(), packed()
        part(stream.x_BTD, span := stream.span)
        assert span.observed["depths/routed"][0].shape == (2, 16)
        assert span.observed["depths/accuracy"][0].shape == (int(HOLES.sum()),)
        part.eval()(stream.x_BTD, span := stream.span)
        assert set(span.observed) == {"depths/routed", "depths/share"}


class TestConfiguration:
    """Presets, parameters and errors."""

    def test_one_router_a_routed_layer(self) -> None:
        model = everlong.build("mod:nano", layers=5)
        names = [name for name, _ in model.named_parameters() if name.endswith("router.weight")]
        assert names == ["body.blocks.1.router.weight", "body.blocks.3.router.weight"]

    def test_every_block(self) -> None:
        model = everlong.build("mod:nano", every=1, capacity=0.5)
        assert sum(isinstance(module, MixtureOfDepths) for module in model.modules()) == 3

    def test_cache_is_little_more_than_half(self) -> None:
        """(1 + 1/8) / 2 of the dense cache at the default, rounding aside."""
        dense, ours = (everlong.build(f"{family}:nano", layers=4) for family in ("transformer", "mod"))
        assert ours.state_bytes(4096) / dense.state_bytes(4096) == pytest.approx(0.5625, abs=1e-3)
        assert ours.flops(4096) < 0.62 * dense.flops(4096)

    def test_training_memory_is_that_of_routed_positions(self) -> None:
        """Known from shapes alone, without looking into a tensor."""
        dense, ours = (
            training_memory(everlong.config(f"{family}:nano"), window=256, batch=2, precision="bfloat16").activations
            for family in ("transformer", "mod")
        )
        assert ours < dense

    def test_rows_are_no_matrices(self) -> None:
        part = training_part()
        hints = {name: hint for name, _, hint in parameter_hints(part)}
        assert not hints["router.weight"].matrix
        assert hints["router.weight"].learning_rate == 0.1
        assert not hints["rule.out.weight"].matrix
        assert hints["rule.input.weight"].matrix

    @pytest.mark.parametrize("rule", [PREDICTOR, ROUTER])
    def test_scores_do_not_grow_with_the_stream(self, rule: Any) -> None:
        """Vectors a thousand times as long are scored and routed the same."""
        part, x_BTD = training_part(AROUND_ATTENTION.replace(rule=rule)), torch.randn(2, 16, 16)
        assert_near(score(part.router, 1000 * x_BTD), score(part.router, x_BTD), 1e-5, "scores")
        assert_near(part.rule(1000 * x_BTD, part.router), part.rule(x_BTD, part.router), 1e-5, "the rule's")

    def test_scores_are_exact_under_autocast(self) -> None:
        layer, x_BTD = torch.nn.Linear(16, 1), torch.randn(2, 4, 16)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(exactly(layer, x_BTD), layer(x_BTD.double().float()).float()) is False
            assert exactly(layer, x_BTD).dtype == torch.float32
        assert torch.equal(exactly(layer, x_BTD), layer(x_BTD))

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"capacity": 0.0}, "mixture_of_depths.capacity"),
            ({"capacity": 1.5}, "mixture_of_depths.capacity"),
            ({"weight": "cubic"}, "mixture_of_depths.weight"),
            ({"router_learning_rate": 0.0}, "mixture_of_depths.router_learning_rate"),
            ({"inner": block(Attention.Config(**FULL))}, "mixture_of_depths.inner.width"),
            ({"rule": PredictorRule.Config(hidden=0)}, "rule.hidden"),
            ({"rule": RouterRule.Config(weight=0.0)}, "rule.weight"),
        ],
    )
    def test_refuses(self, changes: dict[str, Any], field: str) -> None:
        with pytest.raises(ConfigError) as caught:
            AROUND_ATTENTION.replace(**changes).build()
        assert caught.value.field == field

    def test_every_beyond_the_layers(self) -> None:
        with pytest.raises(ConfigError, match="every = 4"):
            everlong.config("mod:nano", every=4)
