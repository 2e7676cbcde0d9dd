from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.errors import UsageError
from harness.measure.arms import NULL, Design, Input, Question, null_of

from .conftest import arm

FEED = {"x": np.zeros(1, np.float32)}
ONE = (Input("8", 8, FEED),)


def test_settings_that_differ_are_refused_by_name_and_value():
    with pytest.raises(UsageError) as raised:
        Question(arm("old", threads=2), arm("new", provider="CPU"), ONE)
    for text in ("threads: 2 against 1", "provider: None against 'CPU'", "old against new"):
        assert text in str(raised.value)


def test_an_option_that_repeats_the_environments_is_no_difference():
    assert Question(arm("old"), arm("new", threads=1), ONE).candidate.settings == {"threads": 1}


@pytest.mark.parametrize("labels", [("same", "same"), (NULL, "new"), ("old", NULL)])
def test_labels_must_tell_arms_apart(labels):
    with pytest.raises(UsageError, match="two arms are called"):
        Question(arm(labels[0]), arm(labels[1]), ONE)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_weights_are_positive(weight):
    with pytest.raises(UsageError, match="weight is not positive"):
        Question(arm("old"), arm("new"), (Input("8", 8, FEED, weight),))


def test_no_input():
    with pytest.raises(UsageError, match="no input to time"):
        Question(arm("old"), arm("new"), ())


def test_the_null_control_is_the_baseline_in_all_but_its_label():
    baseline = replace(arm("old", threads=3), build=2)
    assert null_of(baseline) == replace(baseline, label=NULL)
    assert null_of(baseline).settings == baseline.settings


@pytest.mark.parametrize("looks", [(), (1, 4), (4, 4), (8, 4)])
def test_looks_grow_from_two(looks):
    with pytest.raises(UsageError, match="growing"):
        Design(looks=looks)


@pytest.mark.parametrize("wrong", [{"blocks": 0}, {"burst_least": 0}, {"burst_least": 5, "burst_most": 4}])
def test_a_design_measures_something(wrong):
    with pytest.raises(UsageError, match="at least one"):
        Design(**wrong)
