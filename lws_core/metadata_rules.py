"""What every Kubernetes object's metadata must satisfy, in Kubernetes' own words.

The rules and the texts are those of apimachinery: pkg/api/validation/objectmeta.go, pkg/util/validation and
pkg/api/validate/content. Lengths count bytes of UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from .errors import FieldError
from .spec import Metadata, OwnerReference
from .values import FrozenMap

_DNS_1123_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DNS_1123_SUBDOMAIN: Final = rf"{_DNS_1123_LABEL}(\.{_DNS_1123_LABEL})*"
_DNS_1035_LABEL: Final = "[a-z]([-a-z0-9]*[a-z0-9])?"
_LABEL_KEY: Final = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE: Final = f"({_LABEL_KEY})?"

_NAME_PART: Final = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    f"'{_LABEL_KEY}')"
)
MAX_ANNOTATIONS: Final = 256 * 1024
"""What the keys and values of all annotations of an object may come to, in bytes."""
_LONGEST_TOLD: Final = 400  # of what many faults tell, in characters
_CONFLICTING_FINALIZERS: Final = ("orphan", "foregroundDeletion")


def _bytes(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _is(pattern: str, text: str) -> bool:
    return re.fullmatch(pattern, text) is not None


def dns_1035_label_faults(text: str) -> Iterator[str]:
    """Why a text is no DNS-1035 label, as Services must be named; nothing if it is one."""
    if _bytes(text) > 63:
        yield "must be no more than 63 characters"
    if not _is(_DNS_1035_LABEL, text):
        yield (
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
            "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', "
            f"regex used for validation is '{_DNS_1035_LABEL}')"
        )


def dns_1123_label_faults(text: str) -> Iterator[str]:
    """Why a text is no DNS-1123 label, as namespaces and volumes must be named; nothing if it is one."""
    if _bytes(text) > 63:
        yield "must be no more than 63 characters"
    if _is(_DNS_1123_LABEL, text):
        return
    if _is(_DNS_1123_SUBDOMAIN, text):
        yield "must not contain dots"
    else:
        yield (
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must "
            "start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for "
            f"validation is '{_DNS_1123_LABEL}')"
        )


def dns_1123_subdomain_faults(text: str) -> Iterator[str]:
    """Why a text is no DNS-1123 subdomain, as most objects must be named; nothing if it is one."""
    if _bytes(text) > 253:
        yield "must be no more than 253 bytes"
    if not _is(_DNS_1123_SUBDOMAIN, text):
        yield (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
            "and must start and end with an alphanumeric character (e.g. 'example.com', regex used for "
            f"validation is '{_DNS_1123_SUBDOMAIN}')"
        )


def qualified_name_faults(text: str) -> Iterator[str]:
    """Why a text is no key of a label, such as `example.com/name`; nothing if it is one."""
    prefix, slash, name = text.rpartition("/")
    if "/" in prefix:
        prefixed = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        yield f"a valid label key {_NAME_PART} {prefixed}"
        return
    if slash and not prefix:
        yield "prefix part must be non-empty"
    elif slash:
        yield from (f"prefix part {fault}" for fault in dns_1123_subdomain_faults(prefix))
    if not name:
        yield "name part must be non-empty"
    elif _bytes(name) > 63:
        yield "name part must be no more than 63 bytes"
    if not _is(_LABEL_KEY, name):
        yield f"name part {_NAME_PART}"


def _label_value_faults(text: str) -> Iterator[str]:
    if _bytes(text) > 63:
        yield "must be no more than 63 bytes"
    if not _is(_LABEL_VALUE, text):
        yield (
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
            "and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or "
            f"'12345', regex used for validation is '{_LABEL_VALUE}')"
        )


def name_faults(metadata: Metadata) -> Iterator[FieldError]:
    """What is wrong with the name of an object that must be named by a DNS-1035 label.

    With a generateName it needs no name yet: the API server makes one.
    """
    if metadata.generate_name:
        for fault in dns_1035_label_faults(_without_last_dash(metadata.generate_name)):
            yield FieldError("metadata.generateName", "Invalid", fault, metadata.generate_name)
    if metadata.name:
        for fault in dns_1035_label_faults(metadata.name):
            yield FieldError("metadata.name", "Invalid", fault, metadata.name)
    elif not metadata.generate_name:
        yield FieldError("metadata.name", "Required", "name or generateName is required")


def metadata_faults(metadata: Metadata) -> Iterator[FieldError]:
    """What is wrong with the rest of an object's metadata."""
    for fault in dns_1123_label_faults(metadata.namespace):
        yield FieldError("metadata.namespace", "Invalid", fault, metadata.namespace)
    if metadata.generation < 0:
        detail = "must be greater than or equal to 0"
        yield FieldError("metadata.generation", "Invalid", detail, metadata.generation)
    yield from label_faults(metadata.labels, "metadata.labels")
    yield from annotation_faults(metadata.annotations, "metadata.annotations")
    yield from _owner_faults(metadata.owners)
    yield from _finalizer_faults(metadata.finalizers)


