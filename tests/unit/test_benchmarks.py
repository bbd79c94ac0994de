"""The benchmarks of docs/benchmarks.md run, at a small size. How fast anything is is not tested."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMALL = {
    "planning": ["--groups", "1", "12", "--times", "2"],
    "simulating": ["--groups", "3", "--size", "2", "--gate"],
    "starting": ["--times", "1"],
}
PAGE = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(SMALL))
def test_benchmark_always_prints_the_columns_and_rows_of_its_page(name: str) -> None:
    script = ROOT / "benchmarks" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, script, *SMALL[name]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    told = re.search(rf"^\$ python benchmarks/{name}\.py\n(.*?)^```$", PAGE, flags=re.M | re.S)
    assert told is not None
    shown, printed = (re.findall(r"[a-z_'-]+", text, flags=re.I) for text in (told[1], done.stdout))
    assert printed == shown


def test_every_benchmark_is_always_told_of() -> None:
    scripts = sorted(path.name for path in (ROOT / "benchmarks").glob("*.py"))
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    assert [name for name in scripts if f"python benchmarks/{name}" not in pages] == []
    assert set(scripts) >= {f"{name}.py" for name in SMALL}
