"""What is wrong with a manifest, in the words of Kubernetes' field errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final, Literal

import attrs

from .values import Json, canonical

ErrorType = Literal["Invalid", "Required", "NotSupported", "Unknown", "TypeInvalid", "TooLong", "TooMany"]

_WORDS: dict[ErrorType, str] = {
    "Invalid": "Invalid value",
    "Required": "Required value",
    "NotSupported": "Unsupported value",
    "Unknown": "Unknown field",
    "TypeInvalid": "Invalid value",
    "TooLong": "Too long",
    "TooMany": "Too many",
}


@attrs.frozen
class FieldError:
    """One fault of a manifest: where it is, what kind it is, and what to do about it.

    `str()` gives Kubernetes' own form: `spec.replicas: Invalid value: -1: replicas must be ...`.
    """

    path: str
    type: ErrorType
    detail: str
    value: Json = None

    def __str__(self) -> str:
        if self.type in ("Required", "Unknown", "TooLong", "TooMany"):
            return f"{self.path}: {_WORDS[self.type]}" + (f": {self.detail}" if self.detail else "")
        return f"{self.path}: {_WORDS[self.type]}: {canonical(self.value)}: {self.detail}"


MAX_FAULTS: Final = 100
"""How many faults of a manifest are told. Anybody may ask about one that holds as many as fit into it."""

MORE: Final = FieldError("manifest", "TooMany", f"only {MAX_FAULTS} faults are told")
"""Stands in place of the faults beyond MAX_FAULTS."""


class InvalidManifest(ValueError):
    """A manifest that cannot be used. `errors` holds its faults in order, as `first_faults` has them."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors: tuple[FieldError, ...] = tuple(errors)
        super().__init__(join(self.errors))


def first_faults(faults: Iterable[FieldError]) -> tuple[FieldError, ...]:
    """The first MAX_FAULTS faults, and MORE where there are others. What comes later is not looked for."""
    found = tuple(islice(faults, MAX_FAULTS + 1))
    return found if len(found) <= MAX_FAULTS else (*found[:MAX_FAULTS], MORE)


def join(errors: Sequence[FieldError]) -> str:
    """Several errors in one line, as the API server joins them: `[e1, e2]`; one stands alone."""
    texts = list(dict.fromkeys(str(error) for error in errors))
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
