"""The genuine TensorRT 8.4.1.5, 8.5.3.1 and 8.6.0, imported on a machine that need not have a GPU.

Opt-in, for the wheels are large (550 to 820 MB, with the libraries they want 2 to 3 GB)::

    HARNESS_PYCUDA= python -m tox run -e trt84,trt85,trt86 --notest
    python -m tox run -e genuine

What is genuine here: the classes that our calibrators derive from, what pybind11 makes of them, names and numbers of
enums, sizes of types. No build and no calibration: these want a GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from harness.runtimes.trt_api import USES
from harness.runtimes.trt_calibrator import CLASSES
from harness.runtimes.trt_common import DTYPES
from tests.fake_tensorrt import facts

pytestmark = pytest.mark.genuine

ROOT = Path(__file__).parents[2]
RELEASES = {"trt84": "8.4.1.5", "trt85": "8.5.3.1", "trt86": "8.6.0"}
DUMPS = {"8.4.1.5": "8.4.1.5", "8.5.3.1": "8.5.3.1", "8.6.0": "8.6.1"}
"""Release -> the version of the stand-in that is like it; there is no dump of 8.6.0."""
SINCE_8_6_1 = {"OnnxParser": ["clear_flag", "flags", "get_flag", "set_flag"], "OnnxParserFlag": ["the class"]}
ALGORITHMS = {
    "EntropyCalibration": "ENTROPY_CALIBRATION",
    "EntropyCalibration2": "ENTROPY_CALIBRATION_2",
    "MinMaxCalibration": "MINMAX_CALIBRATION",
    "LegacyCalibration": "LEGACY_CALIBRATION",
}


@pytest.fixture(scope="module", params=list(RELEASES))
def genuine(request):
    """What ``program.py`` prints in tox's environment of a release."""
    python = ROOT / ".tox" / request.param / "bin" / "python"
    install = f"HARNESS_PYCUDA= python -m tox run -e {request.param} --notest"
    if not python.exists():
        if os.environ.get("HARNESS_REQUIRE_GENUINE"):
            pytest.fail(f"no genuine TensorRT {RELEASES[request.param]}; install it with: {install}")
        pytest.skip(f"no genuine TensorRT {RELEASES[request.param]}; install it with: {install}")
    command = [str(python), "-I", str(Path(__file__).with_name("program.py")), str(ROOT / "harness")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["version"] == RELEASES[request.param]
    assert said["python"] == [3, 10]
    return said


@pytest.mark.parametrize("algorithm", CLASSES)
def test_calibrators_are_of_the_genuine_class(genuine, algorithm):
    said = genuine["calibrators"][algorithm]
    assert said["class"] is said["interface"] is True
    assert said["algorithm"] == ALGORITHMS[algorithm], "its own answer: the base's constructor has been called"
    assert said["batch_size"] == 1, "through the C++ interface"


def test_a_calibrator_that_leaves_the_bases_constructor_out_is_refused(genuine):
    """Why ours calls it, and why the stand-in is as strict."""
    assert "__init__() must be called when overriding __init__" in genuine["unmade"]


def test_outputs_of_any_size_have_a_genuine_allocator(genuine):
    said = genuine["allocator"]
    if said is None:
        assert genuine["version"] == "8.4.1.5"
    else:
        assert said == {"class": True, "at": [0, 0, 1], "shapes": {"y": [2, 3]}}


@pytest.mark.parametrize("algorithm", CLASSES)
def test_batches_are_addresses_in_the_order_of_the_names(genuine, algorithm):
    first, second, end = genuine["calibrators"][algorithm]["batches"]
    assert first["types"] == second["types"] == ["int"]
    assert first["values"] == [[7.0] * 4, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]]
    assert second["values"][1] == [1.0, 2.0, 3.0, 4.0, 4.0, 5.0, 6.0, 7.0], "followed by what the one before left"
    assert end["values"] is None
    told = genuine["calibrators"][algorithm]["facts"]
    assert (told["supplied"], told["consumed"], told["asked"]) == (2, 2, 3)
    assert genuine["calibrators"][algorithm]["freed"]


@pytest.mark.parametrize("algorithm", CLASSES)
def test_caches_are_read_and_written(genuine, algorithm):
    said = genuine["calibrators"][algorithm]
    assert said["cache"] is None
    assert said["told"] == "TRT-8503-X\n"
    assert said["write"] is None
    assert said["facts"]["written"] == "TRT-1-X\nx: 3c000000\n"


def test_types_have_the_size_that_the_table_says(genuine):
    assert {"FLOAT", "HALF", "INT8", "INT32", "BOOL"} <= set(genuine["itemsize"])
    for name, (ours, theirs) in genuine["itemsize"].items():
        assert ours == theirs, name
    unnamed = set(genuine["enums"]["DataType"]) - set(DTYPES)
    assert unnamed <= {"FP8"}, "types that numpy has no name for"


def test_names_that_the_adapters_use_are_in_the_versions_that_the_table_says(genuine):
    release = facts.numbers(genuine["version"])
    wrong = {}
    for name, (first, last) in USES.items():
        owner, _, member = name.rpartition(".")
        end = facts.numbers(last) if last else ()
        promised = release >= facts.numbers(first) and (not end or release[: len(end)] <= end)
        if (member in genuine["names"].get(owner, ())) is not promised:
            wrong[name] = promised
    assert wrong == {}


def test_the_stand_in_has_exactly_the_genuine_names(genuine):
    api = facts.facts(DUMPS[genuine["version"]])
    classes = {name: members for name, members in genuine["names"].items() if name and name[0].isupper()}
    differing = {name: sorted(set(members) ^ _public(api, name)) for name, members in classes.items()}
    differing |= {name: ["the class"] for name in set(api["classes"]) - set(classes)}
    later = SINCE_8_6_1 if genuine["version"] == "8.6.0" else {}
    assert {name: members for name, members in differing.items() if members} == later


def _public(api, name):
    """Names of a class and of its bases, as ``dir`` has them: enums have more, and nested classes are names, too."""
    entry = api["classes"].get(name, {})
    found = {one for kind in ("methods", "properties", "enum_members") for one in entry.get(kind, ())}
    found |= {"name", "value"} if "enum_members" in entry else set()
    found |= {other.rpartition(".")[2] for other in api["classes"] if other.startswith(f"{name}.")}
    found |= {one for base in entry.get("bases", ()) for one in _public(api, base)}
    return {one for one in found if not one.startswith("_")}


def test_enums_have_the_numbers_of_the_stand_in(genuine):
    api = facts.facts(DUMPS[genuine["version"]])
    known = {name: entry["enum_members"] for name, entry in api["classes"].items() if "enum_members" in entry}
    shared = set(known) & set(genuine["enums"])
    assert {"BuilderFlag", "DataType", "CalibrationAlgoType", "NetworkDefinitionCreationFlag", "TacticSource"} <= shared
    assert {name: genuine["enums"][name] for name in shared} == {name: known[name] for name in shared}


def test_explicit_batch_is_asked_for_by_name(genuine):
    assert genuine["creation"] == 1 << genuine["enums"]["NetworkDefinitionCreationFlag"]["EXPLICIT_BATCH"]


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="there is a GPU: a builder can be made")
def test_without_a_gpu_the_builder_says_so(genuine):
    assert genuine["builder"]["kind"] == "environment"
    assert "makes no builder here" in genuine["builder"]["what"]
