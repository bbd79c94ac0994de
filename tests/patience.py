"""What a process takes apart from waiting for a processor: a limit on that holds on a busy machine too."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Final

_EVERY_S: Final = 0.005


class Stopwatch:
    """Measures until it is left. `took_s` leaves out what a process of this id, and this one, were ready to
    run and did not, by the kernel's count for their main threads; nothing where it does not count."""

    def __init__(self, pid: int) -> None:
        self.took_s = 0.0
        self._pids = pid, os.getpid()
        self._waited_s = dict.fromkeys(self._pids, 0.0)
        self._over = threading.Event()
        self._looking = threading.Thread(target=self._look, name="stopwatch", daemon=True)

    def __enter__(self) -> Stopwatch:
        self._note()
        self._before_s = sum(self._waited_s.values())
        self._began_s = time.monotonic()
        self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        took_s = time.monotonic() - self._began_s
        self._over.set()
        self._looking.join()
        self._note()
        self.took_s = took_s - (sum(self._waited_s.values()) - self._before_s)

    def _look(self) -> None:
        """Again and again, as nothing is told of a process once its exit code has been asked for."""
        while not self._over.wait(_EVERY_S):
            self._note()

    def _note(self) -> None:
        for pid in self._pids:
            try:
                told = Path(f"/proc/{pid}/schedstat").read_text().split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            self._waited_s[pid] = int(told[1]) / 1e9
