"""Calibration: the pointer contract, caches, callbacks that fail."""

from __future__ import annotations

import re
import struct

import numpy as np
import pytest

from tests.fake_tensorrt import models, versions

CALIBRATING = [v for v in versions() if int(v.split(".")[0]) < 11]
OPT = 8


def scales(text):
    return {
        n: struct.unpack("!f", bytes.fromhex(v))[0] for n, v in re.findall(r"^(.+): ([0-9a-f]{8})$", text, re.MULTILINE)
    }


def as_scale(values):
    return float(np.float32(np.abs(values).max()) / np.float32(127))


@pytest.fixture
def conv(bench):
    """A conv bench with one profile, opt 8; and its network."""

    def make(version="8.5"):
        made = bench(version)
        made.profile("x", (1, 4, 2), (1, 4, OPT), (1, 4, 64))
        return made, made.parsed(models.conv())

    return make


@pytest.mark.parametrize("version", CALIBRATING)
def test_every_version_that_has_calibrators(conv, version):
    made, network = conv(version)
    batches = [np.full((1, 4, OPT), value, np.float32) for value in (1, 3, 2)]
    calibrator = made.calibrator(batches)
    assert made.build(network) is not None, made.errors
    first, *_ = calibrator.written.splitlines()
    major, minor, patch = (int(n) for n in f"{version}.0.0".split(".")[:3])
    number = f"{major}{minor}0{patch}" if major < 10 else f"{major}{minor:02}{patch:02}"
    assert first == f"TRT-{number}-MinMaxCalibration"
    found = scales(calibrator.written)
    assert found["x"] == as_scale(batches[1])
    assert list(found) == ["x", "c", "y"]
    assert calibrator.names == [["x"]] * 4
    assert not made.device.violations


def test_headers_by_algorithm(bench):
    for kind, algorithm in (
        ("IInt8EntropyCalibrator2", "EntropyCalibration2"),
        ("IInt8EntropyCalibrator", "EntropyCalibration"),
        ("IInt8LegacyCalibrator", "LegacyCalibration"),
    ):
        made = bench("8.5")
        made.profile("x", (1, 4), (OPT, 4), (64, 4))
        calibrator = made.calibrator([np.ones((OPT, 4), np.float32)], kind=kind)
        assert made.build(made.parsed(models.matmul())) is not None
        assert calibrator.written.startswith(f"TRT-8503-{algorithm}\n")


def test_a_longer_batch_is_read_as_the_first_opt_volume_elements(conv, bench):
    """What an H200 showed: rows re-strided where the varying axis is innermost, a tail unseen where it is outermost."""
    loud = np.random.default_rng(1).normal(size=(1, 4, 4 * OPT)).astype(np.float32)
    loud[..., OPT:] *= 9
    made, network = conv()
    calibrator = made.calibrator([loud])
    assert made.build(network) is not None
    assert scales(calibrator.written)["x"] == as_scale(loud.ravel()[: 4 * OPT])
    assert scales(calibrator.written)["x"] > 2 * as_scale(loud[..., :OPT])

    rows = np.random.default_rng(1).normal(size=(4 * OPT, 4)).astype(np.float32)
    rows[OPT:] *= 9
    outer = bench("8.5")
    outer.profile("x", (1, 4), (OPT, 4), (64, 4))
    calibrator = outer.calibrator([rows])
    assert outer.build(outer.parsed(models.matmul())) is not None
    assert scales(calibrator.written)["x"] == as_scale(rows[:OPT])


def test_a_shorter_batch_is_read_beyond_its_end(conv):
    made, network = conv()
    made.calibrator([np.ones((1, 4, OPT - 1), np.float32)])
    assert made.build(network) is None
    assert "illegal memory access" in made.errors
    assert "calibration batch of x: 128 bytes" in made.device.violations[0]


def test_profile_0_unless_another_is_set(bench):
    batch = np.arange(4 * 32, dtype=np.float32)
    for given, read in ((False, 4 * OPT), (True, 4 * 32)):
        made = bench("8.5")
        made.profile("x", (1, 4, 2), (1, 4, OPT), (1, 4, 16))
        second = made.profile("x", (1, 4, 17), (1, 4, 32), (1, 4, 64))
        if given:
            assert made.config.set_calibration_profile(second)
        calibrator = made.calibrator([batch])
        assert made.build(made.parsed(models.conv())) is not None
        assert scales(calibrator.written)["x"] == as_scale(batch[:read])
        assert ("Calibrating with Profile 0" in made.warnings) is not given


def test_caches(conv):
    text = "TRT-{}\nx: 3d000000\nc: 3d800000\ny: 3d800000\n"
    for heading, asked in (
        ("8503-MinMaxCalibration", 0),
        ("8401-MinMaxCalibration", 0),  # another version is taken without a word
        ("8503-EntropyCalibration2", 2),
    ):
        made, network = conv("8.5")
        calibrator = made.calibrator([np.ones((1, 4, OPT), np.float32)], cache=text.format(heading).encode())
        assert made.build(network) is not None
        assert len(calibrator.names) == asked
        assert (calibrator.written is None) is (asked == 0)


def test_a_scale_that_is_missing_leaves_the_layer_in_float(conv):
    x = np.random.default_rng(2).normal(size=(1, 4, 20)).astype(np.float32)
    outputs = {}
    for line in ("", "x: 3d800000"):
        made, network = conv("8.6")
        made.calibrator([], cache=f"TRT-8601-MinMaxCalibration\n{line}\nc: 3d800000\n".encode())
        outputs[line] = made.run(made.engine(network), x)
        assert ("Missing scale and zero-point for tensor x" in made.warnings) is (line == "")
    difference = np.abs(outputs[""] - outputs["x: 3d800000"]).max()
    assert 0 < difference < 0.5


def test_int8_differs_from_float_by_its_scale(conv):
    x = np.random.default_rng(2).normal(size=(1, 4, 20)).astype(np.float32)
    made, network = conv("8.6")
    exact = made.run(made.engine(network), x)
    errors = []
    for largest in (4.0, 40.0):
        made, network = conv("8.6")
        made.calibrator([np.full((1, 4, OPT), largest, np.float32)])
        errors.append(np.abs(made.run(made.engine(network), x) - exact).mean())
    assert 0 < errors[0] < errors[1]


def test_what_get_batch_raises_ends_the_data_silently(conv, capfd):
    def batches():
        yield np.ones((1, 4, OPT), np.float32)
        raise ValueError("the file is gone")

    made, network = conv()
    calibrator = made.calibrator(batches())
    assert made.build(network) is not None
    assert scales(calibrator.written)["x"] == as_scale(1.0)
    assert "Exception caught in get_batch(): the file is gone" in capfd.readouterr().err
    assert "gone" not in made.errors


def test_no_data_at_all(conv):
    made, network = conv()
    made.calibrator([])
    assert made.build(network) is None
    assert "Calibration failure occurred with no scaling factors detected" in made.errors


def test_a_calibrator_beside_qdq_is_not_used(bench):
    made = bench("8.6")
    made.profile("x", (1, 4, 2), (1, 4, OPT), (1, 4, 64))
    calibrator = made.calibrator([np.ones((1, 4, OPT), np.float32)])
    assert made.build(made.parsed(models.quantized())) is not None
    assert calibrator.names == []
    assert "Calibrator won't be used in explicit precision mode" in made.warnings
