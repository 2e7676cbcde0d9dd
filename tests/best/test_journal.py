"""What was measured is kept; a budget is not exceeded by steps whose cost is known."""

from __future__ import annotations

import math

import pytest

from harness.best.journal import Budget, Journal, Over


def test_a_value_is_measured_once_also_by_another_process(tmp_path):
    path, made = tmp_path / "journal.jsonl", []

    def measure():
        made.append(1)
        return {"db": math.inf, "text": "a"}

    for journal in (Journal(path) for _ in range(2)):
        for _ in range(2):
            assert journal.value("few", "case", ("digest", 3), measure) == {"db": math.inf, "text": "a"}
    assert made == [1]
    Journal(path).value("few", "case", ("other", 3), measure)
    Journal(path).value("more", "case", ("digest", 3), measure)
    assert len(made) == 3


def test_a_line_that_a_crash_cut_short_costs_itself_alone(tmp_path):
    path = tmp_path / "journal.jsonl"
    first = Journal(path)
    for number in range(3):
        first.value("few", f"case {number}", (), lambda number=number: {"number": number})
    path.write_bytes(path.read_bytes()[:-9])
    second, asked = Journal(path), []
    for number in (2, 0, 1):
        second.value("few", f"case {number}", (), lambda number=number: asked.append(number) or {"number": number})
    assert asked == [2]
    third = Journal(path)
    assert [third.value("few", f"case {number}", (), dict)["number"] for number in range(3)] == [0, 1, 2]


def test_other_lines_are_passed_over(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('[]\n{"key": 3}\nnothing\n{"key": "k", "value": 7}\n')
    assert Journal(path).value("few", "case", (), lambda: {"number": 1}) == {"number": 1}


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def work(self, seconds):
        def step():
            self.now += seconds
            return seconds

        return step


def test_a_step_that_does_not_fit_is_not_begun():
    clock = Clock()
    budget = Budget(10.0, clock)
    assert budget.step("run", clock.work(4)) == 4
    assert budget.step("run", clock.work(4)) == 4
    with pytest.raises(Over):
        budget.step("run", clock.work(4))
    assert budget.step("short", clock.work(1)) == 1
    assert (budget.spent, budget.left) == (9.0, 1.0)


def test_a_rung_leaves_its_share_to_those_behind_it():
    clock = Clock()
    budget = Budget(10.0, clock)
    budget.step("few", clock.work(3), share=0.5)
    with pytest.raises(Over):
        budget.step("few", clock.work(3), share=0.5)
    budget.step("session", clock.work(3))


def test_over_is_over():
    clock = Clock()
    budget = Budget(1.0, clock)
    budget.step("long", clock.work(5))
    with pytest.raises(Over):
        budget.step("another", clock.work(0))


def test_a_line_that_another_search_is_writing_stays(tmp_path):
    path = tmp_path / "journal.jsonl"
    Journal(path).value("few", "one", (), lambda: {"number": 1})
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    other = Journal(path)
    assert path.read_bytes() == whole[:-9], "reading writes nothing"
    path.write_bytes(whole)
    other.value("few", "two", (), lambda: {"number": 2})
    third = Journal(path)
    assert [third.value("few", name, (), dict)["number"] for name in ("one", "two")] == [1, 2]
