"""What two words on a command line name."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fixtures.catalogue import ENTRIES
from harness.errors import EnvironmentMissing, UsageError
from harness.gate.asked import Asked, environment, matrix_of, seconds, sides
from harness.gate.recorded import Recorded
from harness.spec.config import find_config
from harness.spec.latency import LatencyConfig, LatencySettings
from harness.spec.matrix import Matrix
from harness.workers import Environment
from tests.fake_tensorrt import interpreter
from tests.gate.yard import OLD


def stand_in(version):
    return Environment(f"tensorrt-{version}", "python", "tensorrt", version)


@pytest.fixture(scope="module")
def pythons(tmp_path_factory):
    """Two interpreters with one version."""
    folder = tmp_path_factory.mktemp("twice")
    return [interpreter("8.5.3.1", folder / name) for name in ("first", "second")]


@pytest.fixture
def configured(pythons, tmp_path, monkeypatch):
    """A configuration with both, and options for all TensorRT."""
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))
    names = "".join(f"{name} = {json.dumps(str(path))}\n" for name, path in zip("ab", pythons, strict=True))
    (tmp_path / "harness.toml").write_text(f"[environments]\n{names}[options.tensorrt]\nworkspace_bytes = 77000000\n")
    return find_config(tmp_path)


def test_one_version_in_two_interpreters_is_two_sides_by_name_or_path(configured, pythons):
    for words in (("a:tensorrt", "b:tensorrt"), (f"{pythons[0]}:tensorrt", f"{pythons[1]}:tensorrt-8")):
        old, new = sides(configured, *words, "here")
        assert (old.name, new.name) == (OLD, f"{OLD}@second")
        assert (old.python, new.python) == tuple(map(str, pythons))
        assert list(Asked(old, new).environments) == [old.name, new.name], "one would stand for both"
        assert old.options == new.options != {}


def test_by_a_path_that_interpreter_is_meant_and_no_other_with_the_same_runtime(configured, pythons):
    old, new = sides(configured, "onnxruntime", f"{pythons[0]}:onnxruntime", "here")
    assert (old.python, new.python) == (sys.executable, str(pythons[0]))
    assert new.name == f"{old.name}@first"


def test_by_the_name_of_a_runtime_an_interpreter_of_the_configuration_is_found(configured, pythons):
    with pytest.raises(UsageError, match="are one environment") as caught:
        sides(configured, "a:tensorrt", OLD, "here")
    assert caught.value.todo.endswith("a second interpreter that has it, by its path: a:tensorrt old/bin/python")


def test_a_version_alone_is_of_whichever_runtime_has_it(configured):
    for version in ("8", "8.5", "8.5.3.1"):
        assert environment(configured, version, "here").name == OLD
    with pytest.raises(EnvironmentMissing, match=r"no runtime matches '8\.50'") as caught:
        environment(configured, "8.50", "here")
    assert caught.value.todo.endswith("that has it is named by its path in place of the name")


def test_two_runtimes_are_no_upgrade(configured):
    with pytest.raises(UsageError, match="are different runtimes"):
        sides(configured, "a:tensorrt", "b:onnxruntime", "here")


def test_what_can_do_nothing_here_is_refused_with_the_reason(monkeypatch, tmp_path):
    idle = Environment("tensorrt-8.5", "p", "tensorrt", "8.5", can_run=False, can_build=False, why="there is no GPU")
    monkeypatch.setattr("harness.gate.asked.of_interpreter", lambda _: [idle])
    with pytest.raises(UsageError, match="there is no GPU"):
        environment(find_config(tmp_path), "./python", "here")


def test_two_hosts_are_refused(monkeypatch):
    found = {"a": Environment("tensorrt-8.5", "p", "tensorrt", "8.5"),
             "b": Environment("tensorrt-8.6@gpu1", "p", "tensorrt", "8.6", host="ssh=gpu1")}  # fmt: skip
    monkeypatch.setattr("harness.gate.asked.environment", lambda _, text, __: found[text])
    with pytest.raises(UsageError, match="run on different hosts: this machine against gpu1"):
        sides(None, "a", "b", "here")


VAD = {"vad": ENTRIES["vad"]}


def test_what_shares_no_case_is_refused():
    int8 = Matrix(precisions=("int8",), layouts=("single",))
    asked = Asked(stand_in("10.16.1"), stand_in("11.4.0"))
    with pytest.raises(UsageError, match="share no case"):
        asked.pairs(int8, VAD)
    assert len(asked.pairs(Matrix(layouts=("single",)), VAD).both) == 2
    empty = Recorded("r", stand_in("8.5"), builds={"vad-other-case": {}})
    with pytest.raises(UsageError, match=r"none of the 1 case\(s\)"):
        Asked(empty.environment, stand_in("8.6"), empty).pairs(Matrix(precisions=("fp32",), layouts=("single",)), VAD)


def test_a_recorded_candidate_wants_a_recorded_baseline(tmp_path):
    with pytest.raises(UsageError, match="name two records"):
        Asked.read(find_config(tmp_path), Path(), "a", "record:newest", "here")


def test_builds_and_budgets():
    assert [matrix_of(Matrix(builds=n), thorough=t).builds for n, t in ((1, False), (5, False), (1, True))] == [3, 5, 8]
    assert matrix_of(Matrix(), thorough=False).compared == ()
    assert [seconds(text) for text in ("90", "90s", "1.5m", "2h")] == [90, 90, 90, 7200]
    for text in ("0", "soon", "-1m", "1d"):
        with pytest.raises(UsageError, match="is no time"):
            seconds(text)


@pytest.mark.parametrize(("family", "builds"), [("tensorrt", 3), ("tensorrt-rtx", 1), ("onnxruntime", 1)])
def test_settings_are_what_is_then_done(family, builds):
    """Builds where a second one is another, and the margins that hold for each model there."""
    over = (("vad",), (f"{family}-2",), LatencySettings(caught=0.2, launches=9))
    latency = LatencyConfig(LatencySettings(tolerated=0.01), (over,))
    old, new = (Environment(f"{family}-{n}", "python", family, str(n)) for n in (1, 2))
    found = Asked(old, new).settings(matrix_of(Matrix(), thorough=False), ["vad", "wave"], latency, 60.0)
    assert (found.budget_s, found.builds, found.launches) == (60.0, builds, 9)
    assert {key: (one.tolerated, one.caught) for key, one in found.latency.items()} == {
        "vad": (0.01, 0.2), "wave": (0.01, 0.05),
    }  # fmt: skip
