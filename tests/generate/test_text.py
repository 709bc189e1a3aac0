"""Stop strings and UTF-8, whatever the cuts between tokens."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.core.errors import DataError
from everlong.generate.text import Text, as_bytes

FEW = st.lists(st.sampled_from([b"a", b"b"]), max_size=12).map(b"".join)  # so that stops overlap themselves
STOPS = st.lists(FEW.filter(bool), max_size=3)


def until_stop(data: bytes, stops: list[bytes]) -> bytes:
    """The definition: the first end of `data` that is a stop string, the longest, is cut away."""
    for end in range(len(data) + 1):
        found = [stop for stop in stops if data[:end].endswith(stop)]
        if found:
            return data[: end - max(map(len, found))]
    return data


@settings(max_examples=300)
@given(pieces=st.lists(FEW, max_size=8), stops=STOPS)
def test_stops_are_found_across_pieces_and_never_shown(pieces, stops):
    text, shown, given_so_far = Text(stops), b"", b""
    for piece in pieces:
        if text.stopped:
            break
        given_so_far += piece
        shown += text.add(piece)
        assert until_stop(given_so_far, stops).startswith(shown)
    assert text.stopped == (until_stop(given_so_far, stops) != given_so_far or given_so_far in stops)
    assert shown + text.rest() == until_stop(given_so_far, stops)


@settings(max_examples=200)
@given(pieces=st.lists(FEW, max_size=8), stops=STOPS)
def test_only_what_may_begin_a_stop_is_held_back(pieces, stops):
    text, shown, given_so_far = Text(stops), b"", b""
    for piece in pieces:
        given_so_far += piece
        shown += text.add(piece)
        if text.stopped:
            return
        held = given_so_far[len(shown) :]
        assert not held or any(stop.startswith(held) and stop != held for stop in stops)


@settings(max_examples=300)
@given(pieces=st.lists(st.one_of(st.binary(max_size=5), st.text(max_size=3).map(str.encode)), max_size=8))
def test_text_is_that_of_all_bytes_at_once(pieces):
    text = Text([])
    shown = "".join(text.decode(text.add(piece), final=False) for piece in pieces) + text.decode(b"", final=True)
    assert shown == b"".join(pieces).decode("utf-8", "replace")


def test_a_character_appears_with_its_last_byte():
    text = Text([])
    assert [text.decode(bytes([byte]), final=False) for byte in "né€".encode()] == ["n", "", "é", "", "", "€"]


def test_bytes_of_the_command_line_stay_as_they_were():
    assert as_bytes(b"\xff\x00a".decode("utf-8", "surrogateescape"), "prompt") == b"\xff\x00a"


def test_half_a_surrogate_pair_is_an_error():
    with pytest.raises(DataError, match="stop"):
        as_bytes("\ud800", "stop")
