"""Quantities, against what apimachinery v0.36.3 (pkg/api/resource) made of the same texts."""

from __future__ import annotations

from fractions import Fraction

import pytest

from lws_core.quantity import Quantity, canonical_quantity, parse, read
from lws_core.values import Json

# A text; what Quantity.String() gave for it; what it is worth.
VECTORS = (
    ("0", "0", "0"),
    ("1", "1", "1"),
    ("100m", "100m", "0.1"),
    ("1000m", "1", "1"),
    ("1500m", "1500m", "1.5"),
    ("0.5", "500m", "0.5"),
    (".5", "500m", "0.5"),
    ("1.", "1.", "1"),
    ("0.500", "500m", "0.5"),
    ("1.500", "1.500", "1.5"),
    ("2.125", "2.125", "2.125"),
    ("2125m", "2125m", "2.125"),
    ("1024", "1024", "1024"),
    ("1024Ki", "1Mi", "1048576"),
    ("1024Mi", "1Gi", "1073741824"),
    ("1Gi", "1Gi", "1073741824"),
    ("1.5Gi", "1536Mi", "1610612736"),
    ("1536Mi", "1536Mi", "1610612736"),
    ("0.5Mi", "512Ki", "524288"),
    ("0.1Ki", "102400m", "102.4"),
    ("0.5Ki", "512", "512"),
    ("0.9765625Ki", "1k", "1000"),
    ("1.1Ki", "1126400m", "1126.4"),
    ("512Ki", "512Ki", "524288"),
    ("1000Ki", "1000Ki", "1024000"),
    ("1023", "1023", "1023"),
    ("1000", "1k", "1000"),
    ("1000k", "1M", "1000000"),
    ("1e3", "1e3", "1000"),
    ("1E3", "1E3", "1000"),
    ("10e2", "1e3", "1000"),
    ("1.5e3", "1500", "1500"),
    ("1e-3", "1e-3", "0.001"),
    ("1e-12", "1e-9", "0.000000001"),
    ("1e+2", "100", "100"),
    ("1e03", "1e03", "1000"),
    ("0.1n", "1n", "0.000000001"),
    ("1.5n", "2n", "0.000000002"),
    ("-1.5n", "-2n", "-0.000000002"),
    ("-0.1n", "-1n", "-0.000000001"),
    ("+5", "+5", "5"),
    ("05", "05", "5"),
    ("007m", "007m", "0.007"),
    ("-1", "-1", "-1"),
    ("-1024Mi", "-1Gi", "-1073741824"),
    ("0Gi", "0", "0"),
    ("0.0", "0", "0"),
    ("00", "0", "0"),
    ("1E", "1E", "1000000000000000000"),
    ("1Ei", "1Ei", "1152921504606846976"),
    ("9Ei", "9223372036854775807", "9223372036854775807"),
    ("7Ei", "7Ei", "8070450532247928832"),
    ("100E", "100E", "100000000000000000000"),
    ("9223372036854775807", "9223372036854775807", "9223372036854775807"),
    ("9223372036854775808", "9223372036854775808", "9223372036854775808"),
    ("123456789012345678901234567890", "123456789012345678901234567890", "123456789012345678901234567890"),
    ("1e30", "1e30", "1000000000000000000000000000000"),
    ("999999999999999999", "999999999999999999", "999999999999999999"),
    ("1.000000001", "1.000000001", "1.000000001"),
    ("1.0000000001", "1000000001n", "1.000000001"),
    ("64Gi", "64Gi", "68719476736"),
    ("16384Mi", "16Gi", "17179869184"),
    ("8Ki", "8Ki", "8192"),
    ("3Ki", "3Ki", "3072"),
    ("1u", "1u", "0.000001"),
    ("1000000u", "1", "1"),
    ("1000n", "1u", "0.000001"),
    ("12345m", "12345m", "12.345"),
    ("0.001Mi", "1048576m", "1048.576"),
    ("1.25Ki", "1280", "1280"),
    ("2000M", "2G", "2000000000"),
    ("2.50", "2500m", "2.5"),
    ("2.500m", "2.500m", "0.0025"),
    ("0e3", "0", "0"),
    ("500000e-3", "500", "500"),
)


@pytest.mark.parametrize(("text", "canonical", "worth"), VECTORS)
def test_quantity_always_is_what_kubernetes_makes_of_it(text: str, canonical: str, worth: str) -> None:
    assert canonical_quantity(text) == canonical
    assert parse(text) == Fraction(worth)


@pytest.mark.parametrize(("text", "canonical", "worth"), VECTORS)
def test_quantity_canonical_text_always_keeps_the_worth_and_is_a_fixed_point(
    text: str, canonical: str, worth: str
) -> None:
    assert parse(str(read(text))) == parse(canonical) == Fraction(worth)
    assert canonical_quantity(canonical) == canonical
    assert canonical_quantity(str(read(text))) == str(read(text))


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            " ",
            "1 ",
            "1\n",
            "abc",
            "1K",
            "1mi",
            "1Mib",
            "1e",
            "1e1.5",
            "--1",
            "1..2",
            "0x10",
            "1,5",
            "１",
        ),
        *("Ki", "-", "+", ".", "e3"),  # no digit: apimachinery's parser takes them for 0, schemas refuse them
        *("1e1000", "9" * 300),  # larger than any machine
        *(None, True, (), ("1",)),
    ],
)
def test_quantity_never_accepts_what_is_none(value: Json) -> None:
    with pytest.raises(ValueError, match='such as "500m"'):
        parse(value)
    with pytest.raises(ValueError, match="is not a quantity"):
        canonical_quantity(value)


@pytest.mark.parametrize(
    ("value", "canonical"),
    [(1, "1"), (1000, "1k"), (0, "0"), (-3, "-3"), (0.5, "500m"), (2.0, "2"), (1e-7, "100e-9")],
)
def test_quantity_always_reads_a_json_number(value: Json, canonical: str) -> None:
    assert canonical_quantity(value) == canonical


def test_quantity_never_loses_worth_to_a_missing_suffix() -> None:
    assert canonical_quantity("1000E") == "1000E"
    assert str(read("1000P") + read("1000000P")) == "1001E"


def test_quantity_sum_always_keeps_the_family_of_the_first_that_is_not_zero() -> None:
    assert str(read("1Gi") + read("1M")) == str(Quantity(Fraction(1074741824), "binary"))
    assert str(Quantity(Fraction(0)) + read("512Mi") + read("512Mi")) == "1Gi"
    assert str(read("500m") + read("1500m")) == "2"
    assert read("0.0001Ki").family == "decimal"  # less than one byte cannot be written in a binary family


def test_quantity_with_an_extreme_exponent_never_costs_more_than_a_small_one() -> None:
    assert canonical_quantity("1e-999999999") == "1e-9"
    assert canonical_quantity("0e-999999999") == "0"
