"""Every suite: its sizes, its chance, and models that are random, copy, or know the answers."""

from __future__ import annotations

import math
import re
import time

import numpy as np
import pytest

import everlong
from everlong.core.errors import ConfigError, ContextError, EverlongError
from everlong.data import ByteCodec
from everlong.evaluate.suites import SUITES, examples, measure_suite, suite
from everlong.evaluate.suites.example import SPARE
from everlong.evaluate.suites.measured import ROWS_TOKENS
from tests.evaluate.suites.fakes import Copier, fake, oracle

LENGTH = 1536
LONG = {"common-words-30": 4096}
"""Suites whose examples are longer."""


def length_of(name: str) -> int:
    return LONG.get(name, LENGTH)


def size(example, codec) -> int:
    return 1 + sum(len(codec.encode(part)) for part in example.parts) + SPARE


def tail(right: int, trials: int, chance: float) -> float:
    """Probability of so many right answers or more, by guessing."""
    return sum(math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in range(right, trials + 1))


@pytest.mark.parametrize("name", SUITES)
def test_fills_the_length_and_never_exceeds_it(name, codec):
    for example in examples(SUITES[name], codec, length=length_of(name), count=3):
        assert length_of(name) - 220 <= size(example, codec) <= length_of(name)


@pytest.mark.parametrize("name", SUITES)
def test_the_smallest_length_that_is_told_is_enough(name, codec):
    with pytest.raises(ContextError) as refused:
        examples(SUITES[name], codec, length=1, count=5)
    told = int(re.search(r"smallest length is (\d+)", str(refused.value))[1])
    made = None
    for _ in range(5):  # the examples of another length are others, and may take a little more
        try:
            made = list(examples(SUITES[name], codec, length=told, count=5))
            break
        except ContextError as error:
            told = int(re.search(r"smallest length is (\d+)", str(error))[1])
    assert made is not None
    assert all(size(example, codec) <= told for example in made)


@pytest.mark.parametrize("name", SUITES)
def test_examples_are_the_same_whenever_they_are_made(name):
    def made(**changes):
        return list(examples(SUITES[name], ByteCodec(), **{"length": 4096, "count": 3, "seed": 0} | changes))

    np.random.seed(1)  # no example may draw from the global numbers
    first = made()
    np.random.seed(2)
    assert made() == first
    assert made(seed=1) != first
    assert made(first=1)[0].parts != first[0].parts


