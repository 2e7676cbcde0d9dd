from __future__ import annotations

from harness.gate.pairs import pair_up
from harness.spec.matrix import Matrix
from harness.workers import Environment


def environment(version, runtime="tensorrt"):
    return Environment(f"{runtime}-{version}", "python", runtime, version)


def names(baseline, candidate, **axes):
    pairs = pair_up(Matrix(layouts=("single",), **axes), ["vad"], baseline, candidate)
    return [pair.name for pair in pairs.both], pairs


def test_what_both_take_is_compared_under_one_name():
    found, pairs = names(environment("8.5.3.1"), environment("8.6.0"))
    assert found == [
        "vad-fp32-single", "vad-fp16-single", "vad-int8-auto-ragged-cache-single", "vad-int8-auto-ragged-single",
    ]  # fmt: skip
    assert {pair.baseline.runtime for pair in pairs.both} == {"tensorrt-8.5.3.1"}
    assert {pair.candidate.runtime for pair in pairs.both} == {"tensorrt-8.6.0"}
    assert (pairs.only_baseline, pairs.only_candidate) == ((), ())


def test_a_route_that_went_away_is_left_over_and_one_that_both_have_can_be_asked_for():
    found, pairs = names(environment("10.16.1"), environment("11.4.0"))
    assert found == ["vad-fp32-single", "vad-fp16-single"]
    assert {case.route.value for case in pairs.only_baseline} == {"cache", "qdq"}
    assert {case.route.value for case in pairs.only_candidate} == {"qdq_strong"}
    found, pairs = names(environment("10.16.1"), environment("11.4.0"), routes=("qdq_strong",))
    assert found[-1] == "vad-int8-auto-ragged-qdq_strong-single"
    assert pairs.only_baseline == ()


def test_two_installations_of_one_version_are_two_sides():
    one, other = environment("1.32.0", "onnxruntime"), environment("1.33.0", "onnxruntime")
    assert names(one, other)[0] == ["vad-fp32-single", "vad-fp16-single", "vad-int8-auto-ragged-single"]