def _without_last_dash(prefix: str) -> str:
    """A prefix that a name can be made from may end in a dash; as apimachinery's maskTrailingDash."""
    return f"{prefix[:-2]}a" if len(prefix) > 1 and prefix.endswith("-") else prefix


def label_faults(labels: FrozenMap[str], path: str) -> Iterator[FieldError]:
    """What is wrong with the keys and values of labels."""
    for key, value in labels.items():
        for fault in qualified_name_faults(key):
            yield FieldError(path, "Invalid", fault, key)
        for fault in _label_value_faults(value):
            yield FieldError(path, "Invalid", fault, value)


def annotation_faults(annotations: FrozenMap[str], path: str) -> Iterator[FieldError]:
    """What is wrong with the keys of annotations (their case does not matter) and with their size."""
    for key in annotations:
        for fault in qualified_name_faults(key.lower()):
            yield FieldError(path, "Invalid", fault, key)
    if annotations_size(annotations) > MAX_ANNOTATIONS:
        yield FieldError(path, "TooLong", f"may not be more than {MAX_ANNOTATIONS} bytes")


def annotations_size(annotations: FrozenMap[str]) -> int:
    """What annotations come to, in bytes, as MAX_ANNOTATIONS counts it."""
    return sum(_bytes(key) + _bytes(value) for key, value in annotations.items())


def _owner_faults(owners: tuple[OwnerReference, ...]) -> Iterator[FieldError]:
    path = "metadata.ownerReferences"
    controller = ""
    for owner in owners:
        parts = owner.api_version.split("/")
        if len(parts) > 2 or not parts[-1]:
            yield FieldError(f"{path}.apiVersion", "Invalid", "version must not be empty", owner.api_version)
        for field, value in (("kind", owner.kind), ("name", owner.name), ("uid", owner.uid)):
            if not value:
                yield FieldError(f"{path}.{field}", "Invalid", "must not be empty", value)
        if (owner.api_version, owner.kind) == ("v1", "Event"):
            yield FieldError(path, "Invalid", "/v1, Kind=Event is disallowed from being an owner", owner.name)
        if owner.controller and controller:
            detail = (
                'Only one reference can have Controller set to true. Found "true" in references for '
                f"{controller} and {owner.kind}/{owner.name}"
            )
            yield FieldError(path, "Invalid", detail, owner.name)
        elif owner.controller:
            controller = f"{owner.kind}/{owner.name}"[:_LONGEST_TOLD]


def _finalizer_faults(finalizers: tuple[str, ...]) -> Iterator[FieldError]:
    path = "metadata.finalizers"
    for finalizer in finalizers:
        for fault in qualified_name_faults(finalizer):
            yield FieldError(path, "Invalid", fault, finalizer)
    if all(word in finalizers for word in _CONFLICTING_FINALIZERS):
        detail = f"finalizer {' and '.join(_CONFLICTING_FINALIZERS)} cannot be both set"
        yield FieldError(path, "Invalid", detail, finalizers)
