"""Prints the part of a lock file that something needs, with its hashes, so that no more is installed.

    python tools/lock_subset.py operator    what the project needs with that extra; without an extra, bare
    python tools/lock_subset.py --build     what builds the project

Which package needs which is read from the lock file's own `# via` comments.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
_NAME = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)")
_VIA = re.compile(r"^ +#(?: via)? +([\w.-]+)(?: \(pyproject\.toml\))?$")


def subset(lock: str, wanted: Sequence[str]) -> str:
    """The entries of packages by these names, and of all that they need. Raises KeyError for a name that the
    lock does not hold."""
    entries = list(_entries(lock))
    known = {_name(entry) for entry in entries}
    missing = sorted({_plain(name) for name in wanted} - known)
    if missing:
        raise KeyError(", ".join(missing))
    kept: set[str] = set()
    found = {_plain(name) for name in wanted}
    while found:
        kept |= found
        found = {_name(entry) for entry in entries if _needed_by(entry) & kept} - kept
    return "\n".join(entry for entry in entries if _name(entry) in kept) + "\n"


def requirements(project: dict[str, Any], extras: Sequence[str]) -> list[str]:
    """The names that a pyproject.toml requires, with extras. Raises KeyError for an extra that it has not."""
    optional = project["project"]["optional-dependencies"]
    lines = [*project["project"]["dependencies"], *(line for extra in extras for line in optional[extra])]
    return [_name(line) for line in lines]


def build_requirements(project: dict[str, Any]) -> list[str]:
    """The names that building needs."""
    return [_name(line) for line in project["build-system"]["requires"]]


def _entries(lock: str) -> Iterator[str]:
    """Each package with its hashes and comments; one package has several for several versions of Python."""
    body = [line for line in lock.splitlines() if line and not line.startswith("#")]
    starts = [index for index, line in enumerate(body) if not line.startswith(" ")]
    for start, end in zip(starts, [*starts[1:], len(body)], strict=True):
        yield "\n".join(body[start:end])


def _needed_by(entry: str) -> set[str]:
    found = (_VIA.match(line) for line in entry.splitlines())
    return {_plain(match[1]) for match in found if match is not None}


def _name(line: str) -> str:
    match = _NAME.match(line)
    assert match is not None, line
    return _plain(match[1])


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("extras", nargs="*", help="extras of the project")
    parser.add_argument("--build", action="store_true", help="what builds the project, instead")
    arguments = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    try:
        wanted = build_requirements(project) if arguments.build else requirements(project, arguments.extras)
        sys.stdout.write(subset(lock, wanted))
    except KeyError as unknown:
        sys.exit(f"{parser.prog}: neither the lock file nor the project knows {unknown}")


if __name__ == "__main__":
    main()
