"""Golden files: what a rollout did when its reviewers last looked at it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from lws_core.values import FrozenMap, Json, as_list, dig
from lws_sim.render.document import GOLDEN_HEADER, GOLDEN_VERSION, to_golden
from lws_sim.scenario import API_VERSION
from lws_sim.trace import Trace

from .manifests import read_manifests
from .yaml_values import to_yaml

Golden = tuple[FrozenMap[Json], ...]


class BadGolden(ValueError):
    """Why a file is no golden file."""


def read_golden(path: str) -> Golden:
    """The documents of a golden file. Raises FileNotFoundError, or BadGolden with what is wrong."""
    if not Path(path).exists():
        raise FileNotFoundError(path)
    if Path(path).is_dir():
        raise BadGolden("is a directory")
    manifests = read_manifests([path])
    if manifests.problems:
        raise BadGolden("; ".join(problem.removeprefix(f"{path}: ") for problem in manifests.problems))
    for document in manifests.documents:
        value = document.value
        if (value.get("apiVersion"), value.get("kind")) != (API_VERSION, "Golden"):
            raise BadGolden(f"document {document.index + 1} is no Golden of {API_VERSION}")
        if value.get("version") != GOLDEN_VERSION:
            raise BadGolden(
                f"document {document.index + 1}: version: {value.get('version')!r} is not known to this "
                f"program, which writes {GOLDEN_VERSION}: --update-golden writes the file anew"
            )
    return tuple([document.value for document in manifests.documents])


def compare(expected: Golden, traces: Sequence[Trace], path: str) -> list[str]:
    """The lines of a unified diff from what is expected to what happened; none where nothing differs."""
    found = tuple([to_golden(trace) for trace in traces])
    if found == expected:
        return []
    return list(
        difflib.unified_diff(_lines(expected), _lines(found), f"{path} (expected)", "simulated", lineterm="")
    )


def write_golden(path: Path, traces: Sequence[Trace]) -> bool:
    """Write a golden file if it would change; whether it did. Raises OSError."""
    text = GOLDEN_HEADER + "---\n".join(_text(to_golden(trace)) for trace in traces)
    if path.exists() and path.read_bytes() == text.encode():
        return False
    path.write_text(text, encoding="utf-8")
    return True


def _lines(golden: Golden) -> list[str]:
    return [line for document in golden for line in ("---", *_text(document).splitlines())]


def _text(document: FrozenMap[Json]) -> str:
    """YAML with one line for each stage."""
    head = to_yaml(document.without("stages", "summary"))
    stages = [_in_a_line(stage) for stage in as_list(document.get("stages"))]
    summary = to_yaml(FrozenMap({"summary": dig(document, "summary")}))
    return head + "stages:\n" + "".join(f"- {stage}" for stage in stages) + summary


def _in_a_line(stage: Json) -> str:
    return to_yaml(stage, compact=True)
