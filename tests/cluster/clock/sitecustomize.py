"""Shifts the wall clock of a Python process by the seconds that a file holds, read anew each time.

Python imports it at the start of a process that finds it on its path. Monotonic clocks stay as they are, as
they do when a machine's clock is set.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_real = time.time
_file = os.environ.get("SHIFTED_CLOCK", "")


def _shifted() -> float:
    return _real() + float(Path(_file).read_text() or 0)


if _file:
    time.time = _shifted
