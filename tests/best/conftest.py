"""A small model whose rare loud samples carry everything, and a bench of it on this interpreter's ONNX Runtime."""

from __future__ import annotations

import sys
from contextlib import closing

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from harness.corpus.own import own_entry
from harness.results.store import Store
from harness.spec.matrix import Matrix
from harness.spec.model import Bounds
from harness.workbench import Workbench
from harness.workers import Workers
from harness.workers.environments import of_interpreter


def network():
    """``y = relu(x * c) * d``: two convolutions over x float32 [1, 8, T]; wide enough that INT8 is faster."""
    random = np.random.default_rng(0)
    weights = {"c": random.standard_normal((96, 8, 9)), "d": random.standard_normal((96, 96, 9)) / 30}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "c"], ["h"], name="first", pads=[4, 4]),
            helper.make_node("Relu", ["h"], ["r"], name="relu"),
            helper.make_node("Conv", ["r", "d"], ["y"], name="second", pads=[4, 4]),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, "T"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 96, "T"])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The model, and 24 samples of 17 to 240 frames: one value of a thousand is twenty times as loud as the others."""
    folder = tmp_path_factory.mktemp("small")
    onnx.save(network(), folder / "small.onnx")
    (folder / "data").mkdir()
    random = np.random.default_rng(1)
    for index in range(24):
        length = int(np.exp(random.uniform(np.log(17), np.log(240))))
        x = random.uniform(-1, 1, (1, 8, length)).astype(np.float32)
        x[random.random(x.shape) < 0.001] *= 20
        np.savez(folder / "data" / f"{index:03}.npz", x=x)
    return folder


@pytest.fixture(scope="module")
def environment():
    (there,) = (one for one in of_interpreter(sys.executable) if one.name.endswith("-cpu"))
    return there


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache of the module's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def bench(cache, files, environment, tmp_path):
    """Makes a bench with accuracy bounds of one's own."""
    opened = []

    def make(**bounds):
        entry = own_entry(
            str(files / "small.onnx"), axes=["x:2=frames"], range_="16:64:256", data=str(files / "data"),
            bounds=(("*", Bounds(**bounds)),),
        )  # fmt: skip
        run = Store(tmp_path / "results").open_run()
        made = Workbench(
            {"small": entry}, {environment.name: environment}, Workers(), run,
            Matrix(samples=8, tests=2, launches=2, blocks=3), 0,
        )  # fmt: skip
        opened.extend((run, made))
        return made

    yield make
    for one in reversed(opened):
        with closing(one):
            pass
