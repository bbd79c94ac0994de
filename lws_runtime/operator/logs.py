"""Structured logs: one JSON object a line, or the same for people."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, Literal

Encoder = Literal["json", "console"]

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_QUIET: Final = ("aiohttp", "asyncio", "kubernetes", "urllib3")


class _Formatter(logging.Formatter):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self._encoder = encoder

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {key: value for key, value in vars(record).items() if key not in _OWN}
        message = record.getMessage()
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        level = record.levelname.lower()
        if self._encoder == "json":
            return json.dumps({"ts": time, "level": level, "msg": message, **fields}, default=str)
        told = " ".join(f"{key}={value}" for key, value in fields.items())
        return f"{time} {level:7} {message}" + (f"  {told}" if told else "")


def set_up(level: int, encoder: Encoder) -> None:
    """Log to standard error from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(encoder))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
