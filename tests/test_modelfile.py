from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from harness.errors import ModelRefused, UsageError
from harness.modelfile import (
    check_axes,
    inspect,
    prepare,
    profiles_for,
    read_facts,
    scored_output,
    varying_axes,
    weighted_nodes,
)
from harness.spec.model import Axis, Model
from harness.spec.shapes import Profile


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))


def write(path, text, **weights):
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    onnx.save(model, path)
    return path


W = np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 2, 3)
CONV = """<ir_version: 8, opset_import: ["" : %d], metadata_props: ["who" : "me"]>
g (float[1, 2, L] x) => (float[1, 2, M] y) { y = Conv(x, w) }"""


@pytest.fixture
def conv(tmp_path):
    return write(tmp_path / "conv.onnx", CONV % 17, w=W)


def run(path, **feeds):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def test_facts_of_a_plain_file(conv):
    facts = inspect(conv)
    assert str(facts.inputs[0]) == "x: float32[1, 2, L]"
    assert [tensor.name for tensor in facts.inputs] == ["x"]  # the weight is no input
    assert facts.outputs[0].dims == (1, 2, "M")
    assert facts.opset == 17
    assert facts.op_counts == (("Conv", 1),)
    assert facts.sha256 == facts.digest
    assert facts.size_bytes == conv.stat().st_size
    assert facts.metadata == (("who", "me"),)
    assert [(tensor.name, index) for tensor, index in varying_axes(facts)] == [("x", 2)]


def test_wrong_path_names_the_close_one(conv):
    with pytest.raises(UsageError, match="no such file") as error:
        inspect(conv.parent / "cnov.onnx")
    assert "conv.onnx?" in error.value.todo
    with pytest.raises(UsageError, match="no folder"):
        inspect(conv.parent / "nowhere" / "conv.onnx")
    with pytest.raises(UsageError, match="a folder") as error:
        inspect(conv.parent)
    assert "conv.onnx" in error.value.todo


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"hello, this is a text file and no model at all", "looks like text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "Git LFS pointer"),
        (b"PK\x03\x04\x00\x00\x00\x00rest of a zip", "zip archive"),
        (bytes(range(256)) * 4, "damaged"),
    ],
)
def test_what_is_not_onnx_is_named(tmp_path, content, says):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelRefused, match=f"not an ONNX model: .*{says}"):
        inspect(path)


def test_truncated_anywhere_is_refused(conv):
    whole = conv.read_bytes()
    needed = whole.index(b"who")  # losing the metadata at the end cannot be noticed
    for cut in range(1, needed - 20, 7):
        conv.write_bytes(whole[:cut])
        with pytest.raises(ModelRefused):
            prepare(conv)


def external(tmp_path, location):
    path = write(tmp_path / "ext.onnx", CONV % 17, w=W)
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    raw = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())
    return path, raw


def test_external_data_beside_the_model(tmp_path, conv):
    path, raw = external(tmp_path, "w.bin")
    with pytest.raises(ModelRefused, match=r"'w.bin'.*missing"):
        inspect(path)
    (tmp_path / "w.bin").write_bytes(raw)
    facts = inspect(path)
    assert facts.digest != facts.sha256
    assert facts.size_bytes == path.stat().st_size + len(raw)
    x = np.ones((1, 2, 5), np.float32)
    np.testing.assert_array_equal(run(prepare(path), x=x)[0], run(conv, x=x)[0])
    (tmp_path / "w.bin").write_bytes(raw[::-1])
    assert inspect(path).digest != facts.digest  # other weights, another model


@pytest.mark.parametrize("location", ["../w.bin", "/etc/hostname", "link.bin", ""])
def test_external_data_outside_the_folder(tmp_path, location):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    path, _ = external(folder, location)
    with pytest.raises(ModelRefused, match="outside the model's folder"):
        inspect(path)


