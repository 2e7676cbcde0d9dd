from __future__ import annotations

import re

import pytest

from harness.errors import EnvironmentMissing, UsageError
from harness.spec.config import EnvironmentConfig
from harness.workers import Environment
from harness.workers.places import Place, by_host, by_place, check_one_place, elsewhere, missed, place_of

CUDA = {"provider": "CUDAExecutionProvider"}
DOWN = EnvironmentMissing("cannot be reached: it is off")


def environment(name, runtime="tensorrt", host="", **options):
    return Environment(name, "python", runtime, "1", options, host)


@pytest.mark.parametrize(
    ("one", "place"),
    [
        (environment("t"), Place("", "GPU 0")),
        (environment("r", "tensorrt-rtx"), Place("", "GPU 0")),
        (environment("t", device=1), Place("", "GPU 1")),
        (environment("o", "onnxruntime"), Place("", "CPU")),
        (environment("o", "onnxruntime", provider="CPUExecutionProvider"), Place("", "CPU")),
        (environment("o", "onnxruntime", **CUDA), Place("", "GPU 0")),
        (environment("t", host="ssh=gpu1"), Place("gpu1", "GPU 0")),
        (environment("t", host="ssh=me@gpu1//env:CUDA_VISIBLE_DEVICES=2,3"), Place("gpu1", "GPU 2")),
        (environment("t", host="ssh=gpu1//env:CUDA_VISIBLE_DEVICES=2,3", device=1), Place("gpu1", "GPU 3")),
    ],
)
def test_where_engines_run(one, place):
    assert place_of(one) == place


def test_environments_that_share_a_gpu_or_a_host():
    old, new = environment("8.6@gpu1", host="ssh=gpu1"), environment("10@gpu1", host="ssh=other@gpu1")
    second = environment("10b@gpu1", host="ssh=gpu1//env:CUDA_VISIBLE_DEVICES=1")
    away, near = environment("10@gpu2", host="ssh=gpu2"), environment("10")
    grouped = by_place([old, near, new, second, away])
    assert grouped == {
        Place("gpu1", "GPU 0"): [old, new],
        Place("", "GPU 0"): [near],
        Place("gpu1", "GPU 1"): [second],
        Place("gpu2", "GPU 0"): [away],
    }
    assert by_host([old, near, new, second, away]) == {"gpu1": [old, new, second], "": [near], "gpu2": [away]}


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ("", "ssh=gpu1", "different hosts: this machine against gpu1"),
        ("ssh=gpu2", "ssh=gpu1", "different hosts: gpu2 against gpu1"),
        ("ssh=gpu1//env:CUDA_VISIBLE_DEVICES=2", "ssh=gpu1", "different devices of gpu1: GPU 2 against GPU 0"),
    ],
)
def test_two_places_are_not_compared(one, other, said):
    with pytest.raises(UsageError, match=said) as caught:
        check_one_place(environment("old", host=one), environment("new", host=other), "old against new")
    assert caught.value.where == "old against new"
    assert re.search(r"on one host: install what gpu1 has on (gpu2|this machine), too|both on one: ", caught.value.todo)


@pytest.mark.parametrize("new", [environment("t"), environment("o", "onnxruntime"), environment("r", "tensorrt-rtx")])
def test_one_place_and_a_gpu_beside_its_cpu_are_compared(new):
    check_one_place(environment("old"), new, "old against new")


def test_nothing_is_asked_where_no_host_is_named(monkeypatch):
    monkeypatch.setattr("harness.workers.places.configured", None)
    assert elsewhere([EnvironmentConfig("here", "python3")]) == ([], {})


ENTRIES = [EnvironmentConfig("a", "python3", "ssh=gpu1"), EnvironmentConfig("b", "python3", "ssh=gpu2")]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", ["b@gpu2"]),
        ("tensorrt-*", ["b@gpu2"]),
        ("tensorrt-8@gpu*", ["b@gpu2"]),
        ("*@gpu1", []),
        ("tensorrt", []),
        ("tensorrt-8.6@gpu1", []),
    ],
)
def test_what_a_run_goes_without(pattern, names):
    found = missed(ENTRIES, {"b": DOWN}, pattern)
    assert [one.name for one in found] == names
    assert all("it is off" in one.reason for one in found)


@pytest.mark.parametrize("pattern", ["tensorrt@gpu2", "*@gpu2"])
def test_a_host_that_is_called_by_its_name_has_to_be_there(pattern):
    with pytest.raises(EnvironmentMissing, match="it is off"):
        missed(ENTRIES, {"b": DOWN}, pattern)
