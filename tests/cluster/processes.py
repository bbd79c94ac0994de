"""Child processes that end with the process that started them, however that ends."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_TAKEN_FOR_CONNECTIONS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST_PORT: Final = 20_000

# The kernel sends the signal when the parent dies; the parent may have died before it was asked to.
_BOUND: Final = """
import ctypes, os, sys
parent, number = int(sys.argv[1]), int(sys.argv[2])
ctypes.CDLL(None).prctl(1, number)
if os.getppid() != parent:
    os._exit(1)
os.execvpe(sys.argv[3], sys.argv[3:], os.environ)
"""


class Process:
    """A program that runs, its output going to a file. It leads a group of processes of its own.

    It ends with the thread that starts it, so let that be one that lives long enough.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        last_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        """Start it. `last_signal` is what it gets if this process dies."""
        self.log = log
        bound = [sys.executable, "-I", "-S", "-c", _BOUND, str(os.getpid()), str(int(last_signal))]
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                [*bound, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=folder,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._child.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it alone, not to its children."""
        if self.exit_code is None:
            self._child.send_signal(number)

    def send_to_group(self, number: signal.Signals) -> None:
        """Send a signal to it and to its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self, timeout_s: float) -> int:
        """Its exit code once it has ended; raises subprocess.TimeoutExpired."""
        return self._child.wait(timeout_s)

    def stop(self, number: signal.Signals = signal.SIGTERM, patience_s: float = 15.0) -> int:
        """Its exit code, after it was asked to end, or was killed when it did not."""
        self.send(signal.SIGCONT)
        self.send(number)
        try:
            code = self._child.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL)
            code = self._child.wait(patience_s)
        self.send_to_group(signal.SIGKILL)  # children that it left behind
        return code

    def kill(self) -> None:
        """End it and its children at once."""
        self.send_to_group(signal.SIGKILL)
        self._child.wait(10)

    def tail(self, characters: int = 4000) -> str:
        """The end of what it wrote."""
        return self.log.read_text(errors="replace")[-characters:]


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on, and that no connection going out will be given:
    a server that is stopped for a while finds its port free again."""
    lowest_taken = int(_TAKEN_FOR_CONNECTIONS.read_text().split()[0])
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(_LOWEST_PORT, max(lowest_taken, _LOWEST_PORT + 1_000))
        if port not in found and _is_free(port):
            found.append(port)
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
