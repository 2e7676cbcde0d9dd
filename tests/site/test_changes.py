from __future__ import annotations

import random

from harness.site.changes import LEAST, levels


def noisy(*parts, sd=0.01, seed=0):
    draw = random.Random(seed)
    return [level * (1 + draw.gauss(0, sd)) for level, count in parts for _ in range(count)]


def test_a_step_is_found_where_it_is():
    found = levels(noisy((1.8, 20), (1.6, 15)))
    assert [(one.begin, one.end) for one in found] == [(0, 20), (20, 35)]
    assert [round(one.ratio, 1) for one in found] == [1.8, 1.6]


def test_there_and_back():
    assert [one.begin for one in levels(noisy((1.5, 12), (1.3, 12), (1.5, 12)))] == [0, 12, 24]


def test_noise_alone_has_one_level_mostly():
    """A year of nights on fifty runners: few false change points, or nobody reads them."""
    false = sum(len(levels(noisy((1.5, 150), sd=0.02, seed=seed))) > 1 for seed in range(50))
    assert false <= 3


def test_a_change_below_one_percent_is_none():
    assert len(levels(noisy((1.500, 20), (1.508, 20), sd=0.0001))) == 1
    assert len(levels(noisy((1.500, 20), (1.530, 20), sd=0.0001))) == 2


def test_one_odd_night_is_no_level():
    assert len(levels(noisy((1.5, 15), (1.2, 1), (1.5, 15)))) == 1


def test_what_is_too_short_to_cut():
    assert levels([]) == []
    (one,) = levels([1.0] * (2 * LEAST - 2) + [2.0])
    assert (one.begin, one.end, one.ratio) == (0, 2 * LEAST - 1, 1.0)


def test_no_noise_at_all():
    assert [one.begin for one in levels([2.0] * 10 + [1.9] * 10)] == [0, 10]
