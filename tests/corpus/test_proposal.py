"""What files answer, of shapes that the catalogue's models do not have."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from harness.corpus.proposal import propose
from harness.errors import DataError, ModelRefused

FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
make = helper.make_node


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def saved(tmp_path):
    def save(nodes, inputs, out=(1, None, 8), **weights):
        """Every file ends in ``y = h @ w``, so that there is something to quantize."""
        random = np.random.default_rng(0)
        arrays = {"w": random.standard_normal((8, 8)).astype(np.float32), **weights}
        graph = helper.make_graph(
            [*nodes, make("MatMul", ["h", "w"], ["y"])],
            "file",
            [helper.make_tensor_value_info(name, kind, dims) for name, (kind, dims) in inputs.items()],
            [helper.make_tensor_value_info("y", FLOAT, list(out))],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()],
        )
        path = tmp_path / "file.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        return path

    return save


def options(found):
    return [one.option for one in found]


def test_dimensions_without_names_belong_together_where_the_model_says_so(saved):
    path = saved([make("Add", ["a", "b"], ["h"])], {"a": (FLOAT, [1, None, 8]), "b": (FLOAT, [1, None, 8])})
    found = propose(path)
    assert options(found.axes) == ["a:1=frames", "b:1=frames"]
    assert "runs only where it is equal" in found.axes[1].why
    assert found.held == ()


def test_a_length_of_its_own_is_held_at_one(saved):
    nodes = [make("ReduceMean", ["prompt"], ["m"], axes=[1], keepdims=1), make("Add", ["x", "m"], ["h"])]
    found = propose(saved(nodes, {"x": (FLOAT, [1, "T1", 8]), "prompt": (FLOAT, [1, "T2", 8])}))
    assert options(found.axes) == ["x:1=T1"]
    assert options(found.held) == ["prompt:1"]
    assert "by itself" in found.held[0].why
    assert [tensor.name for tensor in found.late] == ["prompt"]


def test_a_batch_is_one(saved):
    found = propose(saved([make("Relu", ["x"], ["h"])], {"x": (FLOAT, ["batch_size", "frames", 8])}))
    assert options(found.axes) == ["x:1=frames"]
    assert [(one.option, one.why) for one in found.held] == [("x:0", "the batch")]


def test_a_batch_behind_the_length(saved):
    found = propose(saved([make("Relu", ["x"], ["h"])], {"x": (FLOAT, ["frames", "N", 8])}))
    assert options(found.axes) == ["x:0=frames"]
    assert [(one.option, one.why) for one in found.held] == [("x:1", "the batch")]


def test_a_length_by_what_the_graph_does_with_it(saved):
    """Named so that the name says nothing."""
    nodes = [
        make("Shape", ["x"], ["s"], start=1, end=2),
        make("Squeeze", ["s"], ["t"]),
        make("Range", ["zero", "t", "one"], ["i"]),
        make("Less", ["i", "q"], ["valid"]),
        make("Cast", ["valid"], ["f"], to=FLOAT),
        make("Unsqueeze", ["f", "last"], ["mask"]),
        make("Mul", ["x", "mask"], ["h"]),
    ]
    weights = {"zero": np.int64(0), "one": np.int64(1), "last": np.array([1])}
    found = propose(saved(nodes, {"x": (FLOAT, [1, "T", 8]), "q": (INT64, [1])}, **weights))
    assert options(found.length_inputs) == ["q=frames"]
    assert "Less" in found.length_inputs[0].why


def test_what_selects_is_no_length_whatever_it_is_called(saved):
    nodes = [make("Gather", ["table", "n_length"], ["row"]), make("Add", ["x", "row"], ["h"])]
    table = np.zeros((3, 8), np.float32)
    found = propose(saved(nodes, {"x": (FLOAT, [1, "T", 8]), "n_length": (INT64, [1])}, table=table))
    assert not found.length_inputs
    assert options(found.constants) == ["n_length=0"]
    assert "guess" in found.constants[0].why


def test_integers_that_random_numbers_are_too_large_for(saved):
    """Two kinds of token: a random 15 would be no row."""
    nodes = [
        make("Gather", ["words", "ids"], ["a"]),
        make("Gather", ["kinds", "types"], ["b"]),
        make("Add", ["a", "b"], ["h"]),
    ]
    weights = {"words": np.ones((100, 8), np.float32), "kinds": np.ones((2, 8), np.float32)}
    inputs = {"ids": (INT64, [1, "sequence"]), "types": (INT64, [1, "sequence"])}
    found = propose(saved(nodes, inputs, **weights))
    assert options(found.axes) == ["ids:1=sequence", "types:1=sequence"]
    assert options(found.constants) == ["types=0"]
    feeds = next(found.entry.samples("test", 0))
    assert not feeds["types"].any()


def test_the_range_ends_where_the_model_does(saved):
    """A table of 100 positions."""
    nodes = [
        make("Shape", ["x"], ["s"], start=1, end=2),
        make("Squeeze", ["s"], ["t"]),
        make("Range", ["zero", "t", "one"], ["i"]),
        make("Gather", ["places", "i"], ["p"]),
        make("Add", ["x", "p"], ["h"]),
    ]
    weights = {"zero": np.int64(0), "one": np.int64(1), "places": np.ones((100, 8), np.float32)}
    found = propose(saved(nodes, {"x": (FLOAT, [1, "T", 8])}, **weights))
    assert found.range == "16:40:100"
    assert found.range_why == "it does not run above 100"


def test_the_range_begins_where_the_model_does(saved):
    nodes = [
        make("Conv", ["x", "k"], ["c"], kernel_shape=[40]),
        make("Transpose", ["c"], ["h"], perm=[0, 2, 1]),
    ]
    path = saved(nodes, {"x": (FLOAT, [1, 8, "T"])}, k=np.ones((8, 8, 40), np.float32))
    assert propose(path).range.partition(":")[0] == "40"


def test_the_range_is_that_of_the_data(saved, tmp_path):
    path = saved([make("Relu", ["x"], ["h"])], {"x": (FLOAT, [1, "T", 8])})
    for index, length in enumerate((7, 30, 9)):
        np.savez(tmp_path / f"{index}.npz", x=np.zeros((1, length, 8), np.float32))
    found = propose(path, data=str(tmp_path))
    assert found.range == "7:9:30"
    assert "3 sample(s)" in found.range_why
    assert found.entry.every is not None


def test_what_no_sample_has_is_a_constant(saved, tmp_path):
    nodes = [make("Add", ["x", "style"], ["h"])]
    path = saved(nodes, {"x": (FLOAT, [1, "T", 8]), "style": (FLOAT, [8])})
    assert not propose(path).constants
    np.savez(tmp_path / "0.npz", x=np.zeros((1, 5, 8), np.float32))
    assert options(propose(path, data=str(tmp_path)).constants) == ["style=0"]


def test_samples_that_do_not_fit_are_an_error(saved, tmp_path):
    path = saved([make("Relu", ["x"], ["h"])], {"x": (FLOAT, [1, "T", 8])})
    np.savez(tmp_path / "0.npz", x=np.zeros((1, 5, 9), np.float32))
    with pytest.raises(DataError, match="must be 8"):
        propose(path, data=str(tmp_path))


def test_a_model_that_runs_at_no_length(saved):
    """Open in the file, and 7 in truth."""
    nodes = [make("Add", ["x", "seven"], ["h"])]
    path = saved(nodes, {"x": (FLOAT, [1, "T", 8])}, seven=np.ones((1, 7, 8), np.float32))
    with pytest.raises(ModelRefused, match="runs at none of the lengths") as caught:
        propose(path)
    assert "--axis" in caught.value.todo


def test_what_you_name_wins(saved):
    path = saved([make("Relu", ["x"], ["h"])], {"x": (FLOAT, ["N", "T", 8])})
    found = propose(path, axes=["x:0=words"], range_="2:5:9")
    assert options(found.axes) == ["x:0=words"]
    assert found.range == "2:5:9"
