"""Kubernetes resource quantities: what "1500m", "1Gi" or "1e3" is worth, and how the API writes it.

A quantity is a decimal number with a suffix of one of three families: decimal ("k", "M", "m" ...), binary
("Ki", "Mi" ...) or an exponent ("e3"). An amount is exact; what is finer than a billionth is rounded away
from zero. The rules are those of apimachinery's pkg/api/resource, except that a text without a digit ("Ki",
"-", "."), which that package takes for 0, is refused here as the schema of every custom resource refuses it,
and that an amount too large for a decimal suffix keeps its worth ("1000E", which there becomes "1").
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final, Literal

import attrs

from .values import Json

Family = Literal["decimal", "binary", "exponent"]

_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIX: Final = {exponent: suffix for suffix, exponent in _DECIMAL.items()}
_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_SHAPE: Final = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+)|([KMGTPE]i|[numkMGTPE]?))")
_MOST: Final = Fraction(2**63 - 1)
_NANO: Final = 10**9
_LONGEST_TEXT: Final = 256  # keeps 10**exponent and the number of digits within reason
_LARGEST_EXPONENT: Final = 999


@attrs.frozen
class Quantity:
    """An exact amount, and the family of suffixes that it is written in."""

    amount: Fraction
    family: Family = "decimal"

    def __add__(self, other: Quantity) -> Quantity:
        """The sum, in this quantity's family; in the other's where this one is zero."""
        return Quantity(self.amount + other.amount, self.family if self.amount else other.family)

    def __str__(self) -> str:
        """The canonical form: no fraction, the largest suffix that loses nothing."""
        if not self.amount:
            return "0"
        if self.family == "binary" and abs(self.amount) >= 1024 and self.amount.denominator == 1:
            number, power = _without_factor(self.amount.numerator, 1024)
            power, rest = min(power, len(_BINARY) - 1), max(0, power - len(_BINARY) + 1)
            return f"{number * 1024**rest}{_BINARY[power]}"
        number, exponent = _without_factor(int(self.amount * _NANO), 10)
        exponent -= 9
        number, exponent = number * 10 ** (exponent % 3), exponent - exponent % 3
        if self.family == "exponent":
            return f"{number}e{exponent}" if exponent else f"{number}"
        extra = max(0, exponent - _DECIMAL["E"])
        return f"{number * 10**extra}{_DECIMAL_SUFFIX[exponent - extra]}"


def read(value: Json) -> Quantity:
    """The quantity that a manifest gives as a string, an integer or a number.

    Raises ValueError, saying what a quantity looks like.
    """
    sign, whole, fraction, exponent, suffix = _parts(_text(value), value)
    digits = int(whole + fraction or "0")
    if suffix in _BINARY[1:]:
        family: Family = "binary"
        amount = Fraction(digits, 10 ** len(fraction)) * 1024 ** _BINARY.index(suffix)
    else:
        family = "decimal" if exponent is None else "exponent"
        amount = Fraction(digits, 10 ** len(fraction)) * _power_of_ten(exponent, suffix)
    amount = Fraction(-(-amount.numerator * _NANO // amount.denominator), _NANO)
    if family == "binary":
        amount = min(amount, _MOST)
        if 0 < amount < 1:
            family = "decimal"
    return Quantity(-amount if sign == "-" else amount, family)


def parse(value: Json) -> Fraction:
    """What a quantity is worth: two quantities mean the same exactly if this is equal.

    Raises ValueError, saying what a quantity looks like.
    """
    return read(value).amount


def canonical_quantity(value: Json) -> str:
    """A quantity as the API's typed objects store it: "1000m" -> "1", "1024Mi" -> "1Gi", "0.5" -> "500m".

    The family is kept ("1e3" stays "1e3"). As apimachinery does, a text that has neither a zero thousand nor
    digits out of step with its suffix is given back as it stands ("2.125", "+5", "1E3"), so equal amounts
    may still differ in text: compare with `parse`. Raises ValueError, saying what a quantity looks like.
    """
    text = _text(value)
    return text if _stands(text, value) else str(read(value))


def _text(value: Json) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return repr(value)
    raise _refusal(value)


def _parts(text: str, value: Json) -> tuple[str, str, str, int | None, str]:
    """Sign, digits before and after the point (no leading zeros before it), exponent, suffix."""
    match = _SHAPE.fullmatch(text) if len(text) <= _LONGEST_TEXT else None
    if match is None or not (match[2] or match[3]):
        raise _refusal(value)
    exponent = None if match[4] is None else int(match[4])
    if exponent is not None and exponent > _LARGEST_EXPONENT:
        raise _refusal(value)
    return match[1], match[2].lstrip("0"), match[3] or "", exponent, match[5] or ""


def _power_of_ten(exponent: int | None, suffix: str) -> Fraction:
    power = _DECIMAL[suffix] if exponent is None else exponent
    # However small, what is not zero counts as a billionth, so a smaller power changes nothing.
    return Fraction(10) ** max(power, -_LARGEST_EXPONENT)


def _stands(text: str, value: Json) -> bool:
    """Whether apimachinery keeps the text: its fast path (18 digits at most), in canonical steps."""
    _, whole, fraction, exponent, suffix = _parts(text, value)
    digits = (whole or "0") + fraction
    if suffix in _BINARY[1:]:
        power = 10 * _BINARY.index(suffix)
        # 15 digits less those of 2**power: what is sure to fit an int64.
        fits = not fraction and 15 - len(whole or "0") - power * 3 // 10 - 1 >= 0
        return fits and int(digits) % 8 != 0
    scale = (_DECIMAL[suffix] if exponent is None else exponent) - len(fraction)
    fits = len(digits) <= 18 and scale >= -9
    return fits and scale % 3 == 0 and not digits.endswith("000") and digits[0] != "0"


def _without_factor(number: int, factor: int) -> tuple[int, int]:
    """`number` (not 0) without its factors `factor`, and how many there were."""
    times = 0
    while number % factor == 0:
        number //= factor
        times += 1
    return number, times


def _refusal(value: Json) -> ValueError:
    return ValueError(
        f"{str(value)[:80]!r} is not a quantity: write a number with an optional suffix, "
        'such as "500m", "2", "1.5k", "16Gi" or "1e3"'
    )
