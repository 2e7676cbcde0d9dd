"""`pytest suites/` as a user types it: what is selected, what is refused, and that nobody else notices the plugin."""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from harness.workers import find_environments
from harness.workers.absent import not_installed

ROOT = Path(__file__).parents[1]

RUNTIME = f"onnxruntime-{version('onnxruntime')}-cpu"


@pytest.fixture
def refused(suites, own):
    """Run the suites with something wrong; the one message and the exit code."""

    def run(*changes, code=4, **options):
        done = suites.quickly(*own(**options), *changes)
        text = done.text
        assert done.code == code, text
        assert "Traceback" not in text
        assert "harness/" not in text.replace(str(suites.results), "")
        assert "INTERNALERROR" not in text
        assert "During handling" not in text
        assert "collecting" not in text
        return text

    return run


def message(text):
    """What stands behind the one ERROR."""
    assert text.count("ERROR: ") == 1, text
    return text.partition("ERROR: ")[2]


def test_wrong_path(refused, own_model):
    text = message(refused(model=own_model.parent / "smal.onnx"))
    assert f"{own_model.parent / 'smal.onnx'}: no such file" in text
    assert "small.onnx" in text


def test_no_onnx(refused, tmp_path):
    (tmp_path / "text.onnx").write_text("this is no protobuf")
    assert "text.onnx: " in message(refused(model=tmp_path / "text.onnx"))


def test_wrong_axis_name(refused):
    text = message(refused(axis="xs:2=length"))
    assert "no input 'xs'" in text
    assert "x" in text.partition("->")[2]


def test_no_axis(refused):
    assert "--axis x:2=T" in message(refused(axis=None))


@pytest.mark.parametrize("given", ["16", "200:16", "a:b", "0:10"])
def test_no_range(refused, given):
    assert "--range" in message(refused(range=given))


def test_no_data(refused, tmp_path):
    assert "nothing: no such file or folder" in message(refused(data=tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    text = message(refused(data=tmp_path / "empty"))
    assert "empty: no .npz file in it, it is empty" in text
    assert "np.savez" in text


def test_model_without_a_varying_axis(refused, tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "fixed",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, 16])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1, 16])],
    )
    path = tmp_path / "fixed.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    assert "fixed.onnx: " in message(refused(model=path, axis=None))
    assert "16" in message(refused(model=path))


def test_quantized_model(refused, tmp_path):
    graph = helper.make_graph(
        [
            helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        ],
        "quantized",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, "T"])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1, "T"])],
    )
    path = tmp_path / "quantized.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    assert "already quantized" in message(refused(model=path))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--methods", "minmx"], "unknown method 'minmx'"),
        (["--methods", "percentile20"], "percentile 20.0 is not between 50 and 100"),
        (["--policies", "raged"], "unknown policy 'raged'"),
        (["--precision", "int4"], "unknown precision 'int4'"),
        (["--layouts", "16-20-100,120-150-256"], "lengths 101..119 fall between profiles 16-20-100 and 120-150-256"),
        (["--layouts", "16-20-100,90-150-256"], "overlap"),
        (["--layouts", "20-30-256"], "covers 20..256, but the model serves 16..256"),
        (["--layouts", "2-30-256"], "starts below 16"),
        (["--layouts", "bucket3"], "'bucket3' is no profile and no layout name"),
        (["--runtime", "tensorrt-99"], "no runtime matches 'tensorrt-99'"),
        (["--require", "tensorrt-99"], "--require: no runtime matches 'tensorrt-99'"),
        (["--python", "/no/such/python"], "/no/such/python: no such interpreter"),
        (["--matrix", "quik"], "'quik' is neither quick, full nor a readable file"),
        (["--draw", "17,0"], "--draw '17,0' is not LENGTH,INDEX,OFFSET,GAIN"),
        (["--draw=-17,0,0,1.0"], "--draw '-17,0,0,1.0' is no example"),
        (["--draw=17,-1,0,1.0"], "--draw '17,-1,0,1.0' is no example"),
        (["--draw", "17,0,-1,1.0"], "is no example"),
        (["--draw", "17,0,0,nan"], "is no example"),
        (["--seed", "-1"], "--seed -1 is negative"),
        (["--samples", "few"], "--samples 'few' is no number of samples"),
        (["--samples", "0"], "--samples '0' is no number of samples"),
        (["--models", "wave"], "--model and --models exclude each other"),
        (["--bound", "sqnr=15"], "unknown bound 'sqnr'"),
        (["--bound", "shrot:cosine=0.5"], "bounds for 'shrot', which is no length bucket"),
    ],
)
def test_words_that_mean_nothing(refused, options, expected):
    assert expected in message(refused(*options))


