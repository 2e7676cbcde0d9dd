from __future__ import annotations

import pytest

from harness.gate.findings import Finding, overall
from harness.gate.stages import flagged, settled, unsettled

SLOW = Finding("a", "latency", "regression", "+9 %", "short", 1e-4)
WRONG = Finding("a", "accuracy", "regression", "-3 dB", "short", 1e-4)
FINE = Finding("a", "builds", "pass", "3 builds")


def second(finding, **changed):
    return Finding(**{**vars(finding), "stage": 2, **changed})


def word(first, again, of=None, alpha=0.01):
    final = settled(first, again, alpha)
    (one,) = (f for f in final if f.key == (of or first[0]).key)
    return one


def test_nothing_blocks_that_was_not_asked_again_and_found_again():
    assert settled([FINE], [], 0.01) == [FINE]
    assert word([SLOW], [second(SLOW, p=1e-3)]).blocks
    assert word([SLOW], [second(SLOW, p=0.02)]).word == "inconclusive"
    assert word([SLOW], [second(SLOW, word="pass", p=0.9)]).word == "pass"
    assert word([SLOW], []).word == "inconclusive"


def test_the_level_is_over_all_that_was_asked_again():
    """Holm: of two, the smaller p-value is held against half the level."""
    again = [second(SLOW, p=0.007), second(WRONG, p=0.007)]
    assert {one.word for one in settled([SLOW, WRONG], again, 0.01)} == {"inconclusive"}
    again = [second(SLOW, p=0.004), second(WRONG, p=0.009)]
    assert {one.word for one in settled([SLOW, WRONG], again, 0.01)} == {"regression"}


@pytest.mark.parametrize(
    ("first", "whole", "expected"),
    [
        # it was NaN at one length, and does not run at all now
        (WRONG, Finding("a", "accuracy", "regression", "does not run", "", 0.0, 2), "regression"),
        # the session of the second stage cannot be trusted
        (SLOW, Finding("a", "latency", "invalid", "A' differs", "traffic", 1.0, 2), "invalid"),
        (SLOW, Finding("a", "builds", "regression", "no longer builds", "", 0.0, 2), "inconclusive"),
    ],
)
def test_what_fails_as_a_whole_answers_for_each_place(first, whole, expected):
    final = word([FINE, first], [whole], first)
    assert final.word == expected
    assert whole.why in final.why


def test_what_the_second_stage_alone_counted_stands_against_the_first():
    gone = Finding("a", "builds", "regression", "no longer builds", "", 0.0, 2)
    final = settled([FINE, SLOW], [gone], 0.01)
    (builds,) = (one for one in final if one.aspect == "builds")
    assert (builds.word, builds.blocks) == ("inconclusive", False)
    assert "second stage alone" in builds.why
    sampled = second(WRONG, p=1e-9)
    assert overall(settled([FINE, SLOW], [second(SLOW, word="pass"), sampled], 0.01)) == "pass", "chosen by nobody"


def test_the_first_stage_alone_proves_nothing():
    assert [one.word for one in unsettled([FINE, SLOW])] == ["pass", "inconclusive"]
    assert flagged([FINE, SLOW, second(SLOW, aspect="size")]) == [SLOW]


def test_files_of_other_samples_have_other_names():
    first = Finding("a", "builds", "regression", "artefacts/0123456789abcdef0123.onnx is refused", "", 0.0)
    again = second(first, why="artefacts/ffff456789abcdef0123.onnx is refused")
    assert word([first], [again]).why.endswith("is refused; so did stage 1")
