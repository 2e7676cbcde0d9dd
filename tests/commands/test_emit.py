from __future__ import annotations

import resource
import subprocess
import sys
from types import SimpleNamespace

import onnx
import pytest

from harness.calibration.cache import CalibrationCache
from harness.commands.emit import QDQ, TrtCache, check_target, targets, write_all
from harness.errors import UsageError, WriteFailed
from harness.spec.calibration import Dialect

from .conftest import ROOT


def test_one_file_keeps_its_name_several_are_numbered(tmp_path):
    assert targets(tmp_path / "a.b.onnx", 1) == [tmp_path / "a.b.onnx"]
    assert targets(tmp_path / "a.b.onnx", 2) == [tmp_path / "a.b.profile0.onnx", tmp_path / "a.b.profile1.onnx"]


def test_all_files_appear_with_the_usual_permissions(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "usual").touch()
    write_all({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert (tmp_path / "a").read_bytes() + (tmp_path / "b").read_bytes() == b"12"
    assert (tmp_path / "b").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert len(list(tmp_path.iterdir())) == 3


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "real").touch()
    (tmp_path / "link").symlink_to("real")
    write_all({tmp_path / "link": b"1"})
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"1"


def test_none_is_written_where_one_does_not_fit(tmp_path):
    # The second file is too large for the limit, as it would be for a full disk.
    program = (
        "import sys\nfrom pathlib import Path\nfrom harness.commands.emit import write_all\n"
        "folder = Path(sys.argv[1])\n"
        "write_all({folder / 'a': b'new', folder / 'b': bytes(10_000)})"
    )
    (tmp_path / "a").write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000)),
    )
    assert "WriteFailed: " in done.stderr
    assert "File too large" in done.stderr
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_folder_that_went_away_is_named(tmp_path):
    with pytest.raises(WriteFailed, match="No such file or directory") as caught:
        write_all({tmp_path / "gone" / "a": b"1"})
    assert caught.value.where == str(tmp_path / "gone" / "a")


def test_places_where_nothing_can_be_written(tmp_path):
    (tmp_path / "model.onnx").touch()
    (tmp_path / "link.onnx").symlink_to("model.onnx")
    check_target(tmp_path / "new.onnx", tmp_path / "model.onnx")
    with pytest.raises(UsageError, match="no such folder"):
        check_target(tmp_path / "gone" / "a.onnx")
    with pytest.raises(UsageError, match="a folder, not a file"):
        check_target(tmp_path)
    with pytest.raises(UsageError, match="the model itself"):
        check_target(tmp_path / "link.onnx", tmp_path / "model.onnx")


@pytest.mark.parametrize("version", ["8.6.1", "861", "86010000", "v8601", "", "80601", "10160", "1016", "0860"])
def test_a_version_that_no_cache_header_has(version):
    with pytest.raises(UsageError, match="no version"):
        TrtCache(version, "MinMaxCalibration")


@pytest.mark.parametrize("version", ["110000", "110100", "120000", "1100", "11000"])
def test_there_are_no_caches_since_tensorrt_11(version):
    with pytest.raises(UsageError, match=r"11\.0 removed calibration") as error:
        TrtCache(version, "MinMaxCalibration")
    assert "--emit qdq-s8s8" in error.value.todo


@pytest.mark.parametrize("version", ["8401", "8503", "8601", "9300", "100000", "101600"])
def test_versions_that_read_caches(version):
    assert TrtCache(version, "MinMaxCalibration").version == version


def test_an_algorithm_that_tensorrt_does_not_know():
    with pytest.raises(UsageError, match="unknown algorithm 'Percentile'"):
        TrtCache("8601", "Percentile")


@pytest.mark.parametrize("version", ["8.6.1", "861", "", "10160"])
def test_a_qdq_graph_for_a_version_that_nobody_has(version):
    if version:
        with pytest.raises(UsageError, match="no version"):
            QDQ(Dialect.S8S8, version)
    else:
        assert QDQ(Dialect.S8S8).version == ""


@pytest.mark.parametrize("version", ["8503", "101600", "110400"])
def test_a_qdq_graph_for_any_version(version):
    assert QDQ(Dialect.S8S8, version).version == version


def test_a_cache_holds_outputs_too(model):
    """Both inputs and both outputs; what a ReLU cuts off has the range behind it, as in the suites' caches."""
    form, proto = TrtCache("8601", "MinMaxCalibration"), onnx.load(model)
    assert form.tensors(proto) == ["x", "s", "y"]
    found = SimpleNamespace(ranges=({"x": (-1.0, 1.0), "s": (0.0, 2.0), "y": (-3.0, 3.0)},))
    (text,) = form.contents(model, model, found, None, {})
    scales = CalibrationCache.loads(text.decode()).scales
    assert set(scales) == {"x", "h", "s", "y"}
    assert scales["h"] == scales["s"] == pytest.approx(2 / 127)