@pytest.mark.parametrize("name", SUITES)
def test_an_oracle_is_always_right(name, codec):
    length, count = length_of(name), 5
    asked = list(examples(SUITES[name], codec, length=length, count=count))
    model = oracle(codec, asked, group=ROWS_TOKENS // length)
    score = measure_suite(model, codec, SUITES[name], name=name, length=length, count=count)
    assert (score.exact, score.contained, score.taught) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("place", [1, -60])
@pytest.mark.parametrize("name", SUITES)
def test_a_model_that_copies_its_prompt_does_not_pass(name, place):
    codec, count = ByteCodec(), 12
    model = fake(Copier, codec.vocabulary, place=place)
    score = measure_suite(model, codec, SUITES[name], name=name, length=length_of(name), count=count)
    assert tail(round(score.exact * count), count, score.chance) > 1e-4


@pytest.mark.parametrize("name", SUITES)
def test_an_untrained_model_is_at_chance(name):
    model = everlong.build("linear:nano", layers=1, width=16, heads=1).eval()
    count = 12
    score = measure_suite(model, ByteCodec(), SUITES[name], name=name, length=length_of(name), count=count)
    assert tail(round(score.exact * count), count, score.chance) > 1e-4
    assert score.interval[0] <= score.exact <= score.interval[1]


@pytest.mark.parametrize("name", ["contains", "counting", "induction", "recall", "passkey"])
def test_chance_is_what_a_guess_of_the_right_form_scores(name):
    """A guess is another example's answer."""
    asked = list(examples(SUITES[name], ByteCodec(), length=450, count=400))
    answers = [example.answer.decode() for example in asked]
    hits = sum(example.exact(guess) for example, guess in zip(asked, [*answers[1:], answers[0]], strict=True))
    chance = SUITES[name].chance
    assert abs(hits - 400 * chance) <= 1 + 4 * math.sqrt(400 * chance)


def test_every_answer_is_judged_by_what_is_said_first():
    example = next(iter(examples(SUITES["needle-values"], ByteCodec(), length=1024, count=1)))
    a, b, c, d = example.items
    assert example.exact(f" {d}, {c}, {b} and {a}. Also 1.")
    assert not example.exact(f" 1, {a}, {b}, {c}, {d}")
    assert not example.exact(f" {a}, {a}, {b}, {c}")
    assert example.contained(f" 1, {a}, {b}") == 0.5
    assert not example.exact(f" {a}, {b}, {c}, {d}0")


@pytest.mark.parametrize("length", [300, 1000, 10_000, 100_000, 1_000_000])
def test_passkey_at_every_length_and_depth(length):
    for depth, example in zip(
        (0, 0.5, 1), examples(SUITES["passkey-5"], ByteCodec(), length=length, count=3), strict=True
    ):
        key, text = example.items[0], example.prompt.decode()
        assert len(key) == 5
        assert size(example, ByteCodec()) == length
        lines = text.split("\n")
        assert len(lines) == 5
        assert lines[2] == f"The pass key is {key}. Remember it. {key} is the pass key."
        assert len(lines[1]) == round(depth * (len(lines[1]) + len(lines[3])))
        noise = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. " * 12_000
        assert noise.startswith(lines[1])
        assert noise.startswith(lines[3])
        assert "\n".join([lines[0], lines[4]]) == PUBLISHED


PUBLISHED = (
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. I will quiz you "
    "about the important information there.\nWhat is the pass key? The pass key is"
)


@pytest.mark.parametrize("name", SUITES)
def test_generation_is_bounded_in_time_at_every_length(name, codec):
    """Every length answers, with examples or with the smallest length; two public generators never return."""
    begun = time.process_time()
    for length in (1, 10, 100, 250, 500, 501, 1500, 20_000):
        try:
            list(examples(SUITES[name], codec, length=length, count=1))
        except ContextError:
            continue
    assert time.process_time() - begun < 20


def test_tracking_asks_for_what_the_chain_says():
    example = next(iter(examples(SUITES["tracking-chains"], ByteCodec(), length=4096, count=1)))
    text = example.prompt.decode()
    question = text[text.rindex("Memorize and track") :]
    value = re.search(r"assigned the value (\d+) in the text", question)[1]
    held: dict[str, str] = {}
    for name, given in re.findall(r"VAR ([A-Z]{5}) = (?:VAR )?(\w+)", question):
        held[name] = held.get(given, given)
    assert sorted(example.items) == sorted(name for name, own in held.items() if own == value)
    assert len(held) == 15


def test_words_are_asked_for_that_are_most_common():
    for name, most in (("common-words", 10), ("frequent-words", 4)):
        example = next(iter(examples(SUITES[name], ByteCodec(), length=8192, count=1)))
        listed = re.findall(r"\b[a-z]{6}\b|\.{4}", example.prompt.decode().split("\n")[1 if most == 10 else 0])
        listed = (
            listed
            if most == 10
            else re.findall(r"\b[a-z]{6}\b|\.{4}", example.prompt.decode().split("words. ")[1].split("\n")[0])
        )
        counts = sorted(((listed.count(word), word) for word in set(listed)), reverse=True)[:most]
        found = {word for _, word in counts} - {"...."}
        assert found == set(example.items)
        counted = sorted({listed.count(word) for word in set(listed)}, reverse=True)
        assert counted[:2] == ([6, 1] if most == 10 else counted[:2])


def test_needles_are_hidden_where_they_should_be():
    for example in examples(SUITES["needle-among-needles"], ByteCodec(), length=4096, count=5):
        lines = example.prompt.decode().split("\n")[1:-1]
        place = next(i for i, line in enumerate(lines) if example.items[0] in line)
        assert place == round(example.depth * (len(lines) - 1))
        assert len({line.split(" for ")[1].split(" ")[0] for line in lines}) == len(lines)


def test_solved_examples_of_characters_are_right():
    """Judged by regular expressions, which the generator does not use."""
    right = {
        "spelling": (r'word "(\w+)"', lambda word: " ".join(word)),
        "inverse-spelling": (r'word "([\w ]+)"', lambda word: re.sub(" ", "", word)),
        "contains": (r'a "(\w)" in "(\w+)"', lambda a, word: "Yes" if re.search(a, word) else "No"),
        "counting": (r'does "(\w)" occur in "(\w+)"', lambda a, word: str(len(re.findall(a, word)))),
        "inserting": (r'"(\w)" after every "(\w)" in "(\w+)"', lambda a, b, word: re.sub(b, b + a, word)),
        "deleting": (r'every "(\w)" in "(\w+)"', lambda a, word: re.sub(a, "", word)),
        "substituting": (r'"(\w)" with "(\w)" in "(\w+)"', lambda a, b, word: re.sub(a, b, word)),
        "swapping": (
            r'of "(\w)" and "(\w)" in "(\w+)"',
            lambda a, b, word: "".join({a: b, b: a}.get(letter, letter) for letter in word),
        ),
    }
    for name, (pattern, answer) in right.items():
        for example in examples(SUITES[name], ByteCodec(), length=4096, count=3):
            text = (example.prompt + example.answer).decode()
            asked = re.findall(r'Question: (.*)\nAnswer: "(.*)"', text)
            assert len(asked) > 20
            for question, given in asked:
                assert given == answer(*re.search(pattern, question).groups())


def test_a_length_beyond_the_limit_is_refused_before_anything_runs(monkeypatch):
    model = everlong.build("linear:nano", layers=1, width=16, heads=1, context_limit=1000)
    monkeypatch.setattr(model, "forward", None)
    with pytest.raises(ContextError, match="context_limit: take at most 1000"):
        measure_suite(model, ByteCodec(), SUITES["passkey"], name="passkey", length=1001, count=2)


def test_a_length_at_the_limit_is_read_whole():
    model = everlong.build("window:nano", layers=1, width=16, heads=1, context_limit=1000)
    score = measure_suite(model, ByteCodec(), SUITES["passkey"], name="passkey", length=1000, count=3)
    assert score.examples == 3


def test_numbers_that_are_not_finite_are_no_score():
    model = everlong.build("linear:nano", layers=1, width=16, heads=1)
    model.head.weight.data.fill_(float("nan"))
    with pytest.raises(EverlongError, match="logits"):
        measure_suite(model, ByteCodec(), SUITES["induction"], name="induction", length=50, count=1)


def test_unknown_names_and_values():
    with pytest.raises(ConfigError, match="did you mean 'passkey'"):
        suite("paskey")
    for count, seed in ((0, 0), (1, -1)):
        with pytest.raises(ConfigError):
            examples(SUITES["induction"], ByteCodec(), length=100, count=count, seed=seed)