def test_options_of_a_model_of_ones_own_without_one(suites):
    done = suites.quickly("--data", "samples")
    assert done.code == 4
    assert "--data is for a model of your own" in message(done.text)


def test_bounds_of_a_configured_model(suites):
    done = suites.quickly("--bound", "sqnr_db=15", "--models", "wave,vad", cwd=ROOT)
    assert done.code == 4
    assert "--bound is for one model, and 2 are chosen" in message(done.text)
    assert "-> choose one: --models KEY" in message(done.text)
    done = suites.quickly("--bound", "shrot:sqnr_db=15", "--models", "wave", cwd=ROOT)
    assert done.code == 4
    assert "bounds for 'shrot', which is no length bucket" in message(done.text)


def test_all_samples_of_an_endless_source(suites):
    done = suites.quickly("--models", "wave", "--samples", "all", "--runtime", RUNTIME, cwd=ROOT)
    assert done.code == 4
    assert "--samples all: the samples of wave have no end" in message(done.text)


@pytest.fixture
def environments(suites):
    """A harness.toml with [environments] where the suites run; gone afterwards."""

    def write(text):
        (suites.folder / "harness.toml").write_text(text)

    yield write
    (suites.folder / "harness.toml").unlink()


LISTED = ["--precision", "fp32", "--layouts", "single", "--collect-only", "-q"]


def test_configured_environments_are_called_by_their_names(suites, own, environments):
    environments(
        f"[environments]\nmine = {json.dumps(sys.executable)}\ngone = '/no/such/python'\n"
        "far = {python = 'python3', host = 'ssh=-F none -p 1 me@127.0.0.1'}\n"
    )
    for more in ([], ["--runtime", "mine"], ["--require", "mine"]):
        done = suites.quickly(*own(), *LISTED, *more)
        assert done.code == 0, done.text
        assert f"test_build[small-{RUNTIME}-fp32-single]" in done.out
    for option in ("--runtime", "--require"):
        gone = suites.quickly(*own(), *LISTED, option, "gone")
        assert gone.code == 4
        assert "[environments] gone in " in message(gone.text)
        assert "/no/such/python: no such interpreter" in message(gone.text)
        far = suites.quickly(*own(), *LISTED, option, "far")
        assert far.code == 4
        assert re.search("far in .*: (cannot be reached|there is no ssh)", message(far.text))
    unknown = suites.quickly(*own(), *LISTED, "--runtime", "mien")
    assert "mine, gone, far" in message(unknown.text)


def test_what_the_configuration_requires(refused, environments):
    environments(
        "require = ['far']\n[environments]\nfar = {python = 'python3', host = 'ssh=-F none -p 1 me@127.0.0.1'}\n"
    )
    assert re.search("cannot be reached|there is no ssh", message(refused()))


@pytest.fixture
def library(suites, tmp_path):
    """An interpreter whose onnxruntime says that it is version 0.0, under a name; its folder."""
    home = tmp_path / "venv"
    suites.python("-m", "venv", "--without-pip", home)
    (packages,) = home.glob("lib/python3*/site-packages")
    (packages / "onnxruntime.py").write_text("__version__ = '0.0'\ndef get_available_providers(): return []\n")
    (home / "bin" / "python-of-mine").symlink_to("python")
    return home / "bin"


def test_an_interpreter_by_name_or_relative_path_is_chosen(suites, own, library):
    path = {"PATH": f"{library}:{suites.environ['PATH']}"}
    for given, where, environ in (
        ("python-of-mine", suites.folder, path),
        ("bin/python-of-mine", library.parent, {}),
        ("./bin/../bin/python-of-mine", library.parent, {}),
    ):
        done = suites(*own(), *LISTED, "--python", given, cwd=where, environ=environ)
        assert done.code == 0, done.text
        assert "test_build[small-onnxruntime-0.0-cpu-fp32-single]" in done.out, given


