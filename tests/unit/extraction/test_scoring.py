"""The interest is computed from the extracted values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_stream.contracts.prospect import Momento, Signal, SignalName
from nexus_stream.extraction.scoring import bounded, moment, score

INTENT = Signal(name=SignalName.INTENCION, turn=0, start=0, end=6)
REFUSAL = Signal(name=SignalName.DESINTERES, turn=2, start=0, end=6)


@pytest.mark.parametrize(
    ("nombre", "email", "telefono", "signals", "expected"),
    [
        (None, None, None, (), 0.0),
        ("Ana", None, None, (), 2.0),
        (None, None, "+573005550102", (), 3.0),
        (None, "ana@example.com", None, (), 1.5),
        ("Ana", "ana@example.com", "+573005550102", (INTENT, INTENT), 8.5),
        ("Ana", None, None, (REFUSAL,), 0.0),
        ("Ana", "ana@example.com", "+573005550102", (INTENT, REFUSAL), 5.5),
        ("", "", "", (), 0.0),
    ],
)
def test_points(nombre, email, telefono, signals, expected):
    assert score(nombre=nombre, email=email, telefono=telefono, signals=signals) == expected


@pytest.mark.parametrize(
    ("interest", "expected"),
    [(None, "frio"), (0, "frio"), (3.99, "frio"), (4, "tibio"), (6.99, "tibio"), (7, "caliente"), (7.5, "caliente")],
)
def test_moments(interest, expected):
    assert moment(interest) is Momento(expected)


@given(st.one_of(st.none(), st.floats(allow_nan=True)))
def test_bounds_hold_for_anything(value):
    assert 0.0 <= bounded(value) <= 10.0
