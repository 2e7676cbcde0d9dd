"""What a new user does wrong, through the real command: one message, an exit code, and nothing written."""

from __future__ import annotations

import resource
import signal
import time

import numpy as np
import onnx
import pytest


@pytest.fixture
def refused(harness, cache):
    """Run a command that must fail; its exit code and message."""

    def run(*arguments, **options):
        code, stdout, stderr = harness("calibrate", *arguments, "--emit", "qdq-u8s8", "-o", "out.onnx", **options)
        assert stdout == ""
        assert "Traceback" not in stderr
        assert "\x1b" not in stderr
        assert list(harness.folder.iterdir()) == [], "something was written"
        assert not list(cache.glob("corpora/*")), "samples were left behind"
        progress, _, message = stderr.partition("harness: ")
        assert all(": " in line and line.startswith(("reading", "observing")) for line in progress.splitlines())
        return code, message

    return run


def options(data, **changes):
    given = {"axis": "x:T=frames", "range": "4:20", "data": data, **changes}
    return [word for name, value in given.items() if value for word in (f"--{name}", str(value))]


def test_wrong_path_of_the_model(refused, model, data):
    code, message = refused(model.parent / "smal.onnx", *options(data))
    assert code == 2
    assert f"{model.parent / 'smal.onnx'}: no such file" in message
    assert "small.onnx" in message


def test_a_key_that_no_model_has(refused, data):
    code, message = refused("encoder", *options(data))
    assert code == 2
    assert message == (
        "MODEL: no model and no file 'encoder'\n"
        "  -> give the path of an ONNX file, or a key: no catalogue is configured here\n"
    )


def test_not_an_onnx_file(refused, tmp_path, data):
    (tmp_path / "text.onnx").write_text("hello, this is no protobuf")
    code, message = refused(tmp_path / "text.onnx", *options(data))
    assert code == 1
    assert "text.onnx: " in message
    assert "ONNX" in message


def test_no_axis(refused, model, data):
    code, message = refused(model, *options(data, axis=None))
    assert code == 2
    assert "which axis varies? none was named" in message
    assert "give --axis x:1=T" in message


def test_no_range(refused, model, data):
    code, message = refused(model, *options(data, range=None))
    assert code == 2
    assert "which lengths? no range was given" in message
    assert "--range MIN:MAX" in message


def test_wrong_axis_name(refused, model, data):
    code, message = refused(model, *options(data, axis="audio:1=frames"))
    assert code == 2
    assert "no input 'audio'" in message
    assert "the inputs are x: float32[1, T, 4]" in message


def test_wrong_path_of_the_data(refused, model, data):
    code, message = refused(model, *options(data.parent / "date"))
    assert code == 1
    assert f"{data.parent / 'date'}: no such file or folder" in message
    assert f"did you mean {data}?" in message


def test_empty_folder(refused, model, tmp_path):
    (tmp_path / "nothing").mkdir()
    code, message = refused(model, *options(tmp_path / "nothing"))
    assert code == 1
    assert "no .npz file in it, it is empty" in message


def spoil(data, **arrays):
    np.savez(data / "001.npz", **arrays)


GOOD = np.zeros((1, 9, 4), np.float32)


@pytest.mark.parametrize(
    ("arrays", "what", "todo"),
    [
        ({"X1": GOOD}, "array 'X1' is no input of the model", "name it 'x'"),
        ({"features": GOOD}, "array 'features' is no input of the model", "name it 'x'"),
        ({"x1": GOOD[0]}, "array 'x1' is no input of the model", "the inputs are x: float32["),
        ({"x1": GOOD.astype(np.int64)}, "array 'x1' is no input of the model", "the inputs are x: float32["),
        ({"x": GOOD.astype(np.float64)}, "dtype float64, the model takes float32", "x.astype(np.float32)"),
        ({"x": np.array([None, "a"], object)}, "holds pickled Python objects", "no object arrays"),
        ({"x": np.where(np.arange(36).reshape(1, 9, 4) == 7, np.nan, GOOD).astype(np.float32)},
         "input 'x' holds 1 NaN value of 36", "leave the sample out"),
        ({"x": np.zeros((1, 21, 4), np.float32)}, "21 frames, outside the range 4..20", "widen --range"),
    ],
    ids=["name", "another name", "rank", "kind", "dtype", "pickled", "nan", "too long"],
)  # fmt: skip
def test_one_bad_sample(refused, model, data, arrays, what, todo):
    spoil(data, **arrays)
    code, message = refused(model, *options(data))
    assert code == 1
    assert message.startswith(f"{data / '001.npz'}: ")
    assert what in message
    assert todo in message


def test_damaged_sample(refused, model, data):
    (data / "002.npz").write_bytes((data / "002.npz").read_bytes()[:100])
    code, message = refused(model, *options(data))
    assert code == 1
    assert message.startswith(f"{data / '002.npz'}: cannot be read as .npz")


def test_a_model_that_makes_nan(refused, tmp_path, data):
    graph = onnx.parser.parse_graph(
        "g (float[1, T, 4] x) => (float[1, T, 2] y) <float[4, 2] w = {1,2,3,4,5,6,7,8}>"
        "{ s = Log(x)\n y = MatMul(s, w) }"
    )
    path = tmp_path / "log.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    code, message = refused(path, *options(data))
    assert code == 1
    assert "calibration sample 0, tensor 's'" in message
    assert "NaN or infinite" in message


