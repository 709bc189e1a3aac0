"""Arithmetic coding with integers: symbols of known probability become bytes, at -log2(probability) bits each.

Legend: B batch rows, V symbols.

A message is an interval [low, low + range) of the unit interval, written as a binary fraction; every symbol narrows
it to the symbol's share (Witten, Neal & Cleary 1987; as a range coder, Martin 1979). The decoder follows the same
intervals. Only the part of `low` that can still change is kept, 64 bits; what lies above it has been put out as
bytes, into which a carry may still ripple. The range stays above 2**56, so one 2**32-th of it is exact to 2**-24.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64

from everlong.core.errors import CompressionError

TOTAL = 2**32
"""What the frequencies of a distribution add up to. A symbol costs at most 32 bits, and that every symbol has a
frequency of at least 1 costs V / 2**32 of the probability: nothing even for a model that is sure of itself."""

_BITS = 64
_ONE, _LEAST = 1 << _BITS, 1 << (_BITS - 8)


def quantise(p_BV: Float[np.ndarray, "b v"]) -> Int64[np.ndarray, "b v"]:
    """Frequencies in proportion to probabilities: integers of at least 1 that add up to `TOTAL` in every row.

    Every operation is one that IEEE 754 defines exactly, in a fixed order, so equal probabilities give equal
    frequencies on every machine.

    Raises:
        CompressionError: a row is no distribution.
    """
    p_BV = p_BV.astype(np.float64)
    total_B1 = p_BV.cumsum(1)[:, -1:]  # in order, unlike `sum`
    if not (np.isfinite(total_B1).all() and (total_B1 > 0).all() and (p_BV >= 0).all()):
        raise CompressionError("probabilities", "not a distribution", "must be finite, not negative, and not all 0")
    room = TOTAL - p_BV.shape[1]
    f_BV = 1 + np.floor(p_BV / total_B1 * room).astype(np.int64)
    rows = np.arange(len(f_BV))
    f_BV[rows, p_BV.argmax(1)] += TOTAL - f_BV.sum(1)  # what rounding down has left, to the likeliest
    return f_BV


def cumulative(f_BV: Int64[np.ndarray, "b v"]) -> Int64[np.ndarray, "b v+1"]:
    """Where each symbol's share begins; symbol s has [c[s], c[s + 1])."""
    c_BV = np.zeros((f_BV.shape[0], f_BV.shape[1] + 1), np.int64)
    f_BV.cumsum(1, out=c_BV[:, 1:])
    return c_BV


class Encoder:
    """Symbols to bytes."""

    def __init__(self) -> None:
        self._low, self._range, self._bytes = 0, _ONE, bytearray()

    def encode(self, start: int, frequency: int) -> None:
        """Narrows the interval to the share [start, start + frequency) of `TOTAL`."""
        unit = self._range // TOTAL
        self._raise_to(self._low + start * unit)
        self._range = frequency * unit
        while self._range < _LEAST:
            self._put_byte()

    def finish(self) -> bytes:
        """The shortest bytes that, followed by any number of zeros, lie in the interval."""
        for kept in range(_BITS, -1, -8):
            unit = 1 << kept
            value = -(-self._low // unit) * unit
            if value < self._low + self._range:
                break
        self._raise_to(value)
        while self._low:
            self._put_byte()
        return bytes(self._bytes)

    def _raise_to(self, low: int) -> None:
        if low >= _ONE:
            self._carry()
        self._low = low % _ONE

    def _carry(self) -> None:
        place = len(self._bytes) - 1
        while self._bytes[place] == 0xFF:
            self._bytes[place] = 0
            place -= 1
        self._bytes[place] += 1

    def _put_byte(self) -> None:
        self._bytes.append(self._low >> (_BITS - 8))
        self._low = (self._low << 8) % _ONE
        self._range <<= 8


class Decoder:
    """Bytes to symbols: for each, ask for the `target`, look up whose share it lies in, and `consume` that share."""

    def __init__(self, data: bytes) -> None:
        self._data, self._next = data, _BITS // 8
        self._offset = int.from_bytes(data[: self._next].ljust(self._next, b"\0"), "big")  # the message, less low
        self._range = _ONE

    def target(self) -> int:
        """A number below `TOTAL` that lies in the share of the symbol to be decoded.

        Raises:
            CompressionError: no message leads here.
        """
        target = self._offset // (self._range // TOTAL)
        if target >= TOTAL or self._next > len(self._data) + _BITS // 8:
            raise CompressionError("message", f"{len(self._data)} bytes", "no such message was encoded: fetch it again")
        return target

    def consume(self, start: int, frequency: int) -> None:
        """Narrows the interval as the encoder did."""
        unit = self._range // TOTAL
        self._offset -= start * unit
        self._range = frequency * unit
        while self._range < _LEAST:
            following = self._data[self._next] if self._next < len(self._data) else 0
            self._offset = self._offset << 8 | following
            self._range <<= 8
            self._next += 1