def test_already_quantized(tmp_path):
    path = write(
        tmp_path / "q.onnx",
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, L] x) => (float[1, L] y) {
          a = QuantizeLinear(x, s, z)
          y = DequantizeLinear(a, s, z)
        }""",
        s=np.float32(0.1),
        z=np.int8(0),
    )
    with pytest.raises(ModelRefused, match=r"already quantized: 2 .*the first is QuantizeLinear"):
        inspect(path)
    assert dict(read_facts(path).op_counts) == {"QuantizeLinear": 1, "DequantizeLinear": 1}


@pytest.mark.parametrize(("dims", "says"), [("1, 2, 9", "every dimension is fixed"), ("N, 2, 9", "only the batch")])
def test_nothing_varies(tmp_path, dims, says):
    path = write(tmp_path / "m.onnx", CONV.replace("1, 2, L", dims) % 17, w=W)
    with pytest.raises(ModelRefused, match=f"no varying axis: {says}") as error:
        inspect(path)
    assert f"x: float32[{dims}]" in error.value.what


def test_a_leading_axis_with_a_name_of_its_own_varies(tmp_path):
    path = write(tmp_path / "m.onnx", CONV.replace("1, 2, L", "frames, 2, 9") % 17, w=W)
    assert len(varying_axes(inspect(path))) == 1


def test_wrong_axes_list_what_there_is(conv):
    facts = inspect(conv)

    def check(*axes, **more):
        check_axes(facts, Model("m", axes, "n", 3, 9, 5, **more))

    check(Axis("x", 2))
    with pytest.raises(UsageError, match="no input 'X'") as error:
        check(Axis("X", 2))
    assert "did you mean 'x'" in error.value.todo
    with pytest.raises(UsageError, match="no dimension 3"):
        check(Axis("x", 3))
    with pytest.raises(UsageError, match="fixed to 2") as error:
        check(Axis("x", 1))
    assert "x:2 (L)" in error.value.todo
    with pytest.raises(UsageError, match="no input 'xlen'"):
        check(Axis("x", 2), length_inputs=("xlen",))


@pytest.mark.parametrize("opset", [9, 11, 13, 15, 17, 18, 21])
def test_prepared_opset_and_outputs(tmp_path, opset):
    path = write(tmp_path / "m.onnx", CONV % opset, w=W)
    ready = prepare(path)
    model = onnx.load(ready)
    assert model.opset_import[0].version == max(opset, 17)
    assert len(model.opset_import) == 1
    assert model.ir_version == {18: 8, 21: 10}.get(opset, 8)
    assert {"who": "me"}.items() <= {p.key: p.value for p in model.metadata_props}.items()
    onnx.checker.check_model(model, full_check=True)
    x = np.linspace(-1, 1, 20, dtype=np.float32).reshape(1, 2, 10)
    np.testing.assert_allclose(run(ready, x=x)[0], run(path, x=x)[0], atol=1e-6)


def test_constants_functions_and_constant_conditions_dissolve(tmp_path):
    path = tmp_path / "m.onnx"
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17, "mine" : 1, "unused.domain" : 3]>
        g (float[K, 3] x) => (float[K, 2] y) {
          w = Constant <value = float[3, 2] {1, 2, 3, 4, 5, 6}> ()
          h = MatMul (x, w)
          c = Constant <value = bool[1] {1}> ()
          i = If (c) <then_branch = t () => (float[K, 2] u) { u = mine.twice(h) },
                      else_branch = e () => (float[K, 2] v) { v = Neg(h) }>
          y = Identity (i)
        }
        <domain: "mine", opset_import: ["" : 17]>
        twice (a) => (b) { b = Add(a, a) }"""
    )
    onnx.save(model, path)
    ready = onnx.load(prepare(path))
    ops = [node.op_type for node in ready.graph.node]
    assert "If" not in ops
    assert "Constant" not in ops
    assert not ready.functions
    assert [entry.domain for entry in ready.opset_import] == [""]
    assert len(weighted_nodes(ready)) == 1
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    w = np.arange(1, 7, dtype=np.float32).reshape(3, 2)
    np.testing.assert_allclose(run(prepare(path), x=x)[0], 2 * x @ w)


def test_a_condition_on_the_data_is_refused(tmp_path):
    path = write(
        tmp_path / "m.onnx",
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[K, 3] x, bool[1] c) => (float[K, 2] y) {
          h = MatMul (x, w)
          y = If (c) <then_branch = t () => (float[K, 2] u) { u = Abs(h) },
                      else_branch = e () => (float[K, 2] v) { v = Neg(h) }>
        }""",
        w=np.ones((3, 2), np.float32),
    )
    assert inspect(path).control_flow == (("If", ""),)
    with pytest.raises(ModelRefused, match="control flow that depends on the data: 1 of If"):
        prepare(path)


def test_names_are_unique_and_the_same_every_time(tmp_path, monkeypatch):
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"], name="same"),
            helper.make_node("MatMul", ["b", "w2"], ["c"], name="MatMul_0"),
            helper.make_node("Exp", ["c"], ["y"], name="same"),
        ],
        "g",
        [helper.make_tensor_value_info("x", 1, ["L", 4])],
        [helper.make_tensor_value_info("y", 1, ["L", 4])],
        [numpy_helper.from_array(np.eye(4, dtype=np.float32) + i, name) for i, name in enumerate(["w", "w2"])],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    first = prepare(path)
    names = [node.name for node in onnx.load(first).graph.node]
    assert len(set(names)) == 4
    assert all(names)
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "other"))
    second = prepare(path)
    assert second != first
    assert second.read_bytes() == first.read_bytes()


def test_weighted_means_a_constant_second_input():
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[L, 4] x) => (float[4, 4] y) <float[4, 4] w = {1,0,0,0,0,1,0,0,0,0,1,0,0,0,0,1}> {
          v = Identity(w)
          a = MatMul(x, v)
          t = Transpose(a)
          b = MatMul(t, a)
          y = MatMul(w, b)
        }"""
    )
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
    assert weighted_nodes(model) == ["n1"]  # not activation x activation, nor a weight on the left


