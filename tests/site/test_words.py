from __future__ import annotations

from harness.site.words import SIGNS, level, rank, worst


def test_the_worst_first():
    assert worst(["pass", "inconclusive", "failed", "faster"]) == "failed"
    assert worst(["pass", "unknown"]) == "unknown"
    assert worst([]) == ""


def test_a_word_nobody_knows_is_not_good():
    assert level("splendid") == "open"
    assert rank("splendid") < rank("pass")
    assert worst(["pass", "splendid"]) == "splendid"


def test_levels_have_signs_of_their_own():
    assert [level(word) for word in ("below bounds", "slower", "faster", "compared", "")] == [
        "bad", "open", "good", "plain", "plain",
    ]  # fmt: skip
    assert len(set(SIGNS.values())) == len(SIGNS)
