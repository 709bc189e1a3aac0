"""Models in lm-evaluation-harness: scores, texts, no ties between choices, no truncation."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from everlong.core.errors import ConfigError, ContextError
from everlong.data import ByteCodec
from everlong.generate import Sampling, Totals, generate, score
from tests.generate.small import SHAPES, small

lm_eval = pytest.importorskip("lm_eval", reason="needs the extra `eval`")
from lm_eval.api.instance import Instance  # noqa: E402

from everlong.evaluate.harness import HarnessModel, evaluate  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def asked(*arguments) -> list[Instance]:
    kind = "loglikelihood"
    return [Instance(kind, {}, tuple(one), i) for i, one in enumerate(arguments)]


def nats(model, text: bytes, last: int) -> float:
    pieces = np.concatenate(list(score(model, ByteCodec(), text)))
    return -float(pieces["bits"][-last:].sum()) * math.log(2)


@pytest.mark.parametrize("family", SHAPES)
def test_scores_are_those_of_the_model(family):
    model = small(family)
    pairs = [("2+2=", "4"), ("", "four"), ("a long context " * 9, " and its continuation"), ("é", "ü")]
    found = HarnessModel(model, ByteCodec(), batch=3).loglikelihood(asked(*pairs))
    for (context, continuation), (value, _) in zip(pairs, found, strict=True):
        last = len(continuation.encode())
        assert value == pytest.approx(nats(model, (context + continuation).encode(), last), rel=1e-9)


def test_choices_do_not_tie():
    """The harness's own class with a tokenizer that appends EOS scores both as the same last token."""
    found = HarnessModel(small("linear"), ByteCodec()).loglikelihood(asked(("2+2=", "4"), ("2+2=", "5")))
    assert found[0][0] != found[1][0]


def test_greedy_is_told():
    model, codec = small("linear"), ByteCodec()
    steps = generate(model, codec, ["a b"], max_tokens=3, sampling=Sampling(temperature=0.0))
    said = b"".join(step.data for step in steps).decode("utf-8", "surrogateescape")
    other = said[:-1] + ("x" if said[-1] != "x" else "y")
    found = HarnessModel(model, codec).loglikelihood(asked(("a b", said), ("a b", other), ("a b", said[:1])))
    assert [greedy for _, greedy in found] == [True, False, True]


def test_whole_texts():
    model, text = small("linear"), "a text that is scored as a whole"
    totals = Totals()
    for piece in score(model, ByteCodec(), text.encode()):
        totals.add(piece)
    found = HarnessModel(model, ByteCodec()).loglikelihood_rolling(asked((text,)))
    assert found == [pytest.approx(-totals.bits * math.log(2))]


def test_generation_stops_where_the_task_says():
    model, codec = small("linear"), ByteCodec()
    steps = generate(model, codec, ["a b"], max_tokens=12, sampling=Sampling(temperature=0.0))
    said = "".join(step.text for step in steps)
    letter = next(letter for letter in said if letter.isascii())
    asks = asked(("a b", {"until": [], "max_gen_toks": 12}), ("a b", {"until": letter, "max_gen_toks": 12}))
    assert HarnessModel(model, codec).generate_until(asks) == [said, said[: said.index(letter)]]
    with pytest.raises(ConfigError, match="num_beams"):
        HarnessModel(model, codec).generate_until(asked(("a", {"num_beams": 4})))


def test_nothing_is_cut():
    model = HarnessModel(small("linear", context_limit=20), ByteCodec())
    assert model.loglikelihood(asked(("x" * 16, "four")))
    for refused in (
        lambda: model.loglikelihood(asked(("x" * 17, "four"))),
        lambda: model.generate_until(asked(("x" * 17, {"max_gen_toks": 4}))),
    ):
        with pytest.raises(ContextError, match="context_limit, 20"):
            refused()
    assert math.isfinite(model.loglikelihood_rolling(asked(("x" * 50,)))[0])


def test_a_codec_that_is_not_the_models():
    with pytest.raises(ConfigError, match="vocabulary"):
        HarnessModel(small("linear", vocabulary=100), ByteCodec())
    with pytest.raises(ConfigError, match="batch"):
        HarnessModel(small("linear"), ByteCodec(), batch=0)


TASK = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: gold
metric_list:
  - metric: acc
"""


def write_task(folder: Path, name: str, gold, count: int = 120) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(count):
        a, b = rng.integers(10, 99, size=2).tolist()
        choices = [str(n) for n in rng.choice(np.arange(20, 198), 4, replace=False)]
        place = gold(rng)
        choices[place] = str(a + b)
        rows.append({"question": f"{a}+{b}=", "choices": choices, "gold": place})
    data = folder / f"{name}.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    (folder / f"{name}.yaml").write_text(TASK.format(name=name, data=data))


def accuracies(folder: Path, monkeypatch) -> dict[str, float]:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    write_task(folder, "first", lambda rng: 0)
    write_task(folder, "shuffled", lambda rng: int(rng.integers(4)))
    model = small("linear", sharp=1.0)
    found = evaluate(model, ByteCodec(), ["first", "shuffled"], folder=folder, bootstrap_iters=0)["results"]
    return {name: found[name]["acc,none"] for name in ("first", "shuffled")}


@pytest.mark.filterwarnings("ignore")  # of other people's code
def test_an_untrained_model_is_at_chance_wherever_the_right_answer_stands(tmp_path, monkeypatch):
    for accuracy in accuracies(tmp_path, monkeypatch).values():
        assert abs(accuracy - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 120)
    with pytest.raises(ConfigError, match="is not in"):
        evaluate(small("linear"), ByteCodec(), ["another"], folder=tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_choices_that_tie_would_be_seen(tmp_path, monkeypatch):
    """The known trap, put in on purpose: what is scored is the same for all choices, and the first is taken."""
    real = HarnessModel._encoded
    monkeypatch.setattr(
        HarnessModel, "_encoded", lambda self, text: np.array([257]) if text.strip().isdigit() else real(self, text)
    )
    found = accuracies(tmp_path, monkeypatch)
    assert found["first"] == 1.0
    assert found["shuffled"] < 0.5
