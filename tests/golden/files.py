"""Files that tests compare with. One that is missing is written and fails the test: look at it, commit it."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def compare(path: Path, text: str) -> None:
    """Fail unless `path` holds `text`, showing where they part."""
    if not path.exists():
        path.write_text(text, encoding="utf-8")
        pytest.fail(f"{path} was missing and has been written: look at it")
    expected = path.read_text(encoding="utf-8")
    if expected != text:
        lines = difflib.unified_diff(
            expected.splitlines(), text.splitlines(), str(path), "now", lineterm="", n=2
        )
        pytest.fail("\n".join([*lines, "delete the file to have it written anew"]))
