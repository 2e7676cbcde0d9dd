"""The roof above a layer: arithmetic on known numbers."""

from __future__ import annotations

import pytest

from harness.explain.layer import Layer, Roofline

ROOF = Roofline({"fp32": 1e9, "int8": 4e9}, 1e9, ((1_000, 8e9), (10_000, 9e9), (100_000, 4e9)))


def layer(**more):
    return Layer(**{"name": "l", "operator": "Conv", "nodes": (), "precision": "fp32", "role": "compute", **more})


@pytest.mark.parametrize(
    ("operations", "moved", "least"),
    [
        (1_000_000, 10, 1000),  # products bound it
        (0, 900_000, 900_000 / 4e9 * 1e6),  # as fast as the largest traffic that is not larger, or any larger
        (0, 50_000, 50_000 / 9e9 * 1e6),
        (0, 10, 10 / 9e9 * 1e6),  # what was faster with more is possible with less
    ],
)
def test_least_time(operations, moved, least):
    assert ROOF.least_us("fp32", operations, moved) == pytest.approx(least)


def test_how_near_a_layer_is():
    assert ROOF.reached(layer(time_us=2000.0, operations=1_000_000, moved_bytes=10)) == pytest.approx(0.5)
    assert ROOF.reached(layer(time_us=2000.0, operations=None, moved_bytes=10)) is None
    assert ROOF.reached(layer(operations=10, moved_bytes=10)) is None
    assert ROOF.reached(layer(time_us=2.0, operations=0, moved_bytes=0)) is None, "a view has no roof to be far from"
    assert ROOF.reached(layer(time_us=1.0, operations=10, moved_bytes=10, precision="")) is None


def test_what_bounds_a_layer():
    assert ROOF.memory_bound(layer(operations=10, moved_bytes=1000)) is True
    assert ROOF.memory_bound(layer(operations=10_000, moved_bytes=1000)) is False
    assert ROOF.memory_bound(layer(operations=10_000)) is None
