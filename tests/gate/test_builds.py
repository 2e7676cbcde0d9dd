from __future__ import annotations

import pytest

from harness.gate.builds import Built, compare_builds
from harness.gate.findings import Finding, NotCompared

WHOLE = Built(int8=[6, 6, 6], floats=[1, 1, 1], bytes=[100, 102, 101], seconds=[3.0, 3.1, 2.9], device_bytes=[50] * 3)


def found(baseline, candidate):
    return {one.aspect: one for one in compare_builds("case", baseline, candidate)}


def found_all(baseline, candidate):
    return [one for one in compare_builds("case", baseline, candidate) if isinstance(one, Finding)]


def test_equal_builds_pass():
    assert {one.word for one in found(WHOLE, WHOLE).values()} == {"pass"}


def test_what_no_longer_builds_blocks_in_the_librarys_words():
    error = "BuildFailed: rtx, a.onnx: the builder refuses this model\n  | Myelin: no int8 convolution\n  | more"
    (one,) = compare_builds("case", WHOLE, Built(error=error))
    assert (one.word, one.blocks, one.p) == ("regression", True, 0.0)
    assert "no longer builds" in one.why
    assert "Myelin: no int8 convolution" in one.why
    assert one.values["error"] == error


def test_what_builds_now_or_on_neither_side_does_not_block():
    assert [one.word for one in compare_builds("case", Built(error="x"), WHOLE)] == ["improved"]
    (neither,) = compare_builds("case", Built(error="x"), Built(error="y"))
    assert (type(neither), neither.why) == (NotCompared, "builds on neither side: y")
    for died in ((True, False), (False, True)):
        sides = [Built(error="x", died=one) for one in died]
        (one,) = compare_builds("case", *sides)
        assert (one.word, one.blocks) == ("inconclusive", False), "memory or a deadline says nothing of the model"


@pytest.mark.parametrize(
    ("int8", "floats", "word"),
    [
        ([6, 6, 6], [1, 1, 1], "pass"),
        ([6, 5, 6], [1, 2, 1], "regression"),  # the worst build counts: any may be shipped
        ([3, 3, 3], [1, 1, 1], "pass"),  # merged into fewer, none of them in float
        ([0, 0, 0], [1, 1, 1], "regression"),
        ([7, 7, 7], [0, 0, 0], "improved"),
        ([None, None, None], [None, None, None], "inconclusive"),
    ],
)
def test_what_fell_back_to_float(int8, floats, word):
    candidate = Built(int8=int8, floats=floats, bytes=[100])
    one = found(WHOLE, candidate)["coverage"]
    assert (one.word, one.blocks) == (word, word == "regression")
    if int8[0] is None:
        assert "candidate does not tell" in one.why


@pytest.mark.parametrize(
    ("candidate", "aspect", "word"),
    [
        (Built(bytes=[120] * 3), "size", "minor"),
        (Built(bytes=[80] * 3), "size", "improved"),
        (Built(bytes=[100], device_bytes=[60]), "memory", "minor"),
        (Built(bytes=[100], seconds=[4.0]), "build time", "pass"),
        (Built(bytes=[100], seconds=[6.0]), "build time", "minor"),
        (Built(bytes=[100], seconds=[0.5]), "build time", "improved"),
    ],
)
def test_growth_is_told_and_does_not_block(candidate, aspect, word):
    one = found(WHOLE, candidate)[aspect]
    assert (one.word, one.blocks) == (word, False)


def test_what_fell_back_is_named():
    before = Built(int8=[6], floats=[1], in_float=["a"], bytes=[1])
    now = Built(int8=[4], floats=[3], in_float=["a", "c", "b"], bytes=[1])
    one = found(before, now)["coverage"]
    assert one.why.startswith("fell back to float: b, c; operators in INT8: 6 before, 4 now")
    assert one.values["in_float"] == ["b", "c"]


def test_coverage_that_neither_side_tells_is_not_compared():
    untold = Built(int8=[None], floats=[None], bytes=[1])
    one = found(untold, WHOLE)["coverage"]
    assert (type(one), one.why) == (NotCompared, "the baseline does not tell what runs in INT8")
    assert found(untold, untold)["coverage"].why == "the baseline and candidate does not tell what runs in INT8"
    floats = Built(int8=[0], floats=[2], bytes=[1])
    assert isinstance(found(floats, untold)["coverage"], NotCompared), "of a float engine there is none to lose"


def test_a_profile_that_is_another_is_named_and_blocks():
    def built(opt):
        return Built(bytes=[100], profiles=[[{"x": [[1, 4], [1, opt], [1, 64]]}]])

    assert {one.word for one in found_all(built(16), built(16))} == {"pass"}
    (one,) = (f for f in found_all(built(16), built(8)) if f.blocks)
    assert (one.aspect, one.where, one.why) == ("builds", "profile 0", "opt of x [1, 16] before, [1, 8] now")
    assert one.blocks
    none = Built(bytes=[100], profiles=[[]])
    (lost,) = (f for f in found_all(built(16), none) if f.blocks)
    assert lost.why == "1 profile(s) before, 0 now"


def test_milliseconds_of_building_are_noise():
    assert found(Built(bytes=[1], seconds=[0.004]), Built(bytes=[1], seconds=[0.009]))["build time"].word == "pass"


def test_what_was_not_measured_is_not_compared():
    assert not {"memory", "build time"} & set(found(WHOLE, Built(bytes=[100])))


def test_new_warnings_are_those_that_say_something_else():
    old = Built(bytes=[1], warnings=["onnx2trt_utils.cpp:377: cast of 12 weights", "tactic 0x00ff failed"])
    same = Built(bytes=[1], warnings=["onnx2trt_utils.cpp:374: cast of 61 weights", "tactic 0xab12 failed"])
    assert "warnings" not in found(old, same)
    new = Built(bytes=[1], warnings=[*same.warnings, "Missing scale for tensor a1", "Missing scale for tensor a2"])
    one = found(old, new)["warnings"]
    assert (one.word, len(one.values["new"])) == ("minor", 1)
