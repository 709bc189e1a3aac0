"""What can be shown of a row while it is made: whole characters that no stop string can take back."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from everlong.core.errors import DataError


class Text:
    """The text of one row, piece by piece.

    The row stops at the first stop string to be complete (the longest, if several end there), which is not part of
    the text. Bytes with which one could begin are held back until that is decided.
    """

    def __init__(self, stops: Sequence[bytes]) -> None:
        self._stops, self._held = stops, b""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.stopped = False
        """Whether a stop string was found."""

    def add(self, data: bytes) -> bytes:
        """The bytes that become certain with `data`."""
        self._held += data
        ends = [(self._held.find(stop) + len(stop), -len(stop)) for stop in self._stops if stop in self._held]
        if ends:
            end, less = min(ends)
            self.stopped, self._held = True, self._held[: end + less]
            return self.rest()
        certain = len(self._held) - self._possible_stop()
        data, self._held = self._held[:certain], self._held[certain:]
        return data

    def rest(self) -> bytes:
        """The bytes held back, when nothing follows."""
        data, self._held = self._held, b""
        return data

    def decode(self, data: bytes, *, final: bool) -> str:
        """Whole characters of the bytes given so far; what is not UTF-8 becomes U+FFFD."""
        return self._decoder.decode(data, final)

    def _possible_stop(self) -> int:
        """Length of the longest end of the held bytes with which a stop string begins."""
        longest = max(map(len, self._stops), default=1) - 1
        ends = range(min(longest, len(self._held)), 0, -1)
        return next((n for n in ends if any(stop.startswith(self._held[-n:]) for stop in self._stops)), 0)


def as_bytes(text: bytes | str, field: str) -> bytes:
    """UTF-8 of a text. Bytes that are not UTF-8 and came through the command line or a file name stay as they were.

    Raises:
        DataError: the text has half a surrogate pair, which no UTF-8 can express.
    """
    try:
        return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise DataError(field, text, "holds half a surrogate pair and so is no text: give it as bytes") from error
