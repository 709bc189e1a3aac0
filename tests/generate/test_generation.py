"""Rows of a batch are what they would be alone, and come out as they are made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import pytest
import torch

from everlong.core.errors import ConfigError, ContextError, DataError
from everlong.core.state import repeat_rows
from everlong.data import ByteCodec
from everlong.generate import Sampling, Step, generate, prefill
from tests.generate.small import SHAPES, small, watch

CODEC = ByteCodec()
PROMPTS = [b"def f(", b"", b"a much longer prompt, of some bytes", b"\x00\xff", b"def f("]
GREEDY = Sampling(temperature=0.0)


def rows(steps: Iterable[Step]) -> dict[int, bytes]:
    made: dict[int, bytes] = defaultdict(bytes)
    for step in steps:
        made[step.row] += step.data
    return made


def text(*args, **kwargs) -> bytes:
    return rows(generate(*args, **kwargs))[0]


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize(
    "sampling", [GREEDY, Sampling(top_k=50, repetition_penalty=1.2, seed=4)], ids=["greedy", "sampled"]
)
def test_ragged_rows_are_what_they_are_alone(family, sampling):
    model = small(family, sharp=5)
    together = rows(generate(model, CODEC, PROMPTS, max_tokens=12, sampling=sampling))
    for i, prompt in enumerate(PROMPTS[:4]):
        assert together[i] == text(model, CODEC, [prompt], max_tokens=12, sampling=sampling)
    assert (together[4] == together[0]) == (sampling is GREEDY)


def test_greedy_text_is_the_argmax_of_full_forwards():
    model, ids = small(), [CODEC.bos, *b"def"]
    with torch.inference_mode():
        for _ in range(10):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1, :256].argmax()))
    made = text(model, CODEC, ["def"], max_tokens=10, sampling=GREEDY, stop_at_eos=False)
    assert made == bytes(ids[4:])


def test_nothing_is_read_twice(monkeypatch):
    model = small()
    calls = watch(model, monkeypatch)
    list(generate(model, CODEC, [b"a prompt"], max_tokens=10, stop_at_eos=False))
    assert calls == [(1, 9, False)] + [(1, 1, False)] * 9


def test_prompts_of_one_length_stay_plain_and_others_are_ragged_once(monkeypatch):
    model = small()
    calls = watch(model, monkeypatch)
    list(generate(model, CODEC, [b"one", b"two"], max_tokens=2, stop_at_eos=False))
    list(generate(model, CODEC, [b"one", b"three"], max_tokens=2, stop_at_eos=False))
    assert calls == [(2, 4, False), (2, 1, False), (2, 6, True), (2, 1, False)]


def test_finished_rows_leave_the_batch_and_the_others_go_on(monkeypatch):
    model = small()
    alone = [text(model, CODEC, [prompt], max_tokens=12, sampling=GREEDY) for prompt in PROMPTS[:3]]
    stop = next(alone[0][i : i + 2] for i in range(10) if all(alone[0][i : i + 2] not in row for row in alone[1:]))
    calls = watch(model, monkeypatch)
    together = rows(generate(model, CODEC, PROMPTS[:3], max_tokens=12, sampling=GREEDY, stop=[stop]))
    assert together[0] == alone[0][: alone[0].index(stop)]
    assert [together[1], together[2]] == alone[1:]
    assert {call[0] for call in calls} == {3, 2}


def test_long_prompts_are_read_in_pieces(monkeypatch):
    model = small("sparse")
    whole, state = prefill(model, CODEC, PROMPTS)
    monkeypatch.setattr("everlong.generate.prompts.PIECE", 4)
    calls = watch(model, monkeypatch)
    pieces, state_of_pieces = prefill(model, CODEC, PROMPTS)
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-10)
    assert state_of_pieces.position_B.tolist() == state.position_B.tolist() == [len(p) + 1 for p in PROMPTS]
    assert {call[1] for call in calls} == {4}


def test_pieces_shrink_with_batch_and_vocabulary(monkeypatch):
    model = small()
    monkeypatch.setattr("everlong.generate.stream.MOST_LOGITS", 2 * 259 * 3)
    calls = watch(model, monkeypatch)
    prefill(model, CODEC, [b"123456", b"abcdef"])
    assert [call[1] for call in calls] == [3, 3, 1]


@pytest.mark.parametrize("family", SHAPES)
def test_a_state_is_continued_and_forked(family):
    model, document = small(family, sharp=5), b"a long document that is read once. "
    prompts = [b"first", b"the second", b"first"]
    state = repeat_rows(prefill(model, CODEC, [document])[1], 3)
    continued = rows(generate(model, CODEC, prompts, max_tokens=8, sampling=GREEDY, state=state))
    whole = rows(generate(model, CODEC, [document + prompt for prompt in prompts], max_tokens=8, sampling=GREEDY))
    assert continued == whole


def test_seeds_reproduce_and_vary():
    model = small(sharp=1)

    def made(seed: int) -> bytes:
        return text(model, CODEC, ["x"], max_tokens=6, sampling=Sampling(seed=seed), stop_at_eos=False)

    assert made(1) == made(1)
    assert len({made(seed) for seed in range(5)}) == 5


def test_eos_ends_a_row_and_other_special_ids_are_never_made():
    model = small(sharp=0)  # uniform: 2000 tokens would hold each id several times
    steps = list(generate(model, CODEC, [b"%d" % i for i in range(50, 99)], max_tokens=40))
    ended = [step for step in steps if step.token == CODEC.eos]
    assert ended
    assert {(step.data, step.finished) for step in ended} == {(b"", "eos")}
    assert {step.token for step in steps} <= {*range(256), CODEC.eos}
    last = {step.row: step for step in steps}
    assert len(last) == 49
    assert {step.finished for step in last.values()} == {"eos", "length"}


def test_eos_can_be_ruled_out():
    model = small(sharp=0)
    prompts = [b"%d" % i for i in range(50, 100)]
    steps = list(generate(model, CODEC, prompts, max_tokens=40, stop_at_eos=False))
    assert len(steps) == 2000
    assert max(step.token for step in steps) < 256


def test_ids_that_only_fill_the_vocabulary_are_never_made():
    model = small(sharp=0, vocabulary=1000)
    steps = generate(model, CODEC, [b"%d" % i for i in range(10, 60)], max_tokens=2, stop_at_eos=False)
    assert max(step.token for step in steps) < 256


def test_stop_strings_end_a_row_before_them():
    model = small(sharp=2)
    free = text(model, CODEC, ["x"], max_tokens=40, stop_at_eos=False)
    stop = free[20:23]
    steps = list(generate(model, CODEC, ["x"], max_tokens=40, stop=["never made", stop], stop_at_eos=False))
    assert b"".join(step.data for step in steps) == free[: free.index(stop)]
    assert [step.finished for step in steps[-2:]] == [None, "stop"]
    assert len(steps) == free.index(stop) + 3


def test_what_was_held_back_for_a_stop_comes_with_the_last_step():
    model = small(sharp=2)
    free = text(model, CODEC, ["x"], max_tokens=10, stop_at_eos=False)
    steps = list(generate(model, CODEC, ["x"], max_tokens=10, stop=[free[-2:] + b"more"], stop_at_eos=False))
    assert b"".join(step.data for step in steps) == free
    assert len(steps[-1].data) >= 2
    assert steps[-1].finished == "length"


def test_text_is_the_bytes_as_utf8():
    steps = list(generate(small(sharp=0), CODEC, ["x"], max_tokens=100, stop_at_eos=False))
    data = b"".join(step.data for step in steps)
    assert "".join(step.text for step in steps) == data.decode("utf-8", "replace")


def test_tokens_of_several_bytes(tokenizer_codec):
    model = small(vocabulary=tokenizer_codec.vocabulary, sharp=5)
    prompts = ["naïve café", "the same"]
    together = rows(generate(model, tokenizer_codec, prompts, max_tokens=20))
    assert together == {i: text(model, tokenizer_codec, [prompt], max_tokens=20) for i, prompt in enumerate(prompts)}


def test_the_callers_grad_mode_is_left_alone_between_steps():
    steps = generate(small(), CODEC, ["x"], max_tokens=3)
    next(steps)
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


def fails_if_called(*args, **kwargs):
    raise AssertionError("the model was called")


@pytest.mark.parametrize(
    ("error", "field", "arguments"),
    [
        (ContextError, "prompts", {"prompts": []}),
        (ContextError, "prompt 1", {"prompts": ["ok", "x" * 8]}),
        (ContextError, "prompt 0", {"max_tokens": 8}),
        (ConfigError, "max_tokens", {"max_tokens": 0}),
        (ConfigError, "stop", {"stop": ["a", ""]}),
        (DataError, "stop", {"stop": ["\ud800"]}),
        (DataError, "prompt", {"prompts": ["\ud800"]}),
    ],
)
def test_bad_calls_fail_before_any_work(error, field, arguments, monkeypatch):
    model = small(context_limit=10)
    monkeypatch.setattr(model, "forward", fails_if_called)
    with pytest.raises(error) as caught:
        generate(model, CODEC, **{"prompts": ["xyz"], "max_tokens": 4, **arguments})
    assert caught.value.field == field


def test_the_limit_itself_can_be_reached():
    model = small(context_limit=10)
    assert len(list(generate(model, CODEC, ["xyz"], max_tokens=7, stop_at_eos=False))) == 7
    state = prefill(model, CODEC, ["abc"])[1]
    assert len(list(generate(model, CODEC, ["xyz"], max_tokens=4, stop_at_eos=False, state=state))) == 4
    with pytest.raises(ContextError, match="context_limit"):
        generate(model, CODEC, ["xyz"], max_tokens=5, state=state)


def test_a_state_must_fit_its_prompts():
    model = small()
    state = prefill(model, CODEC, ["abc"])[1]
    with pytest.raises(ContextError, match="repeat_rows"):
        generate(model, CODEC, ["a", "b"], max_tokens=4, state=state)
    with pytest.raises(ContextError, match="at least one token"):
        generate(model, CODEC, [""], max_tokens=4, state=state)


def test_a_codec_of_another_model_is_refused(tokenizer_codec):
    with pytest.raises(ConfigError, match=r"codec\.vocabulary"):
        generate(small(), tokenizer_codec, ["x"], max_tokens=4)


def test_recent_tokens_are_the_last_ones_of_prompt_and_text():
    model = small()
    with torch.no_grad():
        model.embedding.weight[:] = 1.0  # so every position predicts alike
        logits_V = model(torch.tensor([[CODEC.bos]])).logits[0, 0, :256]
    first, second, third = logits_V.argsort(descending=True)[:3].tolist()
    near = Sampling(temperature=0.0, repetition_penalty=1e6, repetition_window=2)
    made = text(model, CODEC, [bytes([first])], max_tokens=7, sampling=near, stop_at_eos=False)
    assert list(made) == [second, third, first, second, third, first, second]
