"""From which length on INT8 pays."""

from __future__ import annotations

import math

import pytest

from harness.site.pays import crossover


def test_crossover_is_between_logarithms():
    assert crossover([(100, 0.5), (10_000, 2.0)]) == pytest.approx(1000)
    assert crossover([(10, 0.9), (100, 1.0), (1000, 1.5)]) == pytest.approx(100)
    assert crossover([(10, 1.2), (100, 0.8), (1000, 1.25)]) == pytest.approx(math.sqrt(100_000), rel=1e-6)


@pytest.mark.parametrize("ratios", [[], [(10, 1.5), (100, 1.2)], [(10, 0.5), (100, 0.9)], [(10, 1.5), (100, 1.0)]])
def test_no_crossover(ratios):
    assert crossover(ratios) is None