def test_environments_that_only_build_have_only_builds(suites, own, library):
    """TensorRT-RTX without pycuda: nothing runs, whatever GPU there is."""
    (packages,) = library.parent.glob("lib/python3*/site-packages")
    (packages / "tensorrt_rtx.py").write_text("__version__ = '9.9'\n")
    done = suites.quickly(
        *own(), "--layouts", "single", "--python", library / "python-of-mine", "--runtime", "tensorrt-rtx",
        "--collect-only", "-q",
    )  # fmt: skip
    assert done.code == 0, done.text
    found = [line.partition("::")[2] for line in done.out.splitlines() if "tensorrt-rtx-9.9" in line]
    assert found
    assert {line.partition("[")[0] for line in found} == {"test_build"}


def test_missing_runtime_names_what_there_is_and_how_to_get_it(refused):
    text = message(refused("--runtime", "tensorrt-99"))
    assert RUNTIME in text
    assert "python -m tox run -e ONE --notest" in text


def test_unknown_model_key(suites):
    done = suites.quickly("--models", "wav", "--runtime", RUNTIME, cwd=ROOT)
    assert done.code == 4
    assert "--models: no model 'wav'" in message(done.text)
    assert "did you mean 'wave'?" in done.text


def test_matrix_file(refused, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("precission = ['int8']")
    text = message(refused("--matrix", file))
    assert f"{file}: unknown field 'precission'" in text
    file.write_text("compared = ['minmax']")
    assert "unknown policy ''" in message(refused("--matrix", file))


def test_configuration_file(refused, suites):
    (suites.folder / "harness.toml").write_text("[[models]]\npath = 'x.onnx'\naxes = ['x:1']\nrange = '1:2'\nkeey = 1")
    try:
        assert "unknown key models[0].keey" in message(refused()).replace("models.*.", "models[0].")
    finally:
        (suites.folder / "harness.toml").unlink()


def test_the_suites_select_exactly_what_was_asked_for(suites, own):
    layouts = ["single", "16-100-120,121-150-256"]
    done = suites.quickly(
        *own(), "--methods", "minmax", "--policies", "pad,window", "--precision", "int8",
        "--layouts", layouts[0], "--layouts", layouts[1], "--runtime", RUNTIME, "--collect-only", "-q",
    )  # fmt: skip
    assert done.code == 0
    found = {line.partition("[")[2].rstrip("]") for line in done.out.splitlines() if "::test_corpus[" in line}
    assert found == {f"small-{RUNTIME}-int8-minmax-{p}-{layout}" for p in ("pad", "window") for layout in layouts}
    others = {line.partition("[")[2].rstrip("]") for line in done.out.splitlines() if "::test_drawn[" in line}
    assert others == {f"small-{RUNTIME}-int8-minmax-pad-{layout}" for layout in layouts}
    assert not suites.results.exists(), "collecting made a run"


def test_ids_of_the_catalogue(suites):
    done = suites.quickly(
        "--models", "wave", "--methods", "percentile", "--layouts", "buckets3", "--runtime", RUNTIME,
        "--collect-only", "-q", under="test_accuracy.py", cwd=ROOT,
    )  # fmt: skip
    assert done.code == 0
    assert f"test_corpus[wave-{RUNTIME}-int8-percentile-ragged-buckets3]" in done.out


def test_loaded_by_conftest_alone(suites, own):
    """Every other test here loads the plugin twice, by its entry point and by conftest.py, where it is installed."""
    done = suites(
        *own(), "--runtime", RUNTIME, "--collect-only", "-q", "-p", "pytest_benchmark.plugin",
        environ={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert done.code == 0, done.text
    assert f"test_build[small-{RUNTIME}-fp32-single]" in done.out


UNRELATED = """
import re
import sys
from importlib.metadata import version
from pathlib import Path
import pytest

def test_without_us(case):
    assert not {"onnxruntime", "onnx", "execnet", "numpy"} & set(sys.modules)
    ours = {name for name in sys.modules if name.startswith("harness.")}
    assert not ours - {"harness.plugin", "harness.plugin_options", "harness.errors"}

@pytest.fixture
def case():
    return 1

def test_an_error_keeps_its_traceback():
    try:
        raise KeyError("first")
    except KeyError:
        raise FileNotFoundError("theirs")
"""


def test_other_projects_do_not_notice(suites, tmp_path):
    (tmp_path / "test_theirs.py").write_text(UNRELATED)
    done = suites.python(
        "-m", "pytest", "-p", "no:cacheprovider", "-p", "harness.plugin", "test_theirs.py", cwd=tmp_path,
        environ={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # xdist, if it is here, brings execnet itself
    )  # fmt: skip
    assert done.code == 1
    assert "1 failed, 1 passed" in done.out
    assert "harness:" not in done.out
    assert 'raise FileNotFoundError("theirs")' in done.out
    assert "During handling of the above exception" in done.out


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"y": np.zeros((1, 1, 40), np.float32)}, "'y'"),
        ({"x": np.zeros((1, 1, 40), np.complex64)}, "complex64"),
        ({"x": np.full((1, 1, 40), np.nan, np.float32)}, "NaN"),
        ({"x": np.array([{}], dtype=object)}, "holds pickled Python objects"),
        ({"x": np.zeros((1, 1, 4000), np.float32)}, "outside the range 16..256"),
        ({"x": np.zeros((1, 40), np.float32)}, "x"),
    ],
    ids=["name", "dtype", "nan", "pickle", "length", "rank"],
)
def test_one_bad_sample(refused, own_data, tmp_path, arrays, expected):
    folder = tmp_path / "bad"
    folder.mkdir()
    for file in own_data.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    np.savez(folder / "003.npz", **arrays)
    text = refused(data=folder, code=1)
    assert f"{folder / '003.npz'}: " in text
    assert expected in text.partition("003.npz: ")[2]
    assert text.count("DataError: ") <= 2, "said more often than in the failure and in the summary"
    assert "passed" not in text
    assert "no model is left to run" in text


