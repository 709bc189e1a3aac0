"""What is measured on documents: choices, perturbations, robustness, prompt lengths; and speed by context."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
import torch

import everlong
from everlong.core.errors import ConfigError, ContextError, DataError
from everlong.data import ByteCodec
from everlong.evaluate.suites import PERTURBATIONS, choices, prompt_length, robustness, speed
from everlong.generate import Totals, score
from tests.evaluate.suites.fakes import Fake, fake
from tests.generate.small import small

DOCUMENTS = [bytes(np.random.default_rng(i).integers(97, 123, size=600).tolist()) for i in range(12)]


class Reader(Fake):
    """Knows the documents by heart: it goes on with one in which the last 8 letters stand, perhaps in another case."""

    folds: bool

    def say(self, b, heard, made, new, begins):
        text = bytes(i for i in heard.tolist() if i < 256)
        said = []
        for end in range(len(text) - new + 1, len(text) + 1):
            last = text[max(0, end - 8) : end]
            last = last.lower() if self.folds else last
            place = next(((d, d.find(last)) for d in DOCUMENTS if last and last in d), None)
            following = place[0][place[1] + len(last) :] if place else b""
            said.append(following[0] if following else 0)
        return said


def drawn(name: str, text: str, seed: int = 0) -> str:
    return PERTURBATIONS[name](np.random.default_rng(seed), text)


TEXT = "The cat sat on the mat, and saw 12 Dogs. " * 100


def test_perturbations_are_those_named():
    assert drawn("AntSpeak", "The cat") == "T H E   C A T"
    assert drawn("UpperCase", "The cat") == "THE CAT"
    mixed = drawn("RandomCase", TEXT)
    letters = [letter for letter in mixed if letter.isalpha()]
    assert mixed.lower() == TEXT.lower()
    assert 0.45 < sum(letter.isupper() for letter in letters) / len(letters) < 0.55
    dropped = iter(TEXT)
    short = drawn("Drop", TEXT)
    assert all(letter in dropped for letter in short)  # a subsequence
    assert 0.87 < len(short) / len(TEXT) < 0.93
    plain = "abcdefghij" * 500
    runs = Counter(len(run[0]) for run in re.finditer(r"(.)\1*", drawn("Repeat", plain)))
    assert re.sub(r"(.)\1*", r"\1", drawn("Repeat", plain)) == plain
    assert set(runs) == {1, 2, 3, 4}
    assert 0.77 < runs[1] / 5000 < 0.83


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_perturbations_follow_from_their_generator(name):
    assert drawn(name, TEXT) == drawn(name, TEXT)
    assert (drawn(name, TEXT) == drawn(name, TEXT, seed=1)) == (name in ("AntSpeak", "UpperCase"))
    assert drawn(name, "") == ""


def test_choices_hold_what_follows_at_a_random_place(stored):
    asked = choices(stored(DOCUMENTS), count=400)
    for choice in asked:
        whole = choice.context.encode() + choice.options[choice.gold]
        right = next(d for d in DOCUMENTS if whole in d)
        others = [option for i, option in enumerate(choice.options) if i != choice.gold]
        assert not any(option in right for option in others)
        assert {len(option) for option in choice.options} == {64}
    counts = np.bincount([choice.gold for choice in asked], minlength=4)
    assert (np.abs(counts - 100) < 4 * np.sqrt(400 * 0.25 * 0.75)).all()
    assert asked == choices(stored(DOCUMENTS), count=400)


@pytest.mark.parametrize("folds", [True, False])
def test_a_reader_is_right_and_loses_what_perturbations_take(folds, stored):
    result = robustness(fake(Reader, ByteCodec.vocabulary, folds=folds), stored(DOCUMENTS), count=40)
    assert result.accuracy == 1.0
    assert (result.perturbed["UpperCase"] == 1.0) == folds
    assert (result.perturbed["UpperCase"] < 0.6) == (not folds)  # only the places of the right ones are left
    above = [(value - 0.25) / 0.75 for value in result.perturbed.values()]
    assert result.score == pytest.approx(100 * np.mean(above))


def test_an_untrained_model_is_at_chance_and_has_no_score(stored):
    result = robustness(small("linear", dtype=torch.float32, sharp=1.0), stored(DOCUMENTS), count=60)
    assert result.interval[0] < 0.25 < result.interval[1]
    assert result.score is None


@pytest.mark.parametrize(
    ("count", "documents"), [(0, DOCUMENTS), (5, DOCUMENTS[:3]), (5, [d[:319] for d in DOCUMENTS])]
)
def test_choices_that_cannot_be_made(count, documents, stored):
    with pytest.raises((ConfigError, DataError)):
        choices(stored(documents), count=count)


def test_prompt_lengths_score_the_same_ends(stored):
    model, store = small("transformer"), stored([b"short", *DOCUMENTS[:3]])
    points = prompt_length(model, store, (0, 5, 40), count=2, suffix=10)
    assert [(p.length, p.documents, p.bytes) for p in points] == [(0, 2, 20), (5, 2, 20), (40, 2, 20)]
    for point in points:
        bits = 0.0
        for document in DOCUMENTS[:2]:
            pieces = np.concatenate(list(score(model, ByteCodec(), document[-10 - point.length :])))
            totals = Totals()
            totals.add(pieces[-10:])
            bits += totals.bits
        assert point.bits_per_byte == pytest.approx(bits / 20, rel=1e-9)
    assert len({point.bits_per_byte for point in points}) == 3


@pytest.mark.parametrize("lengths", [(), (-1,), (600,)])
def test_prompt_lengths_that_cannot_be_measured(lengths, stored):
    with pytest.raises((ConfigError, DataError)):
        prompt_length(small("linear"), stored(DOCUMENTS), lengths)


def test_prompt_lengths_beyond_the_limit(stored):
    with pytest.raises(ContextError, match="at most 100"):
        prompt_length(small("linear", context_limit=100), stored(DOCUMENTS), (90,), suffix=10)


def test_speed_tells_the_bytes_of_state():
    for family, grows in (("linear", False), ("transformer", True)):
        model = small(family, dtype=torch.float32)
        short, long = speed(model, (64, 640))
        assert (long.state_bytes > short.state_bytes) == grows
        assert short.state_bytes == model.state_bytes(64)
        assert min(short.reading, short.decoding, long.reading, long.decoding) > 0


@pytest.mark.parametrize(("lengths", "limit"), [((), None), ((0,), None), ((100,), 100)])
def test_speed_that_cannot_be_measured(lengths, limit):
    with pytest.raises((ConfigError, ContextError)):
        speed(everlong.build("linear:nano", layers=1, width=16, heads=1, context_limit=limit), lengths)