def test_nothing_to_quantize_and_half_precision(tmp_path):
    plain = write(
        tmp_path / "m.onnx",
        '<ir_version: 8, opset_import: ["" : 17]> g (float[L] x) => (float[L] y) { y = Exp(x) }',
    )
    with pytest.raises(ModelRefused, match="nothing to quantize"):
        prepare(plain)
    half = write(tmp_path / "h.onnx", CONV.replace("float", "float16") % 17, w=W.astype(np.float16))
    with pytest.raises(ModelRefused, match="float16, not float32"):
        prepare(half)


def test_opset_that_cannot_be_taken(tmp_path):
    new = write(tmp_path / "new.onnx", CONV % 99, w=W)
    with pytest.raises(ModelRefused, match="opset 99 is newer"):
        prepare(new)
    old = write(
        tmp_path / "old.onnx",
        '<ir_version: 3, opset_import: ["" : 6]> g (float[L, 4] x) => (float[L, 4] y) { y = Upsample(x) }',
    )
    with pytest.raises(ModelRefused, match="opset 6, which onnx cannot convert"):
        prepare(old)


@pytest.mark.parametrize("size", [0, 50, 0.9])
def test_a_damaged_prepared_file_is_made_anew(conv, size):
    path = prepare(conv)
    whole = path.read_bytes()
    path.write_bytes(whole[: size if isinstance(size, int) else int(size * len(whole))])
    assert prepare(conv).read_bytes() == whole
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_first_floating_point_output_is_scored_unless_another_is_chosen(tmp_path):
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[1, L] x) => (int64[1, L] ids, float[1, L] y, float[1, L] z) {
      ids = Cast<to = 7>(x)  y = Relu(x)  z = Neg(x) }"""
    facts = read_facts(write(tmp_path / "several.onnx", text))
    model = Model("m", (Axis("x", 1),), "n", 1, 9, 3)
    assert scored_output(model, facts) == "y"
    assert scored_output(replace(model, output="z"), facts) == "z"
    with pytest.raises(UsageError, match="no output 'w'") as caught:
        scored_output(replace(model, output="w"), facts)
    assert "y: float32" in caught.value.todo
    only = read_facts(write(tmp_path / "ids.onnx", text.replace(", float[1, L] y, float[1, L] z", "")))
    with pytest.raises(ModelRefused, match="no floating-point output to compare, only ids: int64"):
        scored_output(model, only)


def test_prepare_prints_nothing(conv, tmp_path):
    """Neither Python's loggers nor ONNX Runtime's native one reach the user."""
    done = subprocess.run(
        [sys.executable, "-c", f"from harness.modelfile import prepare; prepare({str(conv)!r})"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TRT_INT8_HARNESS_CACHE": str(tmp_path / "fresh")},
    )
    assert done.stdout + done.stderr == ""


def test_profiles_name_the_shape_of_every_input_and_the_values_of_lengths(tmp_path):
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 2, L] x, int64[N, L] mask, int32[1] n) => (float[N, 2, M] y) { y = Conv(x, w) }"""
    facts = read_facts(write(tmp_path / "m.onnx", text, w=W))
    model = Model("m", (Axis("x", 2), Axis("mask", 1)), "frames", 4, 90, 10, length_inputs=("n",))
    assert profiles_for(model, facts, [Profile(4, 10, 40), Profile(41, 60, 90)]) == [
        {
            "x": [[1, 2, 4], [1, 2, 10], [1, 2, 40]],
            "mask": [[1, 4], [1, 10], [1, 40]],
            "n": [[1], [1], [1], [4], [10], [40]],
        },
        {
            "x": [[1, 2, 41], [1, 2, 60], [1, 2, 90]],
            "mask": [[1, 41], [1, 60], [1, 90]],
            "n": [[1], [1], [1], [41], [60], [90]],
        },
    ]
    assert profiles_for(model, facts, []) == []
