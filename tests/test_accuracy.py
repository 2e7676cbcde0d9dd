from __future__ import annotations

import math
import sys

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.accuracy import Aggregate, Comparison, Score, compare, cosine, load_score, sqnr_db, verdict, worst
from harness.errors import DataError, UsageError
from harness.spec.model import Bounds

finite = hnp.arrays(
    np.float32,
    hnp.array_shapes(max_dims=3, max_side=6),
    elements=st.floats(-1e6, 1e6, width=32).map(lambda x: 0.0 if abs(x) < 1e-6 else x),
)


@given(finite)
def test_equal_is_perfect(array):
    assert sqnr_db(array, array.copy()) == math.inf
    assert cosine(array, array) == pytest.approx(1.0)
    assert worst(array, array) == 0.0


@given(finite, st.integers(-10, 10), st.floats(0.01, 0.5))
def test_sqnr_is_what_it_says(array, power, share):
    """Noise of a known share of the signal gives a known ratio, at any scale."""
    scale = 2.0**power
    left = array.astype(np.float64) * scale
    got = sqnr_db(left, left * (1 + share))
    assert got == math.inf if not left.any() else got == pytest.approx(-20 * math.log10(share), abs=1e-6)


@given(finite, finite, st.floats(0.1, 10))
def test_bounds_of_the_metrics(left, right, scale):
    if left.shape != right.shape:
        for metric in (sqnr_db, cosine, worst):
            with pytest.raises(DataError, match="cannot be compared"):
                metric(left, right)
        return
    assert -1 <= cosine(left, right) <= 1
    assert cosine(left, right) == cosine(right, left)
    assert cosine(left, right * np.float64(scale)) == pytest.approx(cosine(left, right), abs=1e-9)
    assert worst(left, right) == worst(right, left) >= 0
    assert (worst(left, right) == 0) == (sqnr_db(left, right) == math.inf)


@given(finite, st.data())
def test_nan_anywhere_never_passes(array, data):
    index = data.draw(st.integers(0, array.size - 1))
    spoiled = array.copy()
    spoiled.flat[index] = np.nan
    reference, candidate = data.draw(st.permutations([array, spoiled]))
    assert math.isnan(sqnr_db(reference, candidate))
    assert math.isnan(cosine(reference, candidate))
    assert math.isnan(worst(reference, candidate))
    one = compare({"y": reference}, {"y": candidate}, "y", None)
    for kind in (None, "sqnr_db", "cosine", "worst"):
        lenient = {"sqnr_db": -1e300, "cosine": -2.0, "worst": math.inf}
        bounds = Bounds(**({kind: lenient[kind]} if kind else {}))
        ok, reasons = verdict(one, bounds)
        assert not ok
        assert "NaN" in reasons[0]
        assert len(reasons) == (2 if kind else 1)


def test_nan_among_many_samples_never_passes():
    good = {"y": np.ones(3, np.float32)}
    bad = {"y": np.array([1, np.nan, 1], np.float32)}
    for order in ([good, bad, good], [bad, good, good], [good, good, bad]):
        pooled = Aggregate("y")
        for candidate in order:
            pooled.add(good, candidate)
        ok, _ = verdict(pooled, Bounds(sqnr_db=-500.0, cosine=-1.0, worst=1e9))
        assert not ok
        assert math.isnan(pooled.comparison.sqnr_db)


def test_nan_in_an_output_that_is_not_scored_fails_and_names_it():
    fine = {"y": np.ones(3, np.float32), "hidden": np.ones((2, 2), np.float32), "ids": np.arange(3)}
    bad = fine | {"hidden": np.array([[1, np.nan], [1, 1]], np.float32)}
    one = compare(fine, bad, "y", None)
    assert (one.sqnr_db, one.finite, one.spoiled) == (math.inf, False, ("hidden",))
    for order in ([fine, bad, fine], [bad, fine], [bad, bad]):
        pooled = Aggregate("y")
        for candidate in order:
            pooled.add(fine, candidate)
        ok, reasons = verdict(pooled, Bounds(sqnr_db=10))
        assert not ok
        assert reasons == ["NaN or infinite values in output hidden, where FP32 has none"]


