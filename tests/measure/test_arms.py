from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.errors import UsageError
from harness.measure.arms import NULL, Design, Input, Question, null_of

from .conftest import ENVIRONMENT, arm

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
def test_some_weight_is_positive_and_none_negative(weight):
    with pytest.raises(UsageError, match="weight is negative or NaN, or all are 0"):
        Question(arm("old"), arm("new"), (Input("8", 8, FEED, weight),))


def test_an_input_may_be_measured_without_being_counted():
    inputs = (Input("8", 8, FEED, 0.0), Input("9", 9, FEED))
    assert Question(arm("old"), arm("new"), inputs).inputs == inputs


def test_inputs_are_told_apart():
    with pytest.raises(UsageError, match="two inputs have one label"):
        Question(arm("old"), arm("new"), (Input("8", 8, FEED), Input("8", 9, FEED)))


def test_sides_are_built_equally_often():
    rebuilt = replace(arm("old"), rebuilt=(Path("again"),))
    with pytest.raises(UsageError, match="2 builds against 1"):
        Question(rebuilt, arm("new"), ONE)


@pytest.mark.parametrize(
    ("baseline", "candidate", "said"),
    [
        ("", "ssh=gpu1", "different hosts: this machine against gpu1"),
        ("ssh=me@gpu1", "ssh=me@gpu2", "different hosts: gpu1 against gpu2"),
        ("ssh=gpu1", "ssh=-p 2222 gpu1", "different hosts: gpu1 against gpu1-2222"),
        ("ssh=gpu1", "ssh=gpu1//env:CUDA_VISIBLE_DEVICES=1", "different devices of gpu1: GPU 0 against GPU 1"),
    ],
)
def test_both_sides_run_on_one_host_and_gpu(baseline, candidate, said):
    one, other = (replace(ENVIRONMENT, runtime="tensorrt", host=host) for host in (baseline, candidate))
    with pytest.raises(UsageError, match=said) as caught:
        Question(replace(arm("old"), environment=one), replace(arm("new"), environment=other), ONE)
    assert "old against new" in caught.value.where


@pytest.mark.parametrize("candidate", ["ssh=gpu1", "ssh=other@gpu1", "ssh=gpu1//env:LD_LIBRARY_PATH=/opt/trt10/lib"])
def test_two_environments_of_one_host_are_compared(candidate):
    one, other = (replace(ENVIRONMENT, runtime="tensorrt", host=host) for host in ("ssh=gpu1", candidate))
    assert Question(replace(arm("old"), environment=one), replace(arm("new"), environment=other), ONE)


def test_one_process_has_one_environment():
    other = replace(ENVIRONMENT, name="fake-2")
    with pytest.raises(UsageError, match="fake-1 and fake-2 in one process"):
        Question(replace(arm("old"), process="p"), replace(arm("new"), process="p", environment=other), ONE)


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"contexts": 0}])
def test_a_run_serves_something(wrong):
    with pytest.raises(UsageError, match="give 1 or more"):
        replace(arm("old"), **wrong)


def test_which_file_serves_which_input_in_which_build():
    one = replace(arm("old"), artefact=Path("a"), rebuilt=({"8": Path("b8"), "9": Path("b9")},))
    assert (one.builds, one.file(0, "8"), one.file(1, "8"), one.file(1, "9")) == (2, Path("a"), Path("b8"), Path("b9"))
    with pytest.raises(UsageError, match="no engine for input '10'"):
        one.file(1, "10")


@pytest.mark.parametrize(
    ("options", "contexts", "said"),
    [
        ({}, 1, True),
        ({"threads": 2}, 1, False),
        ({"spinning": True}, 1, False),
        ({"provider": "CUDAExecutionProvider"}, 1, False),
        ({}, 2, False),
    ],
)
def test_which_arms_compute_on_one_thread(options, contexts, said):
    one = replace(arm("old", **options), contexts=contexts)
    assert one.on_one_thread is said
    without = {"environment": replace(ENVIRONMENT, options={}), "options": options}
    assert replace(one, **without).on_one_thread is False  # nobody knows how a runtime threads
    without["environment"] = replace(ENVIRONMENT, options={}, runtime="onnxruntime")
    assert replace(one, **without).on_one_thread is said


def test_no_input():
    with pytest.raises(UsageError, match="no input to time"):
        Question(arm("old"), arm("new"), ())


def test_the_null_control_is_the_baseline_in_all_but_its_label():
    baseline = replace(arm("old", threads=3), rebuilt=(Path("again"),), process="shared")
    assert null_of(baseline) == replace(baseline, label=NULL, process="")
    assert null_of(baseline).settings == baseline.settings


@pytest.mark.parametrize("looks", [(), (1, 4), (4, 4), (8, 4)])
def test_looks_grow_from_two(looks):
    with pytest.raises(UsageError, match="growing"):
        Design(looks=looks)


@pytest.mark.parametrize(
    "wrong", [{"blocks": 0}, {"burst_least": 0}, {"burst_least": 5, "burst_most": 4}, {"warm_runs": 0}]
)
def test_a_design_measures_something(wrong):
    with pytest.raises(UsageError, match="at least one"):
        Design(**wrong)


@pytest.mark.parametrize("name", ["burst_ms", "warm_ms", "budget_s"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_designs_times_are_times(name, value):
    with pytest.raises(UsageError, match=f"{name} = "):
        Design(**{name: value})


def test_every_build_serves_every_input():
    rebuilt = replace(arm("old"), rebuilt=({"9": Path("b")},))
    with pytest.raises(UsageError, match="no engine for input '8'"):
        Question(rebuilt, replace(arm("new"), rebuilt=(Path("c"),)), ONE)
