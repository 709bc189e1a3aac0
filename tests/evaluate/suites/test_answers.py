"""How a model answers: the same in any batch and any pieces, and what `generate` would say."""

from __future__ import annotations

import pytest
import torch

from everlong.data import ByteCodec
from everlong.evaluate.suites import SUITES, Outcome, answers, by_depth, measure_suite, replies, wilson
from everlong.evaluate.suites.example import SPARE, Example
from everlong.generate import Sampling, generate, score
from tests.generate.small import SHAPES, small

ASKED = [Example((f"{'abc ' * n}12, x".encode(), b" 3,", b" and", b" 4455."), ("4455",), r"\d+") for n in (2, 9, 5)]


@pytest.mark.parametrize("family", SHAPES)
def test_a_batch_answers_as_its_rows_alone(family, monkeypatch):
    model, codec = small(family), ByteCodec()
    together = replies(model, codec, ASKED)
    assert together == [replies(model, codec, [example])[0] for example in ASKED]
    monkeypatch.setattr(answers, "PIECE", 7)
    assert replies(model, codec, ASKED) == together


def test_what_is_generated_is_what_generate_says():
    model, codec = small("linear"), ByteCodec()
    for example, reply in zip(ASKED, replies(model, codec, ASKED), strict=True):
        most = len(example.answer) + SPARE
        steps = generate(model, codec, [example.prompt], max_tokens=most, sampling=Sampling(temperature=0.0))
        assert reply.text == "".join(step.text for step in steps)


@pytest.mark.parametrize("gold", [True, False])
def test_taught_answers_are_right_where_every_token_is_likeliest(gold):
    """A model is asked for what it would say itself, and for something else."""
    model, codec = small("linear"), ByteCodec()
    said = b"".join(s.data for s in generate(model, codec, ["a b c"], max_tokens=3, sampling=Sampling(temperature=0.0)))
    answer = said if gold else said[:2] + bytes([said[2] ^ 1])
    last = b"x" if gold else b"y"
    example = Example((b"a b c", answer, b" " + last, b" 1"), ("1",), r"\d+")
    assert replies(model, codec, [example])[0].taught == (0.5 if gold else 0.0)


def test_taught_is_judged_by_the_scores_of_the_model():
    """If every token of an answer is likeliest, its probability is at least 1/V each."""
    model, codec = small("transformer"), ByteCodec()
    example = Example((b"a b c", b" 12345"), ("12345",), r"\d+")
    reply = replies(model, codec, [example])[0]
    bits = torch.cat([torch.from_numpy(p["bits"].copy()) for p in score(model, codec, example.prompt + example.answer)])
    assert reply.taught == 0.0
    assert bits[-len(example.answer) :].max() > 1


@pytest.mark.parametrize(
    ("right", "trials", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_intervals(right, trials, low, high):
    """The last is Newcombe's (1998) example."""
    assert wilson(right, trials) == pytest.approx((low, high), abs=5e-5)


def test_a_long_prompt_takes_no_memory_but_its_ids(monkeypatch):
    """No call sees more than a piece, whatever the length."""
    model, seen = small("linear", dtype=torch.float32), []
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    measure_suite(model, ByteCodec(), SUITES["passkey"], name="passkey", length=20_000, count=1)
    assert max(shape[1] for shape in seen) == answers.PIECE
    assert 20_000 - 100 < sum(shape[0] * shape[1] for shape in seen) < 20_100


def test_scores_by_depth():
    def outcome(depth: float | None, exact: bool) -> Outcome:
        return Outcome("1", "1", depth, exact, 1.0, 1.0)

    found = [outcome(0.0, True), outcome(0.1, False), outcome(0.5, True), outcome(1.0, False), outcome(None, True)]
    assert by_depth(found, parts=4) == ((0.0, 0.5, 2), (0.5, 1.0, 1), (0.75, 0.0, 1))
    assert by_depth([outcome(None, True)]) == ()
