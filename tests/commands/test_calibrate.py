"""`harness calibrate` from end to end: real models of the catalogue, and a user's own."""

from __future__ import annotations

import hashlib
import itertools
import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from harness import __version__
from harness.calibration.cache import CalibrationCache
from harness.cli import main
from harness.corpus.registry import load_catalogue
from harness.corpus.samples import digest_of
from harness.modelfile import prepare
from harness.spec.config import read_config

from .conftest import ROOT, own


@pytest.fixture
def catalogue(monkeypatch):
    """The catalogue's entries, and its folder as the working directory."""
    monkeypatch.chdir(ROOT)
    return load_catalogue(read_config(ROOT / "pyproject.toml"))


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def sqnr_db(reference, values):
    return 10 * np.log10(np.sum(reference**2) / np.sum((reference - values) ** 2))


def properties(path):
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_u8s8_runs_at_any_length(catalogue, tmp_path, capsys):
    out = tmp_path / "wave.onnx"
    assert (
        main(["calibrate", "wave", "--samples", "4", "--method", "percentile", "--emit", "qdq-u8s8", "-o", str(out)])
        == 0
    )
    fp32, int8 = session(catalogue["wave"].onnx()), session(out)
    assert out.stat().st_size < catalogue["wave"].onnx().stat().st_size
    audio = next(f["xs"] for f in catalogue["wave"].samples("test", 0) if f["xs"].size > 40_000)
    for length in (1_120, 16_000, 40_000):
        feeds = {"xs": audio[:, -length:]}
        reference, values = fp32.run(None, feeds)[0], int8.run(None, feeds)[0]
        assert values.shape == reference.shape
        assert np.isfinite(values).all()
        assert not np.array_equal(values, reference), "nothing was quantized"
        assert length == 1_120 or sqnr_db(reference, values) > 5  # of three numbers, one alone decides
    said = capsys.readouterr()
    assert "percentile, ragged, layout single" in said.out
    assert f"wrote {out}\n" in said.out
    assert "observing samples: 4 done" in said.err
    made_from = properties(out)
    assert made_from["harness.harness"] == __version__
    assert json.loads(made_from["harness.model"])["key"] == "wave"


def test_s8s8_is_what_tensorrt_takes(catalogue, tmp_path):
    out = tmp_path / "vad.onnx"
    assert main(["calibrate", "vad", "--samples", "4", "-o", str(out)]) == 0
    graph = onnx.load(out).graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    quantizing = [node for node in graph.node if node.op_type in {"QuantizeLinear", "DequantizeLinear"}]
    assert len(quantizing) > 10
    for node in quantizing:
        assert values[node.input[2]].dtype == np.int8
        assert not values[node.input[2]].any()
    dequantized = {node.output[0] for node in quantizing if node.op_type == "DequantizeLinear"}
    biased = [n for n in graph.node if n.op_type in {"Conv", "Gemm"} and len(n.input) > 2 and n.input[0] in dequantized]
    assert biased
    assert not [node.name for node in biased if node.input[2] in dequantized]
    feeds = next(catalogue["vad"].samples("test", 0))
    assert np.isfinite(session(out).run(None, feeds)[0]).all()


