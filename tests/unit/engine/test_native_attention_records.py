"""Records of attention in the native graph: one that is not what it says is refused."""

from __future__ import annotations

from typing import Any

import pytest

from fastgan.engine.native.records import NOTHING, Kind, record
from fastgan.host.native import _native

pytestmark = pytest.mark.cpu

#: A record of 2 x 3 matrices: queries [4, 5], keys [5, 6], values [6, 7], a scale and a bias each.
FIELDS: dict[str, Any] = {
    "axes": 2,
    "batch": [2, 3],
    "rows": 4,
    "inner": 5,
    "keys": 6,
    "columns": 7,
    "scale": 0.5,
    "zeros": 0,
    "of queries": [60, 20, 5, 1],
    "of keys": [90, 30, 6, 1],
    "of values": [126, 42, 7, 1],
    "of the output": [84, 28, 7, 1],
    "of scales": [3, 1, 0, 0],
    "biases": 1,
    "of a bias": [72, 24, 6, 1],
    "queries": (0, 0),
    "keys at": (0, 120),
    "values": (0, 300),
    "output": (1, 0),
    "scales": (0, 552),
    "bias": (0, 560),
}


def read_record(**changes: Any) -> Any:
    fields = {**FIELDS, **{name.replace("_", " "): value for name, value in changes.items()}}
    assert fields.keys() == FIELDS.keys()
    runtime = _native.runtime
    return runtime.Graph(
        records=record(Kind.ATTENTION, *fields.values()),
        arena=704,
        tensors=[168],
        constants=[],
        weights=runtime.Weights(1),
    )


def test_a_record_is_read() -> None:
    assert read_record().floats(1) > 704


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"axes": 9, "batch": [1] * 9}, "too many axes"),
        ({"axes": -1}, "a size out of range"),
        ({"batch": [2, 0]}, "a size out of range"),
        ({"rows": 0}, "a number out of range"),
        ({"keys": -6}, "a number out of range"),
        ({"inner": 1 << 40}, "a number out of range"),
        ({"zeros": 2}, "a flag that is none"),
        ({"biases": 3}, "a number out of range"),
        ({"of_queries": [60, 20, -5, 1]}, "a number out of range"),
        ({"batch": [2, 4]}, "reaches beyond its memory"),
        ({"rows": 5}, "reaches beyond its memory"),
        ({"columns": 8}, "reaches beyond its memory"),
        ({"keys": 7}, "reaches beyond its memory"),
        ({"of_the_output": [84, 28, 7, 2]}, "reaches beyond its memory"),
        ({"of_a_bias": [72, 24, 7, 1]}, "reaches beyond its memory"),
        ({"of_scales": [200, 1, 0, 0]}, "reaches beyond its memory"),
        ({"of_keys": [1 << 32] * 4}, "reaches beyond its memory|too large"),
        ({"batch": [1 << 28, 1 << 28]}, "a tensor too large"),
        ({"rows": 1 << 20, "of_queries": [0] * 4}, "elements that share memory"),
        ({"keys": 1 << 20, "of_keys": [0] * 4}, "elements that share memory"),
        ({"columns": 1 << 20, "of_values": [0] * 4}, "elements that share memory"),
        ({"of_the_output": [0] * 4, "rows": 8}, "elements that share memory|beyond"),
        ({"queries": NOTHING}, "a tensor that is not there"),
        ({"bias": NOTHING}, "a tensor that is not there"),
        ({"output": NOTHING}, "a tensor that is not there"),
        ({"output": (7, 0)}, "a place that is none"),
        ({"output": (0, 1 << 60)}, "a number out of range"),
        ({"values": (1 << 20, 0)}, "a place that is none"),
    ],
)
def test_a_record_that_is_none_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_record(**changes)
