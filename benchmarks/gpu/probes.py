"""Models small enough to build in seconds on a GPU: chains of four 1-D or 2-D convolutions, or matrix products.

    python benchmarks/gpu/probes.py FOLDER

writes ``conv1d.onnx``, ``conv2d.onnx``, ``matmul.onnx``, a folder of ragged samples for each, and a ``harness.toml``
that names them. Where the varying axis stands is what tells them apart: last in ``conv1d``, last of four in ``conv2d``,
first in ``matmul``, so that a calibrator which is handed arrays of other lengths reads something else in each.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LAYERS = 4
SAMPLES = 36
SHAPES = {  # key -> (input shape with None for the length, shortest, opt, longest)
    "conv1d": ((1, 256, None), 16, 1024, 8192),
    "conv2d": ((1, 64, 16, None), 16, 256, 2048),
    "matmul": ((None, 512), 16, 512, 8192),
}


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tables = []
    for key, (shape, low, opt, high) in SHAPES.items():
        onnx.save(model(key), folder / f"{key}.onnx")
        (folder / key).mkdir(exist_ok=True)
        random = np.random.default_rng(7)
        lengths = np.exp(random.uniform(np.log(low), np.log(high), SAMPLES)).astype(int)
        for index, length in enumerate(lengths):
            np.savez(folder / key / f"{index:03}.npz", x=sample(random, shape, int(length)))
        axis = shape.index(None)
        what = f'path = "{key}.onnx"\naxes = ["x:{axis}=length"]\nrange = "{low}:{opt}:{high}"\ndata = "{key}/"\n'
        tables.append(f"[[models]]\n{what}")
    (folder / "harness.toml").write_text("deadline_s = 150\n\n" + "\n".join(tables))


def sample(random: np.random.Generator, shape: tuple[int | None, ...], length: int) -> np.ndarray:
    """Heavy-tailed, with a loudness of its own, and louder towards the end: what comes late in a clip counts.

    Channels differ in loudness, the last ones 8 times the first, as the bins of a spectrum do. Who reads the first
    elements of a flat buffer, instead of the data, sees the quiet channels of a long clip and not the loud ones.
    """
    sizes = [length if size is None else size for size in shape]
    varying = shape.index(None)
    channels = max(axis for axis in range(len(sizes)) if axis != varying and sizes[axis] > 1) if varying == 0 else 1
    values = random.standard_t(4, sizes) * random.uniform(0.3, 1.5)
    for axis, profile in ((varying, np.linspace(0.5, 1.5, length)), (channels, np.geomspace(0.25, 2, sizes[channels]))):
        along = [1] * len(sizes)
        along[axis] = len(profile)
        values *= profile.reshape(along)
    return values.astype(np.float32)


def model(key: str) -> onnx.ModelProto:
    shape = [size or "length" for size in SHAPES[key][0]]
    random = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for layer in range(LAYERS):
        if key == "matmul":
            width = SHAPES[key][0][1]
            weight = random.standard_normal((width, width)) / np.sqrt(width / 2)
            nodes.append(helper.make_node("MatMul", [value, f"w{layer}"], [f"p{layer}"], name=f"product{layer}"))
        else:
            channels = SHAPES[key][0][1]
            kernel = (3,) if key == "conv1d" else (3, 3)
            weight = random.standard_normal((channels, channels, *kernel)) / np.sqrt(channels * np.prod(kernel) / 2)
            nodes.append(
                helper.make_node("Conv", [value, f"w{layer}"], [f"p{layer}"], name=f"product{layer}",
                                 pads=[1] * (2 * len(kernel)))
            )  # fmt: skip
        weights.append(numpy_helper.from_array(weight.astype(np.float32), f"w{layer}"))
        nodes.append(helper.make_node("Relu", [f"p{layer}"], [f"y{layer}"], name=f"relu{layer}"))
        value = f"y{layer}"
    graph = helper.make_graph(
        nodes,
        key,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, shape)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