def test_a_reference_that_is_not_finite_itself_in_an_unscored_output():
    mask = np.array([0.0, -np.inf, -np.inf, np.nan], np.float32)
    reference = {"y": np.ones(3, np.float32), "mask": mask}
    assert verdict(compare(reference, reference, "y", None), Bounds()) == (True, [])
    elsewhere = reference | {"mask": mask[::-1].copy()}
    assert compare(reference, elsewhere, "y", None).spoiled == ("mask",)
    longer = reference | {"mask": np.append(mask, np.float32(1))}
    assert not compare(reference, longer, "y", None).finite
    assert not compare({"y": np.array([1, np.inf])}, {"y": np.ones(2)}, "y", None).finite  # the scored one must be


def test_infinities_do_not_pass_either():
    reference, candidate = {"y": np.ones(3)}, {"y": np.array([1, np.inf, 1])}
    one = compare(reference, candidate, "y", None)
    assert one.sqnr_db == -math.inf
    assert one.worst == math.inf
    assert not verdict(one, Bounds())[0]


def test_a_nan_bound_or_score_fails():
    good = Comparison(30.0, 1.0, 0.0, math.nan, 1.0, finite=True)
    for lower in (True, False):
        assert not verdict(good, Bounds(score=0.5), lower_is_better=lower)[0]
    assert not verdict(good, Bounds(sqnr_db=math.nan))[0]
    assert verdict(good, Bounds(sqnr_db=20.0))[0]


def test_special_signals():
    zeros, ones = np.zeros(4), np.ones(4)
    assert sqnr_db(zeros, ones) == -math.inf
    assert cosine(zeros, zeros) == 1.0
    assert cosine(zeros, ones) == 0.0
    assert cosine(ones * 1e200, ones * 1e200) == pytest.approx(1.0)
    assert cosine(ones * 1e-200, ones * -1e-200) == pytest.approx(-1.0)
    assert worst(np.zeros(0), np.zeros(0)) == 0.0
    assert worst(np.array([250], np.uint8), np.array([5], np.uint8)) == 245.0  # no wrap-around


samples = st.lists(
    st.tuples(
        hnp.arrays(np.float32, 4, elements=st.floats(-8, 8, width=16)),
        hnp.arrays(np.float32, 4, elements=st.floats(-8, 8, width=16)),
    ),
    min_size=1,
    max_size=150,
)


def mean_score(reference, candidate):
    return float(np.abs(reference["y"] - candidate["y"]).mean()), float(np.abs(reference["y"]).sum())


@given(samples, st.randoms(use_true_random=False))
def test_pooling_is_comparing_the_concatenation_in_any_order(pairs, random):
    score = Score("t:mean_score", mean_score, lower_is_better=True)
    pooled, shuffled = Aggregate("y", score), Aggregate("y", score)
    singles = [pooled.add({"y": left}, {"y": right}) for left, right in pairs]
    for left, right in random.sample(pairs, len(pairs)):
        shuffled.add({"y": left}, {"y": right})
    all_left, all_right = (np.concatenate(side) for side in zip(*pairs, strict=True))
    got = pooled.comparison
    assert got.sqnr_db == pytest.approx(sqnr_db(all_left, all_right), nan_ok=True)
    assert got.worst == worst(all_left, all_right) == max(one.worst for one in singles)
    assert got.cosine == min(one.cosine for one in singles)
    assert got.n == pooled.n == len(pairs)
    weight = sum(one.score_weight for one in singles)
    if weight:
        expected = sum(one.score * one.score_weight for one in singles) / weight
        assert got.score == pytest.approx(expected)
    else:
        assert math.isnan(got.score)
    other = shuffled.comparison
    assert (other.sqnr_db, other.score) == pytest.approx((got.sqnr_db, got.score), nan_ok=True)


def test_reasons_say_value_bound_and_direction():
    seen = Comparison(sqnr_db=9.5, cosine=0.9, worst=0.2, score=0.1, score_weight=3, finite=True)
    assert verdict(seen, Bounds(sqnr_db=9.5, cosine=0.9, worst=0.2, score=0.1)) == (True, [])
    ok, reasons = verdict(seen, Bounds(sqnr_db=10, cosine=0.95, worst=0.1, score=0.2))
    assert not ok
    assert reasons == [
        "SQNR 9.5 dB is below 10",
        "cosine 0.9 is below 0.95",
        "worst element 0.2 is above 0.1",
        "task score 0.1 is below 0.2",
    ]
    assert verdict(seen, Bounds(score=0.2), lower_is_better=True)[0]
    without = Comparison(9.5, 0.9, 0.2, None, 0.0, finite=True)
    assert not verdict(without, Bounds(score=0.2))[0]


