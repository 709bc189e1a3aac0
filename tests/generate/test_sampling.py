"""Every filter against an oracle that sorts lists, and draws against the probabilities they come from."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.core.errors import ConfigError, EverlongError
from everlong.generate.sampling import Sampling, draw, generator_for, probabilities

LOGITS = st.lists(st.integers(-6, 6).map(lambda n: n / 2), min_size=2, max_size=12)  # ties are common


def oracle(logits: list[float], sampling: Sampling, recent: list[int]) -> list[float]:
    """The definition, one token at a time."""
    scores = list(logits)
    for i in set(recent):
        scores[i] = (
            scores[i] / sampling.repetition_penalty if scores[i] > 0 else scores[i] * sampling.repetition_penalty
        )
    ranked = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    if sampling.temperature == 0:
        return [float(i == ranked[0]) for i in range(len(scores))]
    weight = {i: math.exp((scores[i] - scores[ranked[0]]) / sampling.temperature) for i in ranked}
    ranked = ranked[: sampling.top_k]
    total, reached, kept = sum(weight[i] for i in ranked), 0.0, []
    for i in ranked:
        if sampling.top_p == 1 or reached < sampling.top_p:
            kept.append(i)
        reached += weight[i] / total
    kept = [i for i in kept if weight[i] >= sampling.min_p * weight[kept[0]]]
    total = sum(weight[i] for i in kept)
    return [weight[i] / total if i in kept else 0.0 for i in range(len(scores))]


@settings(max_examples=300)
@given(
    logits=LOGITS,
    temperature=st.sampled_from([0.0, 0.7, 1.0, 1.9]),
    top_k=st.sampled_from([None, 1, 3, 100]),
    top_p=st.sampled_from([1.0, 0.137, 0.5003, 0.9171]),  # no sum of tied probabilities is one of these
    min_p=st.sampled_from([0.0, 0.0503, 0.311, 1.0]),
    penalty=st.sampled_from([1.0, 1.3, 0.8]),
    recent=st.lists(st.integers(0, 1), min_size=1, max_size=4),
)
def test_every_filter_is_its_definition(logits, temperature, top_k, top_p, min_p, penalty, recent):
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=penalty)
    p_BV = probabilities(torch.tensor([logits], dtype=torch.float64), sampling, torch.tensor([recent]))
    expected = torch.tensor([oracle(logits, sampling, recent)], dtype=torch.float64)
    torch.testing.assert_close(p_BV, expected, rtol=1e-12, atol=1e-15)


def test_rows_are_filtered_each_by_its_own_distribution():
    logits_BV = torch.randn(5, 40, dtype=torch.float64) * 4
    sampling = Sampling(top_k=20, top_p=0.8, min_p=0.01)
    together = probabilities(logits_BV, sampling)
    alone = [probabilities(row[None], sampling)[0] for row in logits_BV]
    torch.testing.assert_close(together, torch.stack(alone))
    assert len(set((together > 0).sum(1).tolist())) > 1


@pytest.mark.parametrize("temperature", [0.0, 1e-6, 1.0, 1e30])
def test_excluded_tokens_stay_out_at_any_temperature(temperature):
    logits_BV = torch.tensor([[-torch.inf, 1e4, -1e4, -torch.inf]])
    p_BV = probabilities(logits_BV, Sampling(temperature=temperature, top_p=0.99))
    assert p_BV[0, [0, 3]].tolist() == [0, 0]
    assert p_BV.sum() == pytest.approx(1)


def test_half_precision_logits_become_probabilities_in_single():
    p_BV = probabilities(torch.randn(2, 1000).bfloat16(), Sampling())
    assert p_BV.dtype == torch.float32
    torch.testing.assert_close(p_BV.sum(1), torch.ones(2))


def test_draws_follow_the_probabilities():
    p_V = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    n = 20_000
    ids = draw(p_V.expand(n, -1), [torch.Generator().manual_seed(3)] * n)
    counts = torch.bincount(ids, minlength=6).double()
    deviation = (n * p_V * (1 - p_V)).sqrt()
    assert ((counts - n * p_V).abs() <= 4 * deviation).all()  # 0 where the probability is 0


@pytest.mark.parametrize(("uniform", "drawn"), [(0.0, 1), (0.5, 2), (1 - 2**-53, 2)])
def test_the_ends_of_the_uniform_interval_draw_nothing_impossible(uniform, drawn, monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.full(size, uniform, dtype=torch.float64))
    assert draw(torch.tensor([[0.0, 0.5, 0.5, 0.0]]), [torch.Generator()]).tolist() == [drawn]


def test_a_row_draws_the_same_in_any_company():
    p_BV = torch.rand(4, 50)
    p_BV /= p_BV.sum(1, keepdim=True)

    def generator(i: int) -> torch.Generator:
        return generator_for(7, b"prompt %d" % i, copy=0)

    together = draw(p_BV, [generator(i) for i in range(4)])
    assert together.tolist() == [int(draw(p_BV[i : i + 1], [generator(i)])) for i in range(4)]


def test_generators_differ_by_seed_prompt_and_copy():
    rows = [(0, b"a", 0), (1, b"a", 0), (0, b"b", 0), (0, b"a", 1), (0, b"", 0)]
    draws = {torch.rand(1, generator=generator_for(seed, prompt, copy)).item() for seed, prompt, copy in rows}
    assert len(draws) == len(rows)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_an_error(bad):
    with pytest.raises(EverlongError, match="not finite"):
        probabilities(torch.tensor([[0.0, 1.0], [bad, 1.0]]), Sampling())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 1e-9),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("top_k", 0),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("min_p", 1.5),
        ("repetition_penalty", 0.0),
        ("repetition_window", 0),
        ("seed", -1),
    ],
)
def test_values_out_of_range_are_named(field, value):
    with pytest.raises(ConfigError, match=field) as caught:
        Sampling(**{field: value})
    assert caught.value.field == field
