"""Which YAML scalar is what, by the rules of the YAML reader that Kubernetes uses, and YAML output to match.

Kubernetes reads YAML 1.1 as go.yaml.in/yaml/v2 does (its resolve.go), which is not quite how PyYAML does:
`y` is true, `1:30` is text and no number of base 60, and dates stay text.
"""

from __future__ import annotations

import math
import re
from typing import Any, Final

import yaml

from lws_core.values import FrozenMap, Json

_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}
_NOT_JSON: Final = re.compile(r"\.(nan|NaN|NAN)|[-+]?\.(inf|Inf|INF)")
_INTEGERS: Final = (
    (re.compile("[-+]?0[xX][0-9a-fA-F]+"), 16),
    (re.compile("[-+]?0[bB][01]+"), 2),
    (re.compile("[-+]?0[oO]?[0-7]+"), 8),
    (re.compile("[-+]?(0|[1-9][0-9]*)"), 10),
)
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LONGEST_NUMBER: Final = 1000  # characters; what is longer is text
_FIRST_WITH_EXPONENT: Final = 1e21  # Go writes a float below this without a fraction, if it has none


def plain_value(text: str) -> Json:
    """What an unquoted scalar without a tag means. Raises ValueError for a number that JSON does not have."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789" or len(text) > _LONGEST_NUMBER:
        return text
    if _NOT_JSON.fullmatch(text):
        raise ValueError(f"{text} is no number that a manifest can hold")
    digits = text if text[0] == "." else text.replace("_", "")
    integer = _integer(digits)
    if integer is not None:
        return integer
    if _FLOAT.fullmatch(digits):
        number = float(digits)
        return text if math.isinf(number) else whole(number)
    return text


def _integer(digits: str) -> int | None:
    for pattern, base in _INTEGERS:
        if pattern.fullmatch(digits):
            number = int(digits.lower().replace("0o", "0"), base)
            signed = digits[0] in "+-"
            return number if -(2**63) <= number < (2**63 if signed else 2**64) else None
    return None


def whole(number: float) -> int | float:
    """A float as it arrives at the API server: 3.0, written as JSON by Go, is 3."""
    return int(number) if number.is_integer() and abs(number) < _FIRST_WITH_EXPONENT else number


_Dumper: type[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Writer(_Dumper):  # type: ignore[misc]
    """Writes frozen values; quotes every text that either reader would take for something else."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def resolve(self, kind: type[yaml.Node], value: str, implicit: tuple[bool, bool]) -> str:
        tag: str = super().resolve(kind, value, implicit)
        if kind is yaml.ScalarNode and implicit[0] and tag == "tag:yaml.org,2002:str":
            return tag if _is_text(value) else "tag:yaml.org,2002:other"
        return tag


def _is_text(value: str) -> bool:
    try:
        return isinstance(plain_value(value), str)
    except ValueError:
        return False


def _write_text(writer: Any, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    node: yaml.Node = writer.represent_scalar("tag:yaml.org,2002:str", text, style=style)
    return node


_Writer.add_representer(FrozenMap, lambda writer, value: writer.represent_dict(value.items()))
_Writer.add_representer(tuple, lambda writer, value: writer.represent_list(value))
_Writer.add_representer(str, _write_text)


class _CompactWriter(_Writer):
    """Writes what fits into a line of `_LINE` characters as one line."""

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.Node:
        node: yaml.CollectionNode = super().represent_mapping(tag, mapping, flow_style=False)
        return _in_one_line(node)

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.Node:
        node: yaml.CollectionNode = super().represent_sequence(tag, sequence, flow_style=False)
        return _in_one_line(node)


_LINE: Final = 160


def _in_one_line(node: yaml.CollectionNode) -> yaml.Node:
    node.flow_style = _width(node) <= _LINE
    return node


def _width(node: yaml.Node) -> int:
    match node:
        case yaml.ScalarNode():
            return len(node.value)
        case yaml.SequenceNode():
            return 2 + sum(_width(item) + 2 for item in node.value)
        case _:
            return 2 + sum(_width(key) + _width(value) + 4 for key, value in node.value)


def to_yaml(value: Json, *, compact: bool = False) -> str:
    """`value` as one YAML document: keys in their order, texts of several lines as blocks.

    `compact` writes short maps and lists in one line each.
    """
    writer = _CompactWriter if compact else _Writer
    text: str = yaml.dump(
        value, Dumper=writer, sort_keys=False, allow_unicode=True, default_flow_style=False, width=2**20
    )
    return text
