"""Structured logs: one JSON object a line, or the same for people."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import FrameType
from typing import Final, Literal

Encoder = Literal["json", "console"]

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_QUIET: Final = ("aiohttp", "asyncio", "kubernetes")
_LOGGING: Final = (__name__, "logging")


def _nanos(created_s: float) -> int:
    return round(created_s * 1e6) * 1000  # a float tells no more of a time of our days


def _iso8601(created_s: float) -> str:
    moment = datetime.fromtimestamp(created_s, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"


def _rfc3339(created_s: float) -> str:
    return datetime.fromtimestamp(created_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _rfc3339nano(created_s: float) -> str:
    """As Go writes it: of the fraction no zeros at the end."""
    fraction = f".{_nanos(created_s) % 10**9:09}".rstrip("0").rstrip(".")
    seconds = datetime.fromtimestamp(_nanos(created_s) // 10**9, UTC)
    return seconds.strftime("%Y-%m-%dT%H:%M:%S") + fraction + "Z"


TIMES: Final[Mapping[str, Callable[[float], float | int | str]]] = {
    "epoch": lambda created_s: created_s,
    "millis": lambda created_s: created_s * 1000,
    "nano": _nanos,
    "nanos": _nanos,
    "iso8601": _iso8601,
    "rfc3339": _rfc3339,
    "rfc3339nano": _rfc3339nano,
}
"""The time of a line (epoch seconds) in the encodings that the Go controller knows; it reads `nanos`, and its
help says `nano`."""


class _Formatter(logging.Formatter):
    def __init__(self, encoder: Encoder, time_encoding: str, stacktrace_level: int | None) -> None:
        super().__init__()
        self._encoder, self._stacktrace_level = encoder, stacktrace_level
        self._time = TIMES.get(time_encoding, _default_time)

    def format(self, record: logging.LogRecord) -> str:
        time = self._time(record.created)
        fields = {key: value for key, value in vars(record).items() if key not in _OWN}
        message = record.getMessage()
        fields |= self._trace(record)
        level = record.levelname.lower()
        if self._encoder == "json":
            return json.dumps({"ts": time, "level": level, "msg": message, **fields}, default=str)
        told = " ".join(f"{key}={value}" for key, value in fields.items())
        return f"{time} {level:7} {message}" + (f"  {told}" if told else "")

    def _trace(self, record: logging.LogRecord) -> dict[str, str]:
        """The exception that a line is about, with its traceback unless the line's level is too low for one;
        and where the line comes from, if its level was asked to say so."""
        wanted = self._stacktrace_level
        if record.exc_info and record.exc_info[1] is not None:
            if wanted is None or record.levelno >= wanted:
                return {"error": self.formatException(record.exc_info)}
            return {"error": "".join(traceback.format_exception_only(record.exc_info[1])).strip()}
        if wanted is None or record.levelno < wanted:
            return {}
        return {"stacktrace": "".join(traceback.format_stack(_caller())).rstrip()}


def _default_time(created_s: float) -> str:
    return datetime.fromtimestamp(created_s, UTC).isoformat(timespec="milliseconds")


def _caller() -> FrameType | None:
    """The innermost frame that is not of logging itself."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__") in _LOGGING:
        frame = frame.f_back
    return frame


def set_up(
    level: int, encoder: Encoder, time_encoding: str = "", stacktrace_level: int | None = None
) -> None:
    """Log to standard error from now on.

    time_encoding: one of TIMES; otherwise ISO 8601 with milliseconds and an offset. stacktrace_level: lines
    of this level and above tell where they come from, and exceptions below it have no traceback; None: all
    exceptions have one, and nothing else.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(encoder, time_encoding, stacktrace_level))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    # It warns of attempts; of their end we tell ourselves.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
