from __future__ import annotations

from dataclasses import replace

import pytest

from harness.corpus.catalogue import Entry
from harness.errors import UsageError
from harness.spec.bounds import bounded, check_bounds, read_bounds
from harness.spec.model import Axis, Bounds, Model


def model_of(*buckets):
    return Model(
        "m", (Axis("x", 1),), "frames", 1, 1000, 30, bounds=tuple((name, Bounds(cosine=1)) for name in buckets)
    )


def test_bounds_of_options_are_laid_over_those_of_the_model():
    model = replace(model_of(), bounds=(("*", Bounds(sqnr_db=20, cosine=0.9)), ("short", Bounds(score=0.8))))
    entry = Entry(model, lambda: None, lambda *_: iter(()), "1")
    found = bounded(entry, read_bounds(["sqnr_db=15", "long:sqnr_db=12", "traffic:speedup=1.3"]), of=1).model
    assert found.bounds_for("short") == Bounds(sqnr_db=15, cosine=0.9, score=0.8)
    assert found.bounds_for("long") == Bounds(sqnr_db=12, cosine=0.9)
    assert found.speedup_of_traffic() == 1.3
    with pytest.raises(UsageError, match="is for one model, and 2 are chosen"):
        bounded(entry, read_bounds(["sqnr_db=15"]), of=2)


def test_an_option_without_a_bucket_holds_in_every_bucket_one_with_a_bucket_wins():
    own = (
        ("short", Bounds(sqnr_db=8, score=0.85, speedup=1.1)), ("*", Bounds(score=0.92)),
        ("drawn", Bounds(score=0.3)), ("drawn-short", Bounds(score=0.2)), ("traffic", Bounds(speedup=2)),
    )  # fmt: skip
    entry = Entry(replace(model_of(), bounds=own), lambda: None, lambda *_: iter(()), "1")
    found = bounded(entry, read_bounds(["score=0.97", "speedup=1.3"]), of=1).model
    assert found.bounds_for("short") == Bounds(sqnr_db=8, score=0.97, speedup=1.3)
    assert found.bounds_for("long") == Bounds(score=0.97, speedup=1.3)
    assert (found.bounds_for_draw("short").score, found.bounds_for_draw("long").score) == (0.2, 0.3)
    assert found.speedup_of_traffic() == 2
    both = bounded(entry, read_bounds(["short:score=0.9", "score=0.97"]), of=1).model
    assert [both.bounds_for(name).score for name in ("short", "middle")] == [0.9, 0.97]
    alone = bounded(entry, read_bounds(["long:score=0.5"]), of=1).model
    assert [alone.bounds_for(name).score for name in ("short", "middle", "long")] == [0.85, 0.92, 0.5]


def test_a_bucket_adds_to_what_holds_everywhere():
    found = dict(read_bounds(["short:score=0.9", "sqnr_db=15", "short:sqnr_db=8", "drawn:cosine=0.4", "worst=1e-2"]))
    assert found == {
        "*": Bounds(sqnr_db=15, worst=0.01),
        "short": Bounds(sqnr_db=8, score=0.9),
        "drawn": Bounds(cosine=0.4),
    }
    model = replace(model_of(), bounds=tuple(found.items()))
    assert model.bounds_for("short") == Bounds(sqnr_db=8, worst=0.01, score=0.9)
    assert model.bounds_for_draw("short") == Bounds(cosine=0.4)
    assert read_bounds([]) == ()


def test_a_speedup_is_asked_of_buckets_and_of_the_traffic():
    model = replace(model_of(), bounds=read_bounds(["speedup=1.3", "long:speedup=1.5", "traffic:speedup=1.4"]))
    check_bounds(model)
    assert [model.bounds_for(name).speedup for name in ("short", "long")] == [1.3, 1.5]
    assert model.speedup_of_traffic() == 1.4
    assert not model.bounds_for("short"), "a speed-up bounds no accuracy"
    assert replace(model_of(), bounds=read_bounds(["speedup=1.3"])).speedup_of_traffic() is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("drawn:speedup=1.3", "no single example is timed"),
        ("drawn-short:speedup=1.3", "no single example is timed"),
        ("speedup=0", "a speedup of 0"),
        ("speedup=nan", "'nan' is no number"),
        ("speedup=inf", "'inf' is no number"),
        ("traffic:cosine=0.9", "bounded by a speedup alone"),
    ],
)
def test_a_speedup_that_cannot_be_asked(text, said):
    with pytest.raises(UsageError, match=said):
        check_bounds(replace(model_of(), bounds=read_bounds([text])))


@pytest.mark.parametrize(
    ("text", "what", "todo"),
    [
        ("15", "'15' is no bound", "sqnr_db=15"),
        ("sqnr=15", "unknown bound 'sqnr'", "'sqnr_db'"),
        ("short:zzz=15", "unknown bound 'zzz'", "sqnr_db, cosine, worst, score, speedup"),
        ("sqnr_db=good", "'good' is no number", "sqnr_db=15"),
        ("sqnr_db=nan", "'nan' is no number", "sqnr_db=15"),
        ("short:score=inf", "'inf' is no number", "sqnr_db=15"),
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


def test_a_score_is_bounded_where_there_is_one():
    model = replace(model_of(), bounds=read_bounds(["short:score=0.9"]))
    with pytest.raises(UsageError, match=r"m: a score of 0\.9 is asked for, and the model has no task score"):
        check_bounds(model)
    check_bounds(replace(model, score="my_scores:same_class"))
