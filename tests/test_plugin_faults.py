"""`pytest suites/` over two models; the first one meets a fault of the runtime and fails in words, the other passes."""

from __future__ import annotations

import json

import onnx
import pytest

from tests.fake_tensorrt import interpreter, resettle

FAKE = "tensorrt-8.6.1"
CONFIG = """
deadline_s = {deadline_s}

[environments]
gpu = "{python}"

[[models]]
path = "ill.onnx"
axes = ["x:2=length"]
range = "16:{longest}"
data = "{data}"

[[models]]
path = "fine.onnx"
axes = ["x:2=length"]
range = "16:256"
data = "{data}"
"""
OPTIONS = ("--routes", "cache", "--methods", "minmax", "--layouts", "single")


@pytest.fixture(scope="module")
def gpu(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu") / "venv"
    interpreter("8.6", folder)
    return folder


@pytest.fixture
def run(suites, gpu, own_model, own_data):
    """Run builds and accuracy over both models, in a cache of the test's own; what pytest said, and the records."""
    suites.forget()
    fine = onnx.load(own_model)
    for name in ("fine", "ill"):
        fine.graph.name = name
        onnx.save(fine, suites.folder / f"{name}.onnx")

    def run(precisions="fp16,int8", deadline_s=60, longest=256, **settings):
        resettle(gpu, **{"memory_bytes": 8 << 30, "build_seconds": 0.0, "crash": "", "victim": "ill", **settings})
        text = CONFIG.format(python=gpu / "bin" / "python", data=own_data, deadline_s=deadline_s, longest=longest)
        (suites.folder / "harness.toml").write_text(text)
        words = ["--runtime", FAKE, "--precision", precisions, *OPTIONS]
        done = suites.quickly("-k", "test_build or test_corpus", *words)
        (file,) = suites.new_runs()
        return done, [json.loads(line) for line in file.read_text().splitlines()]

    yield run
    (suites.folder / "harness.toml").unlink()


def verdicts(records, model):
    """(kind, precision) -> verdict of every record of a model."""
    mine = [one for one in records if one["kind"] != "run" and one["fields"]["model"] == model]
    return {(one["kind"], one["fields"]["precision"]): one["verdict"] for one in mine}


def failed(records):
    return [one for one in records if one["verdict"] == "failed"]


def test_a_crash_in_a_build_fails_its_cases_and_the_next_run_builds_them(run, suites):
    done, records = run(crash="build")
    assert done.code == 1
    assert set(verdicts(records, "fine").values()) == {"pass", "unbounded"}
    assert verdicts(records, "ill") == {
        (kind, precision): "failed" for kind in ("build", "accuracy") for precision in ("fp16", "int8")
    }
    for one in failed(records):
        text = one["values"]["error"]
        assert text.startswith(f"WorkerDied: {one['case']}: tensorrt-8.6.1, build(")
        assert "ended with signal SIGSEGV" in text
        assert "-> " in text
    assert done.text.count("not tried again in this run") == 2  # one test of each precision tried it
    assert "Segmentation fault" in done.text
    assert "Traceback" not in done.text
    assert "4 failed, 4 passed" in done.text
    assert "serve.py" not in done.text
    rows = [line.split() for line in done.text.splitlines() if line.startswith(("fp16 ", "minmax-ragged-cache "))]
    assert [row[-1] for row in rows] == ["failed", "failed", "unbounded", "unbounded"]
    assert not list((suites.cache / "scratch").iterdir())

    done, records = run()
    assert done.code == 0, done.text
    cached = {(one["fields"]["model"], *one["values"]["cached"]) for one in records if one["kind"] == "build"}
    # test_corpus comes first and builds; of the crashes nothing was kept
    assert cached == {("fine", True), ("ill", True)}
    assert not failed(records)


def test_a_model_over_the_memory_limit_fails_alone(run):
    done, records = run(memory_bytes=6 << 20, longest=1 << 20)
    assert done.code == 1
    assert set(verdicts(records, "fine").values()) == {"pass", "unbounded"}
    assert set(verdicts(records, "ill").values()) == {"failed"}
    for one in failed(records):
        assert "RunFailed: ill-tensorrt-8.6.1-" in one["values"]["error"]
        assert "is there memory left on the GPU?" in one["values"]["error"]
        assert "OutOfMemory" in one["values"]["error"]
    assert "Traceback" not in done.text


def test_a_build_that_hangs_costs_its_deadline_once(run):
    done, records = run("fp16", deadline_s=3, build_seconds=600)
    assert done.code == 1
    assert set(verdicts(records, "fine").values()) == {"pass", "unbounded"}
    assert set(verdicts(records, "ill").values()) == {"failed"}
    said = [one["values"]["error"] for one in failed(records)]
    assert all("WorkerHung" in text and "no answer within 3 s" in text for text in said)
    assert ["not tried again in this run" in text for text in said] == [False, True]


def test_a_run_that_loses_the_gpus_context_fails_its_cases_only(run):
    """In that process nothing would work afterwards."""
    done, records = run(crash="run")
    assert done.code == 1
    assert set(verdicts(records, "fine").values()) == {"pass", "unbounded"}
    assert {kind: word for (kind, _), word in verdicts(records, "ill").items()} == {
        "build": "pass",
        "accuracy": "failed",
    }
    for one in failed(records):
        assert "RunFailed: tensorrt-8.6.1" in one["values"]["error"]
        assert "an illegal memory access was encountered" in one["values"]["error"]
        assert "dmesg" in one["values"]["error"]
    assert "Traceback" not in done.text
