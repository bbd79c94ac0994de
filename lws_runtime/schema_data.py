"""Kubernetes' own schemas of pod templates and claims, as this package ships them.

Made by tools/extract_schema.py. Loading takes about a millisecond, composing the full schema some ten.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Final

from lws_core.crd import full_schema
from lws_core.values import FrozenMap, Json, as_map, freeze_map

KUBERNETES_MINOR: Final = "1.36"
"""The version of Kubernetes whose pod template is known: fields of later ones are unknown."""

_FILE: Final = Path(__file__).parent / "data" / f"kubernetes-{KUBERNETES_MINOR}.json"


@cache
def definitions() -> FrozenMap[Json]:
    """The definitions, by short name, as `lws_core.crd.compose_crd` takes them."""
    return as_map(freeze_map(json.loads(_FILE.read_text(encoding="utf-8"))).get("definitions"))


@cache
def manifest_schema() -> FrozenMap[Json]:
    """The schema of a whole LeaderWorkerSet manifest, pod templates included."""
    return full_schema(definitions())
