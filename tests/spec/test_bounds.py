from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.spec.bounds import check_bounds, read_bounds
from harness.spec.model import Axis, Bounds, Model


def model_of(*buckets):
    return Model(
        "m", (Axis("x", 1),), "frames", 1, 1000, 30, bounds=tuple((name, Bounds(cosine=1)) for name in buckets)
    )


def test_a_bucket_adds_to_what_holds_everywhere():
    found = dict(read_bounds(["short:score=0.9", "sqnr_db=15", "short:sqnr_db=8", "drawn:cosine=0.4", "worst=1e-2"]))
    assert found == {
        "*": Bounds(sqnr_db=15, worst=0.01),
        "short": Bounds(sqnr_db=8, worst=0.01, score=0.9),
        "drawn": Bounds(cosine=0.4),
    }
    assert read_bounds([]) == ()


@pytest.mark.parametrize(
    ("text", "what", "todo"),
    [
        ("15", "'15' is no bound", "sqnr_db=15"),
        ("sqnr=15", "unknown bound 'sqnr'", "'sqnr_db'"),
        ("short:zzz=15", "unknown bound 'zzz'", "sqnr_db, cosine, worst, score"),
        ("sqnr_db=good", "'good' is no number", "sqnr_db=15"),
        ("a:b:score=1", "is no bound", ""),
    ],
)
def test_what_is_no_bound_is_refused(text, what, todo):
    with pytest.raises(UsageError) as caught:
        read_bounds([text])
    assert what in caught.value.what
    assert todo in caught.value.todo


def test_bounds_of_a_bucket_that_is_not_there_would_never_be_asked():
    check_bounds(model_of("*", "short", "long", "drawn", "drawn-middle"))
    with pytest.raises(UsageError, match="'shrot'") as caught:
        check_bounds(model_of("shrot"))
    assert "'short'" in caught.value.todo
    with pytest.raises(UsageError, match="'drawn-all'"):
        check_bounds(model_of("drawn-all"))
