from __future__ import annotations

import datetime as dt

import pytest

from harness.errors import ConfigError, UsageError
from harness.gate.allowed import Allowance, apply, not_found, parse, read
from harness.gate.findings import BLOCKING, Finding, exit_code, overall

TODAY = dt.date(2026, 11, 23)
LATER, EARLIER = dt.date(2027, 1, 31), dt.date(2026, 11, 22)
SLOW = Finding("text-int8-auto-ragged-single", "latency", "regression", "+9 %", "traffic", 0.0)
WRONG = Finding("text-int8-auto-ragged-single", "accuracy", "regression", "-3 dB", "short", 0.0)


def test_what_is_allowed_does_not_block_and_says_why():
    allowed, other = apply([SLOW, WRONG], [Allowance("text-*", "a new tokenizer", LATER, "latency")], TODAY)
    assert (allowed.word, allowed.blocks, other.word) == ("allowed", False, "regression")
    assert "allowed until 2027-01-31: a new tokenizer" in allowed.why
    assert overall([allowed]) == "pass"
    assert exit_code(overall([allowed, other])) == 1


def test_an_allowance_that_has_run_out_is_named():
    (one,) = apply([SLOW], [Allowance("text-*", "soon mended", EARLIER)], TODAY)
    assert (one.word, one.blocks) == ("regression", True)
    assert "it was allowed until 2026-11-22: soon mended" in one.why


def test_what_does_not_block_is_left_as_it_is():
    minor = Finding("text-int8-auto-ragged-single", "size", "minor", "+12 %")
    assert apply([minor], [Allowance("*", "all", LATER)], TODAY) == [minor]


def test_what_is_allowed_and_not_found_is_told():
    found = [
        Allowance("text-*", "by the first", LATER, "latency"), Allowance("text-int8-*", "by the first, too", LATER),
        Allowance("text-*", "has run out", EARLIER, "accuracy"),
    ]  # fmt: skip
    lost = [
        Allowance("tekst-*", "mistyped", LATER), Allowance("text-*", "mended", LATER, "coverage"),
        Allowance("vad-*", "only minor", LATER),
    ]  # fmt: skip
    minor = Finding("vad-fp16-single", "size", "minor", "+12 %")
    before = [SLOW, WRONG, minor]
    after = apply(before, [*lost, *found], TODAY)
    assert [one.word for one in after] == ["allowed", "allowed", "minor"]
    assert not_found(before, [*lost, *found]) == not_found(after, [*lost, *found]) == lost
    assert not_found([], found) == found
    assert str(lost[1]) == "text-* coverage until 2027-01-31: mended"
    assert str(lost[0]) == "tekst-* until 2027-01-31: mistyped"


def test_the_file(tmp_path):
    file = tmp_path / "allow.toml"
    file.write_text('[[allow]]\ncase = "vad-*"\nreason = "known"\nuntil = 2027-01-31\naspect = "latency"\n')
    assert read(file) == [Allowance("vad-*", "known", LATER, "latency")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[[allow]]\ncase = "a"\nreason = "b"\n', "until"),
        ('[[allow]]\ncase = "a"\nreason = " "\nuntil = 2027-01-31\n', "without a reason"),
        ('[[allow]]\ncase = "a"\nreason = "b"\nuntil = "soon"\n', "date"),
        ('[[allows]]\ncase = "a"\n', "allows"),
        *(
            (f'[[allow]]\ncase = "a"\nreason = "b"\nuntil = 2027-01-31\naspect = "{aspect}"\n', f"'{aspect}'")
            for aspect in ("build", "Latency", "size", "warnings")
        ),
        ("[[allow]\n", "allow.toml"),
    ],
)
def test_a_file_is_read_strictly(tmp_path, text, says):
    file = tmp_path / "allow.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read(file)


@pytest.mark.parametrize("aspect", ["", *sorted(BLOCKING)])
def test_every_aspect_that_blocks_can_be_allowed(tmp_path, aspect):
    file = tmp_path / "allow.toml"
    file.write_text(f'[[allow]]\ncase = "*"\nreason = "known"\nuntil = 2027-01-31\naspect = "{aspect}"\n')
    finding = Finding("a", aspect or "builds", "regression", "why")
    assert [one.word for one in apply([finding], read(file), TODAY)] == ["allowed"]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "none.toml")


def test_the_command_line_allows_for_a_day():
    assert parse("vad-*=a known spike", TODAY) == Allowance("vad-*", "a known spike", TODAY)
    for text in ("vad-*", "=why", "vad-*= "):
        with pytest.raises(UsageError, match="is not CASE=reason"):
            parse(text, TODAY)
