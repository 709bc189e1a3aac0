"""Character tasks: spelling, counting and changing the letters of a word, with solved examples before the question.

Source: CUTE (Edman et al. 2024, arXiv 2409.15452): its questions, four solved examples each, the answer in quotation
marks. Words are invented, since its word list cannot be shipped; that makes them rarer, and harder for subword models.
Counting is not in CUTE. More length means more solved examples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from everlong.core.config import check, suggest
from everlong.evaluate.suites.example import Example, Suite
from everlong.evaluate.suites.text import WORDS, words

SHOTS = 4
"""Solved examples at least."""

_ALPHABET = "abcdefghijklmnopqrstuvwxyz"


class _Question(NamedTuple):
    text: str
    answer: str


Ask = Callable[[np.random.Generator, str], _Question]


class Characters(Suite):
    """One of the tasks in `TASKS`."""

    task: str

    def __post_init__(self) -> None:
        check(self.task in TASKS, "characters.task", self.task, suggest(self.task, TASKS))

    @property
    def chance(self) -> float:
        return TASKS[self.task].chance

    def build(self, generator: np.random.Generator, filler: int, depth: float) -> Example:
        task = TASKS[self.task]
        asked = [task.ask(generator, word) for word in words(generator, SHOTS + filler + 1)]
        shown = "".join(f'Question: {q.text}\nAnswer: "{q.answer}"\n\n' for q in asked[:-1])
        text = f"{task.instruction}\n\n{shown}Question: {asked[-1].text}\nAnswer:"
        answer = asked[-1].answer
        return Example((text.encode(), f' "{answer}"\n'.encode()), (f'"{answer}"',), r'"[^"\n]*"')


def _spell(generator: np.random.Generator, word: str) -> _Question:
    return _Question(f'Spell out the word "{word}".', " ".join(word))


def _spell_inverse(generator: np.random.Generator, word: str) -> _Question:
    return _Question(f'Write the word "{" ".join(word)}".', word)


def _contains(generator: np.random.Generator, word: str) -> _Question:
    within = bool(generator.integers(2))
    letter = generator.choice(list(word) if within else sorted(set(_ALPHABET) - set(word)))
    return _Question(f'Is there a "{letter}" in "{word}"?', "Yes" if within else "No")


def _count(generator: np.random.Generator, word: str) -> _Question:
    """The letter stands 0 to 3 times with equal probability: so many of the others are replaced by it."""
    letter = generator.choice(sorted(set(_ALPHABET) - set(word)))
    count, spelled = int(generator.integers(4)), list(word)
    for place in generator.choice(len(word), count, replace=False):
        spelled[place] = letter
    return _Question(f'How many times does "{letter}" occur in "{"".join(spelled)}"?', str(count))


def _insert(generator: np.random.Generator, word: str) -> _Question:
    letter, old = generator.choice(sorted(set(_ALPHABET) - set(word))), generator.choice(list(word))
    return _Question(f'Add "{letter}" after every "{old}" in "{word}".', word.replace(old, old + letter))


def _delete(generator: np.random.Generator, word: str) -> _Question:
    old = generator.choice(list(word))
    return _Question(f'Delete every "{old}" in "{word}".', word.replace(old, ""))


def _substitute(generator: np.random.Generator, word: str) -> _Question:
    letter, old = generator.choice(sorted(set(_ALPHABET) - set(word))), generator.choice(list(word))
    return _Question(f'Substitute "{old}" with "{letter}" in "{word}".', word.replace(old, letter))


def _swap(generator: np.random.Generator, word: str) -> _Question:
    a, b = generator.choice(sorted(set(word)), 2, replace=False)
    swapped = word.translate(str.maketrans({a: b, b: a}))
    return _Question(f'Swap the positions of "{a}" and "{b}" in "{word}".', swapped)


class _Task(NamedTuple):
    ask: Ask
    instruction: str
    chance: float


TASKS: dict[str, _Task] = {
    "spelling": _Task(_spell, "Spell out the word, putting spaces between each letter.", 1 / WORDS),
    "inverse-spelling": _Task(_spell_inverse, "Write the word that is spelled out.", 1 / WORDS),
    "contains": _Task(_contains, "Say whether the letter is in the word.", 1 / 2),
    "counting": _Task(_count, "Count how many times the letter occurs in the word.", 1 / 4),
    "inserting": _Task(_insert, "Add the letter after every occurrence of another letter in the word.", 1 / WORDS),
    "deleting": _Task(_delete, "Delete every occurrence of the letter in the word.", 1 / WORDS),
    "substituting": _Task(_substitute, "Substitute one letter of the word with another.", 1 / WORDS),
    "swapping": _Task(_swap, "Swap the positions of two letters in the word.", 1 / WORDS),
}
"""Every task by name: how it is asked, what it says first, and how often a guess is right."""
