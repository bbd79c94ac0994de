"""Cuts a stream of bytes into lines, whatever pieces it comes in."""

from __future__ import annotations


class TooLong(Exception):
    """A line is longer than any that makes sense."""


class Lines:
    """What has come of a line that is not complete yet. Cost: that of the bytes, not of the pieces."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._pieces: list[bytes] = []
        self._length = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that this piece completes, without their ends; empty ones are left out.

        Raises TooLong once a line has more than `longest` bytes.
        """
        *complete, rest = piece.split(b"\n")
        if complete:
            complete[0] = b"".join((*self._pieces, complete[0]))
            self._pieces, self._length = [], 0
        self._pieces.append(rest)
        self._length += len(rest)
        if self._length > self._longest or any(len(line) > self._longest for line in complete):
            raise TooLong(f"a line has more than {self._longest} bytes")
        return [line for line in complete if line]
