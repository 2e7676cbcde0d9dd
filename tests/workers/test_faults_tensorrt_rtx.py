"""What can go wrong in builds of real TensorRT-RTX: its own crash, unsigned activations, a killed builder."""

from __future__ import annotations

import subprocess

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.errors import BuildFailed, WorkerDied, WorkerHung
from harness.workers import Worker, Workers, find_environments, store
from tests.builders import kill_in_the_middle
from tests.fake_tensorrt import models

PROFILES = {"profiles": [{"x": [[1, 4, 4], [1, 4, 64], [1, 4, 512]]}]}
DLA = """
import tensorrt_rtx
genuine = tensorrt_rtx.OnnxParser
def with_flag(network, log):
    parser = genuine(network, log)
    parser.set_flag(tensorrt_rtx.OnnxParserFlag.ENABLE_UINT8_AND_ASYMMETRIC_QUANTIZATION_DLA)
    return parser
tensorrt_rtx.OnnxParser = with_flag
"""


def environment_of(python, folder):
    (found,) = (one for one in find_environments(folder, [str(python)]) if one.runtime == "tensorrt-rtx")
    return found


@pytest.fixture
def environment(rtx_python, tmp_path):
    return environment_of(rtx_python, tmp_path)


@pytest.fixture
def with_dla_flag(rtx_python, tmp_path):
    """The same library, whose parser has the flag that its messages advise."""
    folder = tmp_path / "dla"
    subprocess.run([rtx_python, "-m", "venv", "--without-pip", folder], check=True)
    where = [rtx_python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    beside = subprocess.run(where, check=True, capture_output=True, text=True).stdout.strip()
    (packages,) = folder.glob("lib/python3*/site-packages")
    (packages / "dla_flag.py").write_text(DLA)
    (packages / "beside.pth").write_text(f"{beside}\nimport dla_flag\n")
    return environment_of(folder / "bin" / "python", tmp_path)


@pytest.fixture
def quantized(tmp_path):
    def make(zero, dtype):
        path = tmp_path / f"{dtype}-{zero}.onnx"
        path.write_bytes(models.quantized(zero, dtype))
        return path

    return make


def raw(worker, path):
    """A build without our check of the file."""
    return worker.call("build", worker.put(path), PROFILES, on=str(path))


@pytest.mark.parametrize("zero", [0, 128])
def test_unsigned_activations_are_refused_with_the_node_and_what_to_do(environment, quantized, zero):
    with Worker(environment, deadline_s=60) as worker:
        with pytest.raises(BuildFailed, match="QuantizeLinear 'xq'") as caught:
            worker.build(quantized(zero, "uint8"), PROFILES)
        assert "qdq-s8s8" in caught.value.todo
        assert "another network" in caught.value.detail
        assert worker.build(quantized(0, "int8"), PROFILES)[0]["bytes"] > 0


def test_why_they_are_refused(environment, quantized, tmp_path):
    """A zero point is refused in words that advise the flag which crashes; without one, uint8 becomes int8."""
    with Worker(environment, deadline_s=60) as worker:
        with pytest.raises(BuildFailed, match="parser refuses") as caught:
            raw(worker, quantized(128, "uint8"))
        assert "ENABLE_UINT8_AND_ASYMMETRIC_QUANTIZATION_DLA" in caught.value.detail
        facts, signed = raw(worker, quantized(0, "uint8")), raw(worker, quantized(0, "int8"))
        assert any("Defaulting to INT8" in line for line in facts["warnings"])
        assert facts["bytes"] == signed["bytes"]
        model = onnx.load(quantized(0, "uint8"))
        for node in model.graph.node[:2]:  # without a zero point QuantizeLinear makes uint8, too
            del node.input[2]
        onnx.save(model, tmp_path / "none.onnx")
        assert raw(worker, tmp_path / "none.onnx")["warnings"] == []
        with pytest.raises(BuildFailed, match="unsigned type"):
            worker.build(tmp_path / "none.onnx", PROFILES)


def test_the_flag_that_its_messages_advise_ends_the_process_and_the_next_build_works(
    with_dla_flag, quantized, conv, cache
):
    with Workers(deadline_s=60) as workers:
        worker = workers.get(with_dla_flag)
        path = quantized(128, "uint8")
        with pytest.raises(WorkerDied, match="SIGSEGV") as caught:
            raw(worker, path)
        assert str(path) in caught.value.where
        assert "the library crashed" in caught.value.todo
        assert "in parse_onnx" in caught.value.detail
        assert not (cache / "engines").exists()
        replaced = workers.get(with_dla_flag)
        assert replaced.build(conv, PROFILES)[0]["bytes"] > 0
    assert not list((cache / "scratch").iterdir())


def test_a_damaged_engine_is_built_again(environment, conv):
    with Worker(environment, deadline_s=60) as worker:
        _, engine = worker.build(conv, PROFILES)
        whole = engine.read_bytes()
        engine.write_bytes(whole[:1000])
        facts, again = worker.build(conv, PROFILES)
        assert facts["cached"] is False
        assert any("built again" in line for line in facts["warnings"])
        assert store.file_digest(again) == again.name
        assert worker.build(conv, PROFILES)[0]["cached"] is True


@pytest.fixture
def deep(tmp_path, save):
    """Forty convolutions, each of its own width: seconds of building."""
    random = np.random.default_rng(0)
    widths = [4, *(8 * (n % 7 + 8) for n in range(40))]
    names = ["x", *(f"h{n}" for n in range(39)), "y"]
    weights = {f"w{n}": random.normal(size=(widths[n + 1], widths[n], 3)).astype(np.float32) for n in range(40)}
    nodes = [helper.make_node("Conv", [names[n], f"w{n}"], [names[n + 1]], pads=[1, 1]) for n in range(40)]
    ends = {"x": (np.float32, (1, 4, "L"))}, {"y": (np.float32, (1, widths[-1], "L"))}
    return save(tmp_path / "deep.onnx", nodes, *ends, weights)


def test_a_killed_builder_leaves_nothing_and_the_next_one_builds(environment, deep, cache):
    with Worker(environment, deadline_s=60) as worker:
        killer = kill_in_the_middle(worker, cache)
        with pytest.raises(WorkerDied, match="SIGKILL"):
            worker.build(deep, PROFILES)
        killer.join()
        assert not list((cache / "engines").glob("*"))
        worker.restart()
        facts, engine = worker.build(deep, PROFILES)
        assert facts["cached"] is False
        assert engine.stat().st_size == facts["bytes"]
    assert not list((cache / "scratch").iterdir())


def test_a_build_over_the_deadline_is_ended(environment, deep, conv, cache):
    with Workers(deadline_s=60) as workers:
        worker = workers.get(environment)
        worker.describe()
        with pytest.raises(WorkerHung, match="killed"):
            worker.build(deep, PROFILES, deadline_s=0.1)
        assert not list((cache / "engines").glob("*"))
        assert workers.get(environment).build(conv, PROFILES)[0]["bytes"] > 0
    assert not list((cache / "scratch").iterdir())
