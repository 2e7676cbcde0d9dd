"""What a machine with a GPU wrote, read here; written by the program that runs there, on the stand-in."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from harness.corpus.own import own_entry
from harness.errors import DataError, UsageError
from harness.explain.dump import read_dumps
from harness.mixed.assignment import Assignment
from harness.mixed.plan import Plan, keep
from harness.modelfile import prepare, read_facts
from harness.spec.calibration import Dialect
from harness.trt_forms import for_parser
from tests.fake_tensorrt import interpreter

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "gpu" / "layers.py"


@pytest.fixture
def project(cache, file, tmp_path, monkeypatch):
    (tmp_path / "harness.toml").write_text(
        f'[[models]]\npath = "{file.name}"\naxes = ["x:2=frames"]\nrange = "4:16:64"\n'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def jobs(project, file):
    """FP32 and FP16 of the small model, and one that cannot be built."""
    folder = project / "jobs"
    folder.mkdir()
    model = own_entry(str(file), axes=["x:2=frames"], range_="4:16:64", data=None).model
    prepared = prepare(file, model)
    formed = for_parser(prepared, "tensorrt", "8.6.0", model, read_facts(prepared))
    (folder / "small.onnx").write_bytes(formed.read_bytes())
    np.savez(folder / "small-10.npz", x=np.ones((1, 8, 10), np.float32))
    profiles = [{"x": [[1, 8, 4], [1, 8, 16], [1, 8, 64]]}]
    lengths = [
        {"length": 10, "shapes": {"x": [1, 8, 10]}, "dtypes": {"x": "float32"}, "feeds": "small-10.npz"},
        {"length": 20, "shapes": {"x": [1, 8, 20]}, "dtypes": {"x": "float32"}},
    ]
    base = {"runtime": "tensorrt", "version": "8.6.0", "files": {}, "lengths": lengths, "onnx": "small.onnx"}
    made = [
        {**base, "case": "small-tensorrt-8.6.0-fp32-single", "build": {"profiles": profiles, "flags": ["-TF32"]}},
        {**base, "case": "small-tensorrt-8.6.0-fp16-single", "build": {"profiles": profiles, "flags": ["FP16"]}},
        {**base, "case": "small-tensorrt-8.6.0-int8-mse-ragged-single", "build": {"profile": "unknown"}},
    ]
    (folder / "jobs.json").write_text(json.dumps(made))
    return folder


def test_there_and_back(jobs, tmp_path):
    python, out = interpreter("8.6", tmp_path / "fake"), tmp_path / "layers.jsonl"
    command = [str(python), str(PROGRAM), "run", str(jobs), str(out), "--repeats", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert ["failed" in one for one in lines] == [False, False, False, False, True]
    assert "unknown option 'profile'" in lines[-1]["failed"]

    fp32, fp16 = read_dumps([out])
    assert [table.length for table in fp32.tables] == [10, 20]
    assert fp32.baseline == ()
    assert [table.case for table in fp16.baseline] == ["small-tensorrt-8.6.0-fp32-single"] * 2
    (conv,) = (layer for layer in fp16.tables[1].layers if layer.nodes == ("conv",))
    assert (conv.precision, conv.operations) == ("fp16", 2 * 16 * 8 * (3 * 20 - 2)), "the model was looked up here"
    assert fp16.unit == "frames"

    again = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert again.stdout.count("small-tensorrt-8.6.0-fp") == 0, "what is there is not built again"


@pytest.fixture
def hanging(jobs, tmp_path):
    """An interpreter whose builds of a graph of another name take ten minutes, and a job of such a graph, first."""
    model = onnx.load(jobs / "small.onnx")
    model.graph.name = "slow"
    onnx.save(model, jobs / "slow.onnx")
    made = json.loads((jobs / "jobs.json").read_text())
    slow = {**made[0], "case": "slow-tensorrt-8.6.0-fp32-single", "onnx": "slow.onnx"}
    (jobs / "jobs.json").write_text(json.dumps([slow, made[0]]))
    return lambda **how: interpreter("8.6", tmp_path / "fake", victim="slow", **how)


@pytest.mark.parametrize(
    ("how", "said"),
    [({"build_seconds": 600.0}, "no end within 5 s"), ({"crash": "build"}, "the process ended by itself")],
)
def test_a_case_that_hangs_or_crashes_costs_itself_alone(hanging, jobs, tmp_path, how, said):
    out = tmp_path / "layers.jsonl"
    command = [str(hanging(**how)), str(PROGRAM), "run", str(jobs), str(out), "--repeats", "3", "--deadline", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    first, *others = [json.loads(line) for line in out.read_text().splitlines()]
    assert (first["case"], said in first["failed"]) == ("slow-tensorrt-8.6.0-fp32-single", True), first
    assert [(one["case"], one["length"]) for one in others] == [
        ("small-tensorrt-8.6.0-fp32-single", 10),
        ("small-tensorrt-8.6.0-fp32-single", 20),
    ]


def test_mixed_stands_beside_plain_where_there_is_a_plan(jobs, tmp_path):
    folder = tmp_path / "prepared"
    command = [sys.executable, str(PROGRAM), "prepare", str(folder), "--version", "8.6.0", "--no-probes",
               "--routes", "qdq", "--models", "small", "--methods", "minmax,mixed",
               "--level", "1", "--tactics", "CUBLAS"]  # fmt: skip

    def prepared():
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout, json.loads((folder / "jobs.json").read_text())

    said, made = prepared()
    assert "small int8-mixed (harness mix small --dialect s8s8)" in said
    assert [one["case"].split("-", 3)[3] for one in made] == ["fp32-single", "int8-minmax-ragged-single", "fp16-single"]
    assert (made[0]["build"]["optimization_level"], made[0]["build"]["tactic_sources"]) == (1, ["CUBLAS"])

    entry = own_entry("small.onnx", axes=["x:2=frames"], range_="4:16:64", data=None)
    ranges = dict.fromkeys(("x", "t", "p", "r", "h"), (-4.0, 4.0))
    keep(Plan("small", prepare(entry.onnx(), entry.model).name, Dialect.S8S8, "minmax",
              Assignment(in_float=frozenset({"product"})), ranges))  # fmt: skip
    said, made = prepared()
    assert not said.startswith("left out")
    (found,) = (one for one in made if one["case"] == "small-tensorrt-8.6.0-int8-mixed-ragged-single")
    mixed = onnx.load(folder / found["onnx"])
    (product,) = (node for node in mixed.graph.node if node.name == "product")
    assert product.input[1] == "w_in_float", "what the plan leaves in float is"


LINE = {
    "case": "other-tensorrt-8.6.0-fp32-single", "runtime": "tensorrt", "version": "8.6.0", "length": 5,
    "shapes": {"x": [1, 5]}, "layers": [{"Name": "Conv_0", "LayerType": "CaskConvolution"}],
    "times_ms": {"Conv_0": [0.01, 0.02]}, "whole_us": 20.0,
}  # fmt: skip


def written(folder, *lines):
    path = folder / "dump.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_a_model_that_is_not_here_has_names_and_times(project):
    (found,) = read_dumps([written(project, LINE)])
    (layer,) = found.tables[0].layers
    assert (layer.name, layer.time_us, layer.nodes, layer.operations) == ("Conv_0", pytest.approx(10), (), None)


def test_compressed_tables_are_read_and_half_of_them_are_not(project):
    packed = project / "dump.jsonl.gz"
    packed.write_bytes(gzip.compress(written(project, LINE).read_bytes()))
    assert read_dumps([packed]) == read_dumps([project / "dump.jsonl"])
    packed.write_bytes(packed.read_bytes()[:-12])
    with pytest.raises(DataError, match="cannot be read"):
        read_dumps([packed])


@pytest.fixture
def foreign(project):
    """The small model as one layer, of which TensorRT names the ends alone; the line of a dump of it."""
    kind = {"Format/Datatype": "Row major linear FP32"}
    layer = {"Name": "{ForeignNode[conv...share]}", "LayerType": "Myelin", "Metadata": "",
             "Inputs": [{"Name": "x", "Dimensions": [1, 8, 10], **kind}],
             "Outputs": [{"Name": "y", "Dimensions": [1, 10, 64], **kind}]}  # fmt: skip
    path = project / "small.onnx"
    model = onnx.load(path)
    wide = onnx.numpy_helper.from_array(np.zeros((32, 64), np.float32), "wide")
    model.graph.initializer.append(wide)
    model.graph.node[-1].input[0] = "more"
    model.graph.node.insert(5, onnx.helper.make_node("MatMul", ["s", "wide"], ["more"], name="widen"))
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 64
    onnx.save(model, path)
    return {**LINE, "case": "small-tensorrt-8.6.0-fp32-single", "length": 10, "shapes": {"x": [1, 8, 10]},
            "layers": [layer], "times_ms": {layer["Name"]: [0.1]}}  # fmt: skip


def test_weights_inside_of_a_layer_that_names_none_are_moved_too(project, foreign):
    half = {**foreign, "case": "small-tensorrt-8.6.0-fp16-single"}
    ((fp32,), (fp16,)) = (found.tables[0].layers for found in read_dumps([written(project, foreign, half)]))
    assert {"conv", "widen", "share"} < set(fp32.nodes)
    assert (fp32.precision, fp32.moved_bytes) == ("fp32", 4 * (80 + 640 + 32 * 64))
    assert (fp16.precision, fp16.moved_bytes) == ("", None), "in which type the weights are is not told"


@pytest.fixture
def data_dependent(project, file):
    """The small model with a shape that inference does not tell, as one of the configuration that has data."""
    model = onnx.load(file)
    model.graph.node.append(onnx.helper.make_node("NonZero", ["y"], ["at"], name="at"))
    onnx.save(model, file)
    (project / "data").mkdir()
    with (project / "harness.toml").open("a") as config:
        config.write('data = "data"\n')
    return {**LINE, "case": "small-tensorrt-8.6.0-fp32-single", "length": 10, "shapes": {"x": [1, 8, 10]}}


def test_without_data_here_a_table_has_what_inference_tells(project, data_dependent):
    np.savez(project / "data" / "0.npz", x=np.ones((1, 8, 500), np.float32))  # out of the range: none is left
    with_none = [found.tables for found in read_dumps([written(project, data_dependent)])]
    (project / "data" / "0.npz").unlink()
    np.savez(project / "data" / "0.npz", x=np.ones((1, 8, 12), np.float32))
    np.savez(project / "data" / "1.npz", x=np.ones((1, 8, 20), np.float32))
    assert [found.tables for found in read_dumps([written(project, data_dependent)])] == with_none


def test_probes_make_the_roof(project):
    probe = {
        **LINE, "case": "roofline_product1024-tensorrt-8.6.0-fp32-single", "length": 8192,
        "shapes": {"x": [8192, 1024]}, "layers": [{"Name": "product", "LayerType": "gemm", "Inputs": [
            {"Name": "x", "Dimensions": [8192, 1024], "Format/Datatype": "Row major linear FP32"}]}],
        "times_ms": {"product": [1.0]},
    }  # fmt: skip
    (found,) = read_dumps([written(project, LINE, probe)])
    assert found.roofline.operations_per_s == {"fp32": pytest.approx(2 * 8192 * 1024 * 1024 / 1e-3)}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "no JSON"),
        ({**LINE, "layers": "none"}, "without layers"),
        ({**LINE, "case": "nothing"}, "no case's id"),
        ({**LINE, "whole_us": "long"}, "whole_us"),
        ({**LINE, "whole_us": float("nan")}, "NaN is no number"),
        ({**LINE, "length": -1}, "length"),
        ({**LINE, "length": True}, "length"),
        ({**LINE, "size_bytes": "large"}, "size_bytes"),
        ({**LINE, "log": 5}, "log"),
        ({**LINE, "layers": ["Conv_0"]}, "layers"),
        ({**LINE, "layers": [{"Name": "a", "Inputs": 5}]}, "layers"),
        ({**LINE, "layers": [{"Name": "a", "Inputs": [{"Name": "x", "Dimensions": 5}]}]}, "layers"),
        ({**LINE, "times_ms": {"Conv_0": ["long"]}}, "times_ms"),
        ({**LINE, "times_ms": {"Conv_0": [-1.0]}}, "times_ms"),
        ({**LINE, "shapes": {"x": [1, 1 << 70]}}, "shapes"),
    ],
)
def test_other_files_are_refused(project, line, said):
    with pytest.raises(DataError, match=said):
        read_dumps([written(project, line)])


def test_what_the_tables_show_is_found(project):
    int8 = {**LINE, "case": "other-tensorrt-8.6.0-int8-mse-ragged-single", "whole_us": 40.0}
    fp32, found = read_dumps([written(project, {**LINE, "whole_us": 12.0}, int8)])
    assert fp32.findings == ()
    assert {one.kind for one in found.findings} == {"launch-bound", "not-faster"}


def test_a_case_that_is_not_there(project):
    with pytest.raises(UsageError, match="no case 'vad'"):
        read_dumps([written(project, LINE)], "vad")
    with pytest.raises(DataError, match="cannot be read"):
        read_dumps([project / "nothing.jsonl"])
