"""The sockets of an HTTP session of a test, so that it ends with all of them closed."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Final

from aiohttp import AddrInfoType

_CLOSING_S: Final = 5.0


class Sockets:
    """Makes the sockets of a connector. Of a request that was cut short nobody awaits the end, for which TLS
    asks the peer; what is left open when the loop ends is a warning in some later test."""

    def __init__(self) -> None:
        self._made: list[socket.socket] = []

    def new(self, address: AddrInfoType) -> socket.socket:
        """For aiohttp.TCPConnector's socket_factory."""
        self._made = [one for one in self._made if one.fileno() != -1]
        self._made.append(socket.socket(*address[:3]))
        return self._made[-1]

    async def closed(self) -> None:
        """Wait until all are closed, for a few seconds."""
        until_s = time.monotonic() + _CLOSING_S
        while any(one.fileno() != -1 for one in self._made) and time.monotonic() < until_s:
            await asyncio.sleep(0.01)