def test_trt_cache_gives_every_weighted_operator_its_tensors(catalogue, tmp_path):
    out = tmp_path / "vad.cache"
    command = ["calibrate", "vad", "--samples", "4", "--method", "minmax", "--emit", "trt-cache"]
    assert main([*command, "--trt-version", "8503", "--trt-algorithm", "EntropyCalibration2", "-o", str(out)]) == 0
    cache = CalibrationCache.loads(out.read_text())
    assert (cache.version, cache.algorithm) == ("8503", "EntropyCalibration2")
    graph = onnx.load(prepare(catalogue["vad"].onnx(), catalogue["vad"].model)).graph
    weights = {tensor.name for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv" and node.input[1] in weights]
    assert convolutions
    for node in convolutions:
        assert {node.input[0], node.output[0]} <= set(cache.scales)


def test_json_holds_every_profile_and_where_it_comes_from(catalogue, tmp_path, capsys):
    out = tmp_path / "vad.json"
    command = ["calibrate", "vad", "--samples", "5", "--seed", "3", "--emit", "json", "--method", "mse"]
    layout = "3-100-180,181-300-938"
    assert main([*command, "--policy", "per_profile", "--layout", layout, "-o", str(out)]) == 0
    found = json.loads(out.read_text())
    assert [found[name] for name in ("format", "harness", "method", "policy", "dialect")] == [
        1, __version__, "mse", "per_profile", "s8s8",
    ]  # fmt: skip
    assert found["model"]["sha256"] == hashlib.sha256(catalogue["vad"].onnx().read_bytes()).hexdigest()
    samples = list(itertools.islice(catalogue["vad"].samples("calibration", 3), 5))
    assert found["corpus"]["digest"] == digest_of(samples)
    lengths = [len(feeds["input"]) for feeds in samples]
    assert found["corpus"]["lengths"] == [min(lengths), max(lengths)]
    first, second = found["profiles"]
    assert (first["min"], first["opt"], second["max"]) == (3, 100, 938)
    assert first["ranges"].keys() == second["ranges"].keys()
    assert first["ranges"] != second["ranges"]
    assert all(low <= 0 <= high for low, high in first["ranges"].values())
    assert "each profile's own opt: 100, 300" in capsys.readouterr().out


def test_one_file_for_each_profile(cache, model, data, tmp_path, capsys):
    command = ["calibrate", str(model), *own("--data", data), "--emit", "trt-cache", "--trt-version", "8503"]
    split = ["--policy", "per_profile", "--layout", "4-6-8,9-12-20"]
    assert main([*command, *split, "-o", str(tmp_path / "small.cache")]) == 0
    first, second = (CalibrationCache.loads((tmp_path / f"small.profile{i}.cache").read_text()) for i in (0, 1))
    # largest values of the samples with 5 and 7, and of those with 9, 12 and 16 frames, percentile 99.99
    assert first.scales["x"] * 127 == pytest.approx(7, rel=0.01)
    assert second.scales["x"] * 127 == pytest.approx(9, rel=0.01)
    assert sorted(path.name for path in tmp_path.glob("small.*")) == [
        "small.onnx", "small.prepared.onnx", "small.profile0.cache", "small.profile1.cache",
    ]  # fmt: skip
    assert "each profile's own opt: 6, 12" in capsys.readouterr().out


def emitted(arguments, out):
    assert main(["calibrate", *map(str, arguments), "--emit", "json", "-o", str(out)]) == 0
    return json.loads(out.read_text())


def test_all_of_your_own_samples_are_used(cache, model, data, tmp_path, capsys):
    found = emitted([model, *own("--data", data, "--method", "minmax")], tmp_path / "all.json")
    assert found["corpus"]["samples"] == 5
    samples = [dict(np.load(path)) for path in sorted(data.iterdir())]
    assert found["corpus"]["digest"] == digest_of(samples)
    whole = np.concatenate([sample["x"].ravel() for sample in samples])
    assert found["profiles"][0]["ranges"]["x"] == pytest.approx([whole.min(), whole.max()])
    table = capsys.readouterr().out
    for row in (
        "samples      5",
        "batches      5",
        "5 / 9 / 16 frames",
        "padded       0.0%",
        "every sample's own length",
    ):
        assert row in table


def test_what_was_seen_for_a_program(cache, model, data, tmp_path, capsys):
    """All that the table has, every range and not the widest alone; on stdout nothing else."""
    out = tmp_path / "small.int8.onnx"
    command = ["calibrate", str(model), *own("--data", data, "--method", "minmax", "-o", out)]
    assert main([*command, "--json"]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert told["corpus"] | {"digest": "", "origin": ""} == {
        "digest": "", "origin": "", "samples": 5, "batches": 5, "lengths": [5, 16],
    }  # fmt: skip
    (ranges,) = told["ranges"]
    assert ranges["x"][1] == 9.0
    assert (told["left_out"], told["lost_fraction"], told["files"]) == (0, 0.0, [str(out)])
    assert main(command) == 0
    assert "9" in capsys.readouterr().out
    assert f"next: harness init {model} --data {data}, and pytest suites/" in " ".join(said.err.split())


def test_a_file_that_is_configured_is_tested_next_and_not_asked_again(
    cache, model, data, tmp_path, capsys, monkeypatch
):
    (tmp_path / "harness.toml").write_text(f'[[models]]\npath = "{model.name}"\naxes = ["x:1"]\nrange = "4:16"\n')
    monkeypatch.chdir(tmp_path)
    command = ["calibrate", str(model), *own("--data", data, "--method", "minmax", "-o", tmp_path / "small.int8.onnx")]
    assert main(command) == 0
    assert capsys.readouterr().err.splitlines()[-1].endswith("--models small")
    (tmp_path / "harness.toml").write_text("models = 1")
    assert main(command) == 0
    assert "next: harness init" in capsys.readouterr().err


def test_the_first_samples_only(cache, model, data, tmp_path):
    found = emitted([model, *own("--data", data, "--samples", "2", "--method", "minmax")], tmp_path / "two.json")
    assert found["corpus"]["samples"] == 2
    assert found["profiles"][0]["ranges"]["x"][1] == 6  # of the second sample


def test_what_padding_and_cutting_did_is_said(cache, model, data, tmp_path, capsys):
    emitted([model, *own("--data", data, "--policy", "pad", "--layout", "4-10-20")], tmp_path / "pad.json")
    table = capsys.readouterr().out
    # to 10: 5, 9 and 7 are padded by 5 + 1 + 3, 12 and 16 lose 2 + 6 of 49
    assert "padded       18.0%" in table
    assert "lost         16.3%" in table
    assert "opt 10 of profile 0 (4-10-20)" in table
    emitted([model, *own("--data", data, "--policy", "truncate", "--layout", "4-10-20")], tmp_path / "cut.json")
    table = capsys.readouterr().out
    assert "left out     3" in table
    assert "batches      2" in table


def test_a_polygraphy_loader_script(cache, model, data, tmp_path):
    (tmp_path / "loader.py").write_text(
        "import glob, numpy as np\n"
        "def load_data():\n"
        f"    for path in sorted(glob.glob(r'{data}/*.npz')):\n"
        "        yield {'x': np.load(path)['x']}\n"
    )
    script = emitted([model, *own("--data", tmp_path / "loader.py")], tmp_path / "script.json")
    folder = emitted([model, *own("--data", data)], tmp_path / "folder.json")
    assert script == folder


def test_a_loader_that_gives_other_samples_each_time(cache, model, tmp_path):
    (tmp_path / "loader.py").write_text(
        "import numpy as np\n"
        "def load_data():\n"
        "    for length in (5, 9, 14):\n"
        "        yield {'x': np.random.default_rng().standard_normal((1, length, 4)).astype(np.float32)}\n"
    )
    found = emitted(
        [model, *own("--data", tmp_path / "loader.py", "--policy", "per_profile", "--layout", "4-6-8,9-12-20")],
        tmp_path / "random.json",
    )
    assert found["corpus"]["batches"] == found["corpus"]["samples"] == 3


def test_the_same_data_give_the_same_bytes(cache, model, data, tmp_path):
    files = [tmp_path / "one.onnx", tmp_path / "two.onnx"]
    for path in files:
        assert main(["calibrate", str(model), *own("--data", data), "-o", str(path)]) == 0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_without_data_it_says_that_the_numbers_are_random(cache, model, tmp_path, capsys):
    found = emitted([model, *own("--samples", "3")], tmp_path / "random.json")
    assert found["corpus"]["origin"] == "synthetic"
    assert "random numbers are observed" in capsys.readouterr().err


FUNCTION = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
g (float[1, T, 4] x) => (float[1, T, 2] y) <float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}> { y = own.scaled(x, w) }
<domain: "own", opset_import: ["" : 17]>
scaled (a, b) => (c) {
  t = Relu(a)
  c = MatMul(t, b)
}"""


def test_a_cache_brings_the_model_that_has_its_names(cache, model, data, tmp_path, capsys):
    path, out = tmp_path / "function.onnx", tmp_path / "out.cache"
    onnx.save(onnx.parser.parse_model(FUNCTION), path)
    command = [*own("--data", data), "--emit", "trt-cache", "--trt-version", "8601", "-o", str(out)]
    assert main(["calibrate", str(path), *command]) == 0
    beside = tmp_path / "out.prepared.onnx"
    said = capsys.readouterr()
    assert f"wrote {out}\nwrote {beside}\n" in said.out
    assert f"build from {beside}, which has the tensor names of the cache" in said.err
    # t has another name where the function is inlined
    assert f"{path.name} does not have 1 of the 2 names" in said.err
    prepared = onnx.load(beside)
    assert set(CalibrationCache.loads(out.read_text()).scales) == {t for n in prepared.graph.node for t in n.output}
    x = np.ones((1, 5, 4), np.float32)
    assert np.allclose(session(beside).run(None, {"x": x})[0], session(path).run(None, {"x": x})[0])

    assert main(["calibrate", str(model), *command]) == 0
    said = capsys.readouterr().err
    assert f"build from {beside}" in said
    assert "does not have" not in said


CONV = """<ir_version: 10, opset_import: ["" : %d]>
g (float[1, T, 4] x) => (float[1, 2, M] y) <float[2, 4, 1] w = {1, 2, 3, 4, 5, 6, 7, 8}> {
  t = Transpose<perm = [0, 2, 1]>(x)
  y = Conv(t, w)
}"""


@pytest.mark.parametrize(
    ("opset", "emit", "said", "unsaid"),
    [
        (17, ["qdq-s8s8"], ["1 one-dimensional Conv (3-D weights)"], ["opset"]),
        (
            18,
            ["qdq-s8s8"],
            ["1 one-dimensional Conv (3-D weights)", "opset 18: TensorRT 8.6's parser knows up to 17"],
            [],
        ),
        (18, ["qdq-u8s8"], [], ["opset", "3-D"]),
        (18, ["trt-cache", "--trt-version", "8601"], ["opset 18: "], ["3-D"]),
        (18, ["trt-cache", "--trt-version", "101600"], [], ["opset", "3-D"]),
        (17, ["trt-cache", "--trt-version", "8601"], [], ["opset", "3-D"]),
    ],
)
def test_what_a_tensorrt_will_refuse_is_said(cache, data, tmp_path, capsys, opset, emit, said, unsaid):
    path = tmp_path / "conv.onnx"
    onnx.save(onnx.parser.parse_model(CONV % opset), path)
    command = ["calibrate", str(path), *own("--data", data), "--method", "minmax", "--emit", *emit]
    assert main([*command, "-o", str(tmp_path / "out")]) == 0
    notes = capsys.readouterr().err
    assert all(text in notes for text in said)
    assert not any(text in notes for text in unsaid)


def test_a_configured_model_is_calibrated_by_its_key(cache, model, data, tmp_path, monkeypatch):
    (tmp_path / "harness.toml").write_text(
        f'[[models]]\npath = "{model.name}"\naxes = ["x:1=frames"]\nrange = "4:20"\ndata = "{data.name}"\n'
    )
    monkeypatch.chdir(tmp_path)
    found = emitted(["small"], tmp_path / "small.json")
    assert found["corpus"]["samples"] == 5  # all, not the half that a test would leave


def test_auto_says_what_it_chose(cache, model, data, tmp_path, capsys):
    found = emitted([model, *own("--data", data, "--method", "auto", "--dialect", "u8s8")], tmp_path / "auto.json")
    said = capsys.readouterr()
    assert found["method"] == "auto"
    assert len(found["chosen"]) == 1
    assert f"chosen       {found['chosen'][0]} (" in said.out
    assert "observing samples: 5 done\n" in said.err  # the tries do not count as samples
    assert "trying every method" in said.err
    again = emitted(
        [model, *own("--data", data, "--method", found["chosen"][0], "--dialect", "u8s8")], tmp_path / "again.json"
    )
    assert again["profiles"] == found["profiles"]


def test_an_input_that_is_always_zero_is_told_of(cache, model, data, tmp_path, capsys):
    command = ["calibrate", str(model), *own("--data", data), "--emit", "json", "--method", "minmax"]
    quiet = "input x is 0 in every sample"
    samples = sorted(data.glob("*.npz"))
    for path in samples[:-1]:
        np.savez(path, x=np.zeros((1, 6, 4), np.float32))
    assert main([*command, "--out", str(tmp_path / "a.json")]) == 0  # the last one holds sound
    assert quiet not in capsys.readouterr().err
    np.savez(samples[-1], x=np.zeros((1, 6, 4), np.float32))
    main([*command, "-o", str(tmp_path / "b.json")])
    assert quiet in capsys.readouterr().err