def test_a_score_that_is_not_there(refused):
    text = refused("--score", "no_such_module:f", code=1)
    assert "--score no_such_module:f: cannot import 'no_such_module'" in text


def test_a_refused_model_leaves_the_others_running(suites, own_model, own_data, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    np.savez(bad / "0.npz", x=np.full((1, 1, 40), np.nan, np.float32))
    table = {"good": own_data, "bad": bad}
    text = "".join(
        f"[[models]]\nkey = {json.dumps(key)}\npath = {json.dumps(str(own_model))}\naxes = ['x:2=length']\n"
        f"range = '16:256'\ndata = {json.dumps(str(data))}\n"
        for key, data in table.items()
    )
    (tmp_path / "harness.toml").write_text(text)
    done = suites.quickly(
        "--runtime", RUNTIME, "--precision", "fp32", "--layouts", "single", "--layouts", "buckets3",
        under="test_build.py", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 1
    assert "2 passed, 1 skipped, 1 error" in done.out
    assert "bad was refused, see its first test" in done.out


def test_read_only_results(refused, suites, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    text = refused("--results", blocked / "results", code=1)
    assert f"{blocked}/results/" in text
    assert "cannot be written: Not a directory" in text


@pytest.mark.skipif(sys.platform != "linux", reason="resource limits as Linux has them")
def test_full_disk(suites, own, full_disk):
    selected = [*own(), "--runtime", RUNTIME, "--layouts", "single", "--layouts", "buckets3", "--methods", "minmax"]
    suites(*selected, under="test_build.py")  # fills the cache, so that only records are written from now on
    done = suites(*selected, under="test_build.py", before=full_disk)
    assert done.code == 1
    assert "the disk is full; the records so far are intact" in done.text
    assert done.text.count("the disk is full") == 1
    assert "Traceback" not in done.text
    (run,) = suites.new_runs()
    assert [json.loads(line) for line in run.read_text().splitlines()]


@pytest.fixture(scope="module")
def missing():
    """A runtime that tox knows and that is not installed here."""
    absent = not_installed(find_environments(ROOT), "tensorrt")
    if not absent:
        pytest.skip("everything that tox knows is installed here")
    return absent[0]


@pytest.mark.parametrize("beside", [[], [RUNTIME]], ids=["alone", "beside"])
def test_a_known_runtime_that_is_not_installed_is_skipped_with_the_command(suites, own, missing, beside):
    asked = ",".join([missing.name, *beside])
    done = suites.quickly(*own(), "--layouts", "single", "--precision", "fp32", "--runtime", asked, "-m", "not latency")
    assert done.code == 0, done.text
    assert "python -m tox run -e " in missing.reason
    (line,) = [line for line in done.out.splitlines() if line.startswith("SKIPPED") and missing.reason in line]
    assert " [6] " in line, "the tests of every suite, in one line"
    assert (" passed" in done.out.splitlines()[-1]) is bool(beside)
    assert len(suites.new_runs()) == len(beside), "a run of which nothing is there has no records"


def test_a_required_runtime_that_is_not_installed_fails_the_run(refused, missing):
    text = message(refused("--runtime", missing.name, "--require", missing.name))
    assert f"--require: no runtime matches '{missing.name}'" in text
    assert "python -m tox run -e " in text