def test_outputs_are_found_or_named():
    reference = {"ids": np.array([1, 2]), "y": np.ones(2, np.float32)}
    assert compare(reference, reference, "", None).sqnr_db == math.inf
    assert compare(reference, {**reference, "y": np.zeros(2)}, "", None).worst == 1.0
    with pytest.raises(DataError, match="candidate has no output 'y'"):
        compare(reference, {"z": np.ones(2)}, "y", None)
    with pytest.raises(DataError, match="no floating-point output"):
        compare({"ids": np.array([1])}, {"ids": np.array([1])}, "", None)
    with pytest.raises(DataError, match="no sample"):
        _ = Aggregate().comparison


@pytest.fixture
def scores(tmp_path, monkeypatch):
    name = f"scores_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(
        "def errors(reference, candidate):\n    return 0.25, 4\n"
        "errors.lower_is_better = True\n"
        "def distance(reference, candidate):\n    return 1\n"
        "distance.higher_is_better = False\n"
        "def plain(reference, candidate):\n    return 1\n"
        "def broken(reference, candidate):\n    return reference['nothing']\n"
        "def words(reference, candidate):\n    return 'good'\n"
        "def light(reference, candidate):\n    return 1.0, float('nan')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def test_scores_by_name(scores):
    errors = load_score(f"{scores}:errors")
    assert errors.lower_is_better
    assert errors({}, {}) == (0.25, 4.0)
    assert load_score(f"{scores}:distance").lower_is_better
    plain = load_score(f"{scores}:plain")
    assert not plain.lower_is_better
    assert plain({}, {}) == (1.0, 1.0)
    assert load_score("") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [("{}", "is no score"), ("{}:erors", "no function 'erors'"), ("not_there:f", "cannot import 'not_there'")],
)
def test_scores_that_are_not_there(scores, name, message):
    with pytest.raises(UsageError, match=message) as error:
        load_score(name.format(scores))
    if "erors" in name:
        assert error.value.todo == f"did you mean {scores}:errors?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:\n", "SyntaxError"),
        ("one = 1\nraise RuntimeError('no device')\n", "RuntimeError: no device"),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
    ],
)
def test_a_score_module_that_raises_on_import(tmp_path, monkeypatch, text, message):
    name = f"raises_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(UsageError, match=message) as error:
        load_score(f"{name}:f")
    assert f"{name}.py" in error.value.detail or message.startswith("SystemExit")
    assert "importlib" not in error.value.detail
    assert "accuracy.py" not in error.value.detail


def test_a_relative_name_is_no_score_module():
    with pytest.raises(UsageError, match="TypeError"):
        load_score(".x:f")


@pytest.mark.parametrize(
    ("name", "message"), [("broken", "KeyError"), ("words", "ValueError"), ("light", "weight is nan")]
)
def test_scores_that_fail(scores, name, message):
    outputs = {"probs": np.ones(2), "state": np.zeros(2)}
    with pytest.raises(DataError, match=message) as error:
        load_score(f"{scores}:{name}")(outputs, outputs)
    assert "accuracy.py" not in error.value.detail
    if name == "broken":
        assert f"{scores}.py" in error.value.detail
        assert "return reference['nothing']" in error.value.detail
        assert "the outputs 'probs', 'state'" in error.value.todo


def test_a_model_that_gives_nothing_is_not_compared():
    """Zeros equal zeros, whatever the candidate computes in."""
    zeros = {"y": np.zeros(4, np.float32)}
    pooled = Aggregate("y")
    pooled.add(zeros, zeros)
    passed, reasons = verdict(pooled, Bounds())
    assert not passed
    assert reasons == ["FP32's output is 0 everywhere: nothing is compared"]
    pooled.add({"y": np.ones(4, np.float32)}, {"y": np.ones(4, np.float32)})
    assert verdict(pooled, Bounds())[0]
