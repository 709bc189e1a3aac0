"""Coding is exact for any frequencies, and costs what the symbols' probabilities say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.core.errors import CompressionError
from everlong.generate.arithmetic_coding import TOTAL, Decoder, Encoder, cumulative, quantise

Share = tuple[int, int]


@st.composite
def shares(draw) -> list[Share]:
    """Symbols' shares, from one part of `TOTAL` to all but one, at the interval's ends as often as within."""
    made = []
    for _ in range(draw(st.integers(0, 60))):
        frequency = draw(st.one_of(st.integers(1, TOTAL - 1), st.integers(0, 31).map(lambda k: 1 << k)))
        start = draw(st.one_of(st.sampled_from([0, TOTAL - frequency]), st.integers(0, TOTAL - frequency)))
        made.append((start, frequency))
    return made


def encoded(symbols: list[Share]) -> bytes:
    encoder = Encoder()
    for start, frequency in symbols:
        encoder.encode(start, frequency)
    return encoder.finish()


def ideal_bits(symbols: list[Share]) -> float:
    return sum(32 - math.log2(frequency) for _, frequency in symbols)


@settings(max_examples=80)
@given(symbols=shares())
def test_every_symbol_is_found_again(symbols):
    decoder = Decoder(encoded(symbols))
    for start, frequency in symbols:
        assert start <= decoder.target() < start + frequency
        decoder.consume(start, frequency)


@settings(max_examples=80)
@given(symbols=shares())
def test_a_message_is_less_than_a_byte_longer_than_its_information(symbols):
    assert 8 * len(encoded(symbols)) < ideal_bits(symbols) + 9


def test_no_symbols_are_no_bytes():
    assert encoded([]) == b""


@pytest.mark.parametrize("side", [0, TOTAL // 2])
def test_carries_ripple_through_many_bytes(side):
    narrow = [(TOTAL // 2 - 1, 2)] * 20  # ever closer round a half: 0.0111... to 0.1000... in binary
    symbols = [*narrow, (side, TOTAL // 2)]
    message, decoder = encoded(symbols), Decoder(encoded(symbols))
    assert message[0] == (0x80 if side else 0x7F)
    for start, frequency in symbols:
        assert start <= decoder.target() < start + frequency
        decoder.consume(start, frequency)


def test_long_messages_reach_the_entropy():
    rng = np.random.default_rng(0)
    p_V = rng.dirichlet(np.full(256, 0.05))
    table = cumulative(quantise(p_V[None]))[0].tolist()
    symbols = rng.choice(256, size=20_000, p=p_V)
    size = 8 * len(encoded([(table[s], table[s + 1] - table[s]) for s in symbols]))
    bits = -np.log2(p_V[symbols]).sum()
    assert bits - 1 < size < bits * (1 + 1e-6) + 16


def test_a_sure_model_pays_nothing_for_its_259_symbols():
    p_BV = np.full((1, 259), 1e-12)
    p_BV[0, 65] = 1 - 258e-12
    table = cumulative(quantise(p_BV))[0].tolist()
    assert len(encoded([(table[65], table[66] - table[65])] * 20_000)) <= 1


@settings(max_examples=200)
@given(weights=st.lists(st.one_of(st.just(0.0), st.floats(1e-30, 1e30)), min_size=1, max_size=40).filter(any))
def test_frequencies_add_up_and_none_is_0(weights):
    p_BV = np.array([weights])
    f_BV = quantise(p_BV)
    assert f_BV.sum() == TOTAL
    assert f_BV.min() >= 1
    exact = p_BV / p_BV.sum() * TOTAL
    others = np.arange(len(weights)) != p_BV.argmax()
    assert (np.abs(f_BV - exact)[0, others] <= len(weights) + 1).all()
    assert cumulative(f_BV)[0, [0, -1]].tolist() == [0, TOTAL]


@pytest.mark.parametrize("bad", [[0.5, math.nan], [math.inf, 1.0], [0.0, 0.0], [1.5, -0.5]])
def test_what_is_no_distribution_is_an_error(bad):
    with pytest.raises(CompressionError, match="distribution"):
        quantise(np.array([bad]))


def test_a_message_that_ends_early_is_an_error():
    symbols = [(3 * k, 5) for k in range(100)]
    decoder = Decoder(encoded(symbols)[:100])

    def decode() -> None:
        for start, frequency in symbols:
            decoder.target()
            decoder.consume(start, frequency)

    with pytest.raises(CompressionError, match="message"):
        decode()


def test_a_message_that_no_encoder_makes_is_an_error():
    decoder = Decoder(b"\xff" * 20)
    decoder.consume(0, TOTAL // 3)
    with pytest.raises(CompressionError, match="message"):
        decoder.target()
