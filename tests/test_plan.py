"""Which environments a pytest run takes when nothing is said."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from harness.plan import Plan
from harness.workers import Environment, environments

GPU = {"can_run": True, "can_build": True}
NONE = {"can_run": False, "can_build": False, "why": "no GPU"}
ONNX = Environment("onnxruntime-1.32.0-cpu", sys.executable, "onnxruntime", "1.32.0")


@pytest.fixture
def chosen(tmp_path, monkeypatch):
    """The names that are chosen where some environments are found beside ONNX Runtime's."""

    def choose(*found):
        options = {"pythons": [], "--require": [], "--runtime": []}
        config = SimpleNamespace(
            getoption=options.__getitem__, rootpath=tmp_path, invocation_params=SimpleNamespace(dir=tmp_path)
        )
        monkeypatch.setattr(environments, "find_environments", lambda *_: [*found, ONNX])
        return list(Plan(config).environments)

    return choose


def tensorrt(python, **abilities):
    return Environment("tensorrt-10.3.0", python, "tensorrt", "10.3.0", **abilities)


def test_the_tensorrt_of_the_interpreter_that_runs_pytest_is_chosen(chosen):
    assert chosen(tensorrt(sys.executable, **GPU)) == ["tensorrt-10.3.0", ONNX.name]


def test_that_of_another_interpreter_is_not_chosen_unasked(chosen):
    assert chosen(tensorrt("/elsewhere/python", **GPU)) == [ONNX.name]


def test_one_without_a_gpu_is_passed_over(chosen):
    assert chosen(tensorrt(sys.executable, **NONE)) == [ONNX.name]


def test_of_several_tensorrt_rtx_the_newest_is_chosen_and_those_that_are_named(chosen):
    """Older ones refuse what newer ones build: they are for who asks for them."""
    versions = ("1.4.0.76", "1.10.0.1", "1.7.1.116")
    found = [Environment(f"tensorrt-rtx-{v}", f"/{v}/python", "tensorrt-rtx", v, can_run=False) for v in versions]
    assert chosen(*found) == ["tensorrt-rtx-1.10.0.1", ONNX.name]
    own = Environment("tensorrt-rtx-1.4.0.76", sys.executable, "tensorrt-rtx", "1.4.0.76", can_run=False)
    assert chosen(own, *found[1:]) == ["tensorrt-rtx-1.4.0.76", "tensorrt-rtx-1.10.0.1", ONNX.name]