@pytest.mark.parametrize(
    ("script", "what"),
    [
        (
            "def load_data():\n    raise RuntimeError('no licence')\n",
            "the data loader failed: RuntimeError: no licence",
        ),
        ("def load_dat():\n    return []\n", "load_data"),
        ("def load_data():\n    return []\n", "no samples"),
        ("def load_data():\n    yield [1, 2]\n", "gave list, not a dict of arrays"),
        (
            "import sys\ndef load_data():\n    yield 1 if sys.exit(0) else 2\n",
            "the data loader failed: SystemExit: 0",
        ),
        ("import nothing_of_that_name\n", "nothing_of_that_name"),
    ],
    ids=["raises", "other name", "empty", "no dicts", "exits", "does not import"],
)
def test_a_loader_that_fails(refused, model, tmp_path, script, what):
    (tmp_path / "loader.py").write_text(script)
    code, message = refused(model, *options(tmp_path / "loader.py"))
    assert code == 1
    assert what in message


def test_no_sample_of_a_profile(refused, model, data):
    code, message = refused(model, *options(data, policy="per_profile", layout="4-4-4,5-8-20"))
    assert code == 1
    assert "profile 4-4-4" in message
    assert "no calibration sample" in message


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"method": "maximum"}, "unknown method 'maximum'"),
        ({"policy": "stretch"}, "'stretch' is not one of 'ragged', 'pad'"),
        ({"policy": "reinterpret"}, "--policy reinterpret: reads samples as TensorRT misreads them"),
        ({"layout": "4-8"}, "'4-8' is no profile and no layout name"),
        ({"samples": "0"}, "0 is not in the range x>=1"),
        ({"trt-version": "8601"}, "goes with --emit trt-cache or qdq-s8s8 or qdq-s8s8-fp16, not qdq-u8s8"),
        ({"length-input": "x=frames"}, "holds no integers"),
    ],
)
def test_an_option_that_cannot_be_meant(refused, model, data, changes, what):
    code, message = refused(model, *options(data, **changes))
    assert code == 2
    assert what in message


def test_an_option_of_own_files_with_a_key(harness, model):
    (harness.folder / "harness.toml").write_text(
        f'[[models]]\npath = "{model}"\naxes = ["x:1=frames"]\nrange = "4:20"\n'
    )
    code, _, stderr = harness("calibrate", "small", "--range", "4:9", "-o", "out.onnx")
    assert code == 2
    assert "--range describes an ONNX file of your own, but 'small' is a model of the catalogue" in stderr


def test_a_cache_without_its_tensorrt(harness, model, data):
    code, stdout, stderr = harness("calibrate", model, *options(data), "--emit", "trt-cache", "-o", "out.cache")
    assert (code, stdout) == (2, "")
    assert stderr.startswith("harness: --emit trt-cache: whose cache? its header holds your TensorRT's version\n")
    assert "--trt-version 8503 for 8.5.3" in stderr
    assert list(harness.folder.iterdir()) == []


def test_a_cache_does_not_bring_its_model_over_yours(harness, model, data):
    mine = model.rename(model.with_name("mine.prepared.onnx"))
    before = mine.read_bytes()
    out = mine.with_name("mine.cache")
    code, _, stderr = harness(
        "calibrate", mine, *options(data), "--emit", "trt-cache", "--trt-version", "8503", "-o", out
    )
    assert code == 2
    assert f"-o {mine}: is the model itself" in stderr
    assert mine.read_bytes() == before
    assert not out.exists()


def test_missing_folder_for_the_result(harness, model, data, tmp_path):
    out = tmp_path / "no" / "such" / "out.onnx"
    code, _, stderr = harness("calibrate", model, *options(data), "-o", out)
    assert code == 2
    assert f"harness: {out.parent}: no such folder\n  -> mkdir -p {out.parent}\n" == stderr


def test_the_model_is_never_written_over(harness, model, data):
    before = model.read_bytes()
    code, _, stderr = harness("calibrate", model, *options(data), "-o", model)
    assert code == 2
    assert "is the model itself" in stderr
    assert model.read_bytes() == before


def small_files_only():
    # What a full disk does, without one: a write beyond 24 kB fails. (Python ignores SIGXFSZ.)
    resource.setrlimit(resource.RLIMIT_FSIZE, (24_000, 24_000))


def test_full_disk(refused, harness, model, data):
    assert harness("calibrate", model, *options(data), "--emit", "json", "-o", "ranges.json")[0] == 0
    (harness.folder / "ranges.json").unlink()  # what had to be prepared is in the cache now
    code, message = refused(model, *options(data), before=small_files_only)
    assert code == 1
    assert "File too large" in message
    assert "-> free " in message


def test_interrupted(harness, cache, model, tmp_path):
    (tmp_path / "slow.py").write_text(
        "import pathlib, time, numpy as np\n"
        "def load_data():\n"
        "    yield {'x': np.ones((1, 8, 4), np.float32)}\n"
        "    if list(pathlib.Path(r'" + str(cache) + "').glob('corpora/*/*/00000.npz')):\n"
        "        pathlib.Path(r'" + str(tmp_path / "waiting") + "').touch()\n"
        "        time.sleep(60)\n"
    )
    process = harness.start("calibrate", model, *options(tmp_path / "slow.py"), "-o", "out.onnx")
    deadline = time.monotonic() + 60
    while not (tmp_path / "waiting").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout, stderr) == (130, "", "harness: interrupted\n")
    assert list(harness.folder.iterdir()) == []
    assert list(cache.glob("corpora/*")) == []
