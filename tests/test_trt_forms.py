"""The form of a model that a version is given: equal to it, cached, taken by a parser that refuses the model."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fixtures.catalogue import ENTRIES
from harness.calibration import artefacts
from harness.calibration.qdq import tensors_to_observe
from harness.errors import BuildFailed, FetchFailed
from harness.modelfile import prepare, read_facts, weighted_nodes
from harness.runtimes.base import RuntimeFailure
from harness.runtimes.tensorrt import TensorRt
from harness.spec.calibration import Dialect
from harness.spec.model import Axis, Model
from harness.trt_forms import aliases, check_equal, for_parser, kernel_shapes, static_batch, with_aliases
from tests.fake_tensorrt import loaded

OLD, NEW = "8.5.3.1", "11.4.0.106"
LINE = Model(key="line", axes=(Axis("x", 2),), axis_name="frames", minimum=3, maximum=90, opt=20)


def saved(nodes, shape, weights, folder, outputs=("y",), opset=17):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path = folder / "model.onnx"
    onnx.save(made, path)
    return path


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def line(tmp_path, own_cache):
    """x [N, 4, T] -> Conv, Relu, Conv -> LayerNormalization over channels -> MatMul -> y [N, T, 5]; prepared."""
    weights = {"w": draw(8, 4, 3), "b": draw(8), "v": draw(8, 8, 3, seed=1), "s": draw(8), "m": draw(8, 5)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "first", pads=[1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "v"], ["d"], "second", pads=[1, 1]),
        helper.make_node("Transpose", ["d"], ["t"], "turn", perm=[0, 2, 1]),
        helper.make_node("LayerNormalization", ["t", "s"], ["n"], "norm"),
        helper.make_node("MatMul", ["n", "m"], ["y"], "product"),
    ]
    return prepare(saved(nodes, ["N", 4, "T"], weights, tmp_path), LINE)


def form(path, version=OLD, model=LINE, runtime="tensorrt"):
    return for_parser(path, runtime, version, model, read_facts(path))


def outputs(path, feeds):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def kinds(path):
    return {node.op_type for node in onnx.load(path).graph.node}


@pytest.mark.parametrize("key", list(ENTRIES))
def test_every_fixture_computes_the_same(key, monkeypatch):
    def offline(*_):
        raise FetchFailed("it is not in the cache of this machine")

    monkeypatch.setattr("harness.corpus.fetch._fetch", offline)
    entry = ENTRIES[key]
    try:
        path = prepare(entry.onnx(), entry.model)
    except FetchFailed as error:
        pytest.skip(f"needs the network: {error}")
    made = form(path, model=entry.model)
    assert (made != path) == (key != "digits")  # which is 2-D and says all of its shapes
    proto = onnx.load(made)
    weights = {tensor.name: len(tensor.dims) for tensor in proto.graph.initializer}
    assert not [n.name for n in proto.graph.node if n.op_type.startswith("Conv") and weights.get(n.input[1]) == 3]
    assert "LayerNormalization" not in kinds(made)
    assert proto.opset_import[0].version <= 17
    assert weighted_nodes(proto) == weighted_nodes(onnx.load(path))
    for length in (entry.model.minimum, entry.model.opt, min(4 * entry.model.opt, entry.model.maximum)):
        feeds = random_feeds(entry.model, read_facts(path), length)
        for expected, given in zip(outputs(path, feeds), outputs(made, feeds), strict=True):
            assert given.shape == expected.shape
            assert np.abs(given - expected).max() <= 1e-5 * np.abs(expected).max()


def random_feeds(model, facts, length):
    random = np.random.default_rng(length)
    varying = {(axis.input, axis.dim) for axis in model.axes}
    feeds = {}
    for tensor in facts.inputs:
        shape = [length if (tensor.name, i) in varying else size for i, size in enumerate(tensor.dims)]
        if tensor.name in model.length_inputs:
            feeds[tensor.name] = np.full(shape, length - length // 4, tensor.dtype)
        elif "int" in tensor.dtype:
            feeds[tensor.name] = random.integers(1, 2 if "mask" in tensor.name else 1000, shape).astype(tensor.dtype)
        else:
            feeds[tensor.name] = random.normal(size=shape).astype(tensor.dtype)
    return feeds


def test_the_form_of_an_old_version(line):
    made = form(line)
    assert kinds(made) == {
        "Unsqueeze", "Conv", "Relu", "Squeeze", "Transpose", "ReduceMean", "Sub", "Mul", "Add", "Sqrt", "Div", "MatMul"
    }  # fmt: skip
    assert read_facts(made).inputs[0].dims == (1, 4, "T")
    for length in (3, 20, 90):
        feeds = {"x": draw(1, 4, length)}
        np.testing.assert_allclose(outputs(made, feeds)[0], outputs(line, feeds)[0], rtol=1e-5, atol=1e-5)


def test_the_form_of_a_new_version_is_the_batch_alone(line):
    made = form(line, NEW)
    assert read_facts(made).inputs[0].dims == (1, 4, "T")
    assert kinds(made) == kinds(line)
    assert aliases(made) == {}


def test_it_is_made_once_and_anew_when_damaged(line):
    made = form(line)
    content = made.read_bytes()
    stamp = made.stat().st_mtime_ns
    assert form(line) == made
    assert made.stat().st_mtime_ns == stamp
    assert form(line, "8.4.1.5") == made  # the same steps
    assert len({made, form(line, "8.6.0"), form(line, NEW)}) == 3
    made.write_bytes(content[:100])
    assert form(line) == made
    assert made.read_bytes() == content


@pytest.mark.parametrize(
    ("runtime", "version"), [("onnxruntime", "1.22.1"), ("tensorrt-rtx", "1.7.1.116"), ("tensorrt", NEW)]
)
def test_the_same_path_where_nothing_has_to_change(tmp_path, own_cache, runtime, version):
    node = helper.make_node("Conv", ["x", "w"], ["y"], "conv")
    path = prepare(saved([node], [1, 4, "T"], {"w": draw(8, 4, 3)}, tmp_path), LINE)
    assert form(path, version, runtime=runtime) == path
    assert form(path) != path
    assert kinds(form(path, "10.16.1.11")) == {"Unsqueeze", "Conv", "Squeeze"}  # a cache has scales for these names


def test_other_runtimes_get_an_open_batch_as_it_is(line):
    assert form(line, "1.7.1.116", runtime="tensorrt-rtx") == line


def test_an_old_version_takes_a_matmul_model_as_it_is(tmp_path, own_cache):
    model = Model(key="rows", axes=(Axis("x", 0),), axis_name="rows", minimum=1, maximum=9, opt=3)
    path = prepare(saved([helper.make_node("MatMul", ["x", "m"], ["y"])], ["T", 4], {"m": draw(4, 5)}, tmp_path), model)
    assert form(path, model=model) == path


def test_kernel_shapes():
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "bare"),
        helper.make_node("Conv", ["c", "v"], ["y"], "said", kernel_shape=[5]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, "T"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(draw(4, 4, 3), "w"), numpy_helper.from_array(draw(4, 4, 5), "v")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made = kernel_shapes(model)
    assert [list(node.attribute[-1].ints) for node in made.graph.node] == [[3], [5]]
    assert not model.graph.node[0].attribute
    assert kernel_shapes(made) is made


def test_kernel_shapes_are_written_up_to_10_3(tmp_path, own_cache):
    node = helper.make_node("Conv", ["x", "w"], ["y"], "conv")
    path = prepare(saved([node], [1, 4, 6, "T"], {"w": draw(8, 4, 3, 3)}, tmp_path), at_last_axis := Model(
        key="plane", axes=(Axis("x", 3),), axis_name="frames", minimum=3, maximum=90, opt=20
    ))  # fmt: skip
    bare = onnx.load(path)
    del bare.graph.node[0].attribute[:]
    onnx.save(bare, tmp_path / "bare.onnx")
    made = form(tmp_path / "bare.onnx", "10.3.0", at_last_axis)
    assert {a.name: list(a.ints) for a in onnx.load(made).graph.node[0].attribute} == {"kernel_shape": [3, 3]}
    assert form(tmp_path / "bare.onnx", "10.4.0", at_last_axis) == tmp_path / "bare.onnx"


def open_batch(shape=("N", 1, "T", 1)):
    """x [N, 1, T, 1] -> Squeeze without axes -> Relu -> Squeeze without axes; a shape computed from the batch."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Concat", ["batch", "rest"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["x", "wanted"], ["flat"]),
        helper.make_node("Squeeze", ["flat"], ["s"]),
        helper.make_node("Relu", ["s"], ["r"]),
        helper.make_node("Unsqueeze", ["r", "zero"], ["u"]),
        helper.make_node("Squeeze", ["u"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("flat", TensorProto.FLOAT, ["N", None, None]),
        ],
        [
            numpy_helper.from_array(np.array([0]), "zero"),
            numpy_helper.from_array(np.array([-1, 1]), "rest"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_static_batch_and_squeezes_with_axes(tmp_path):
    model = open_batch()
    made = static_batch(model, {("x", 2)})
    assert [d.dim_value or d.dim_param for d in made.graph.input[0].type.tensor_type.shape.dim] == [1, 1, "T", 1]
    assert made.graph.output[1].type.tensor_type.shape.dim[0].dim_value == 1
    constants = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in made.graph.initializer}
    axes = [constants[node.input[1]] for node in made.graph.node if node.op_type == "Squeeze"]
    assert axes == [[0, 2], [0]]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert static_batch(made, {("x", 2)}) is made
    paths = [tmp_path / "open.onnx", tmp_path / "made.onnx"]
    for proto, path in zip((model, made), paths, strict=True):
        onnx.save(proto, path)
    for length in (2, 5, 30):
        feeds = {"x": draw(1, 1, length, 1)}
        for expected, given in zip(*(outputs(path, feeds) for path in paths), strict=True):
            np.testing.assert_array_equal(given, expected)


def test_a_squeeze_that_takes_nothing_away():
    nodes = [helper.make_node("Squeeze", ["x"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    assert [node.op_type for node in static_batch(model, {("x", 0)}).graph.node] == ["Identity"]


def test_what_varies_at_the_front_is_kept():
    model = kept_open()
    assert static_batch(model, {("x", 0), ("x", 1)}) is model
    made = static_batch(model, {("x", 0)})
    assert [d.dim_value or d.dim_param for d in made.graph.input[0].type.tensor_type.shape.dim] == ["T", 1]


def kept_open():
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["T", None])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["T", None])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def test_ranges_of_tensors_that_stand_for_others(line):
    made = form(line)
    assert aliases(line) == {}
    assert aliases(made) == {"x_2d": "x", "d_2d": "d"}
    ranges = {"x": (-1.0, 2.0), "r": (0.0, 3.0)}
    assert with_aliases(ranges, line) == ranges
    assert with_aliases(ranges, made) == {**ranges, "x_2d": (-1.0, 2.0)}


def test_an_unequal_form_is_refused(line):
    made = form(line)
    feeds = {"x": draw(1, 4, 20)}
    check_equal(line, line, feeds)
    check_equal(line, made, feeds)
    proto = onnx.load(made)
    next(t for t in proto.graph.initializer if t.name == "m").CopyFrom(numpy_helper.from_array(draw(8, 5) * 1.01, "m"))
    onnx.save(proto, made)
    with pytest.raises(BuildFailed, match="differs from the model at output 'y'"):
        check_equal(line, made, feeds)


def observed(path):
    proto = onnx.load(path)
    names = tensors_to_observe(proto, weighted_nodes(proto), Dialect.U8S8)
    return dict.fromkeys(names, (-4.0, 4.0))


def built(path, version, folder, **options):
    with loaded(version, folder / f"fake{version}"):
        runtime = TensorRt()
        runtime.cache = str(folder / "cache")
        profiles = [{"x": [[1, 4, 3], [1, 4, 20], [1, 4, 90]]}]
        facts = runtime.build(str(path), str(folder / "engine"), {"profiles": profiles, **options})
        engine = runtime.load(str(folder / "engine"), {})
        feeds = {"x": draw(1, 4, 20)}
        result, coverage = engine.run(feeds)["y"], engine.coverage()
        engine.close()
    return facts, result, coverage


def test_q_dq_of_the_form_build_where_those_of_the_model_are_refused(line, tmp_path):
    ranges = observed(line)
    plain = artefacts.int8(line, ranges, Dialect.S8S8)
    with pytest.raises(RuntimeFailure):
        built(plain, "8.5", tmp_path, flags=["INT8"])
    made = form(line)
    quantized = artefacts.int8(made, with_aliases(ranges, made), Dialect.S8S8)
    _, result, _ = built(quantized, "8.5", tmp_path, flags=["INT8"])
    expected = outputs(plain, {"x": draw(1, 4, 20)})[0]
    assert np.abs(result - expected).max() < 0.05 * np.abs(expected).max()  # a code more or less, by rounding


def test_the_convolution_alone_is_what_was_refused(tmp_path, own_cache):
    node = helper.make_node("Conv", ["x", "w"], ["y"], "conv", pads=[1, 1])
    path = prepare(saved([node], [1, 4, "T"], {"w": draw(8, 4, 3)}, tmp_path), LINE)
    ranges = {"x": (-4.0, 4.0)}
    plain, made = artefacts.int8(path, ranges, Dialect.S8S8), form(path)
    with pytest.raises(RuntimeFailure) as raised:
        built(plain, "8.5", tmp_path, flags=["INT8"])
    assert "misaligns with the input kernel shape" in raised.value.detail
    quantized = artefacts.int8(made, with_aliases(ranges, made), Dialect.S8S8)
    _, result, _ = built(quantized, "8.5", tmp_path, flags=["INT8"])
    np.testing.assert_allclose(result, outputs(plain, {"x": draw(1, 4, 20)})[0], rtol=1e-5, atol=1e-5)
    # and the pairs stand right at the convolution, weights per channel of it
    graph = onnx.load(quantized).graph
    made_by = {output: node for node in graph.node for output in node.output}
    (conv,) = (node for node in graph.node if node.op_type == "Conv")
    assert [made_by[name].op_type for name in conv.input] == ["DequantizeLinear"] * 2
    constants = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    assert [constants[name] for name in made_by[conv.input[1]].input] == [[8, 4, 3, 1], [8], [8]]


def test_a_cache_of_the_form_leaves_no_layer_without_a_scale(line, tmp_path):
    made, ranges = form(line), observed(line)
    text = artefacts.trt_cache(line, ranges, "8503", "MinMaxCalibration", aliases(made))
    options = {"flags": ["INT8"], "algorithm": "MinMaxCalibration", "files": {"cache": str(text)}}
    _, result, coverage = built(made, "8.5", tmp_path, **options)
    assert (coverage["int8"], coverage["float"]) == (3, 0)
    without = artefacts.trt_cache(line, ranges, "8503", "MinMaxCalibration")
    _, _, less = built(made, "8.5", tmp_path, **{**options, "files": {"cache": str(without)}})
    assert (less["int8"], less["float"]) == (2, 1)
    assert np.isfinite(result).all()
