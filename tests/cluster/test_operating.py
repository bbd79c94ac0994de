"""The benchmark of the operator runs, at a small size, and prints what its page shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "benchmarks.md"
SMALL: Final = ("--groups", "4", "--load", "0.2", "--settle", "2", "--timeout", "180")
WORDS: Final = r"[a-z_/:]+"


def test_operating_must_print_the_phases_of_its_page(programs: dict[str, Path]) -> None:
    script = ROOT / "benchmarks" / "operating.py"
    done = subprocess.run(
        [sys.executable, script, *SMALL], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = re.search(
        r"^\$ python benchmarks/operating\.py\n(.*?)\n\n", PAGE.read_text(encoding="utf-8"), flags=re.M | re.S
    )
    assert shown is not None
    table, _, rest = done.stdout.partition("\n\n")
    assert re.findall(WORDS, table) == re.findall(WORDS, shown[1])
    counts = {line[:20].strip(): line[20:].split() for line in table.splitlines()[1:]}
    assert [counts[phase][2] for phase in counts] == ["8", "0", "0", "12", "0", "4"]  # pods created
    assert counts["operator restarted"][3] == "0"
    assert int(counts["annotation touched"][3]) <= 1
    assert "create statefulsets: 1.50" in rest  # each group's workers, and those of two surge groups
