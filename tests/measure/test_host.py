from __future__ import annotations

import copy
import sys
from types import SimpleNamespace

import pytest

from harness.errors import UsageError
from harness.measure.host import comparable, container_limits, differences, gpus, host, throttled
from harness.results.record import encode, record

HERE = {
    "host": "one", "cpu": "Xeon", "cores_usable": 2, "governor": None, "memory_bytes": 8 << 30, "load": [0.1, 0.2, 0.3],
    "container": {"cores": 2.0, "memory_bytes": None},
    "worker": {"library": "onnxruntime", "version": "1.32.0", "device": "cpu"},
    "settings": {"threads": 1, "spinning": False},
    "gpus": [{"name": "L4", "driver": "570.1", "sm_clock_mhz": 2040, "application_clock_mhz": 2040}],
}  # fmt: skip


def changed(*path, value):
    other = copy.deepcopy(HERE)
    inside = other
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = value
    return other


def test_a_host_differs_in_nothing_from_itself():
    assert differences(host(), host()) == []
    assert differences(HERE, HERE) == []


def test_this_host_can_be_recorded():
    found = host()
    assert found["cores_usable"] >= 1
    assert len(found["load"]) == 3
    assert set(found["container"]) == {"cores", "memory_bytes"}
    encode(record("selftest", "run", {}, environment=found))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("host",), "two", "host: one against two"),
        (("cpu",), "EPYC", "cpu: Xeon against EPYC"),
        (("cores_usable",), 4, "usable cores: 2 against 4"),
        (("container", "cores"), 1.5, "container's cores: 2.0 against 1.5"),
        (("worker", "version"), "1.33.0", "runtime version: 1.32.0 against 1.33.0"),
        (("settings", "threads"), 4, "threads: 1 against 4"),
        (("settings", "spinning"), True, "spinning: False against True"),
        (("gpus",), [], "GPUs: 1 against 0"),
        (("gpus", 0, "driver"), "580.2", "GPU 0 driver: 570.1 against 580.2"),
        (("gpus", 0, "application_clock_mhz"), 1500, "GPU 0 application_clock_mhz: 2040 against 1500"),
    ],
)
def test_what_forbids_a_comparison(path, value, said):
    other = changed(*path, value=value)
    assert differences(HERE, other) == [said]
    with pytest.raises(UsageError) as raised:
        comparable(HERE, other, "old.jsonl")
    assert said in str(raised.value)
    assert "old.jsonl" in str(raised.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("load",), [9.0, 9.0, 9.0]),
        (("governor",), "performance"),  # the other side does not know its own
        (("gpus", 0, "sm_clock_mhz"), 300),
        (("worker",), None),
        (("gpus",), None),
    ],
)
def test_what_does_not(path, value):
    comparable(HERE, changed(*path, value=value), "old.jsonl")


def test_all_differences_are_named():
    assert len(differences(HERE, {**HERE, "host": "two", "cpu": "EPYC"})) == 2


@pytest.mark.parametrize(
    ("cpu", "memory", "expected"),
    [
        ("150000 100000\n", "1073741824\n", {"cores": 1.5, "memory_bytes": 1 << 30}),
        ("max 100000\n", "max\n", {"cores": None, "memory_bytes": None}),
        ("max\n", None, {"cores": None, "memory_bytes": None}),
        ("50000 0", "0", {"cores": None, "memory_bytes": 0}),
        (None, None, {"cores": None, "memory_bytes": None}),
    ],
)
def test_limits_of_a_container(tmp_path, cpu, memory, expected):
    for name, text in (("cpu.max", cpu), ("memory.max", memory)):
        if text is not None:
            (tmp_path / name).write_text(text)
    assert container_limits(tmp_path) == expected


class NVMLError(Exception):
    pass


def nvml(**broken):
    """pynvml as it answers for one L4 that is too hot; what is named raises instead."""

    def answer(value):
        return lambda *_: value

    calls = {
        "nvmlInit": answer(None), "nvmlShutdown": answer(None), "nvmlDeviceGetCount": answer(1),
        "nvmlDeviceGetHandleByIndex": answer("handle"), "nvmlDeviceGetName": answer(b"NVIDIA L4"),
        "nvmlDeviceGetMemoryInfo": answer(SimpleNamespace(total=24 << 30)),
        "nvmlDeviceGetPowerManagementLimit": answer(72_000), "nvmlSystemGetDriverVersion": answer("570.1"),
        "nvmlDeviceGetClockInfo": lambda _, kind: {1: 1200, 2: 6251}[kind],
        "nvmlDeviceGetApplicationsClock": answer(2040), "nvmlDeviceGetTemperature": answer(88),
        "nvmlDeviceGetCurrentClocksThrottleReasons": answer(0x1 | 0x40),
        "NVML_CLOCK_SM": 1, "NVML_CLOCK_MEM": 2, "NVML_TEMPERATURE_GPU": 0, "NVMLError": NVMLError,
    }  # fmt: skip

    def fail(*_):
        raise NVMLError("not supported")

    return SimpleNamespace(**calls | dict.fromkeys(broken, fail))


def test_a_gpu_is_described(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    assert gpus() == [
        {
            "name": "NVIDIA L4", "driver": "570.1", "memory_bytes": 24 << 30, "power_limit_w": 72.0,
            "sm_clock_mhz": 1200, "memory_clock_mhz": 6251, "application_clock_mhz": 2040, "temperature_c": 88,
            "throttled_by": ["idle", "hardware thermal"],
        }
    ]  # fmt: skip
    assert throttled() == ["GPU 0 is throttled: hardware thermal"]


def test_what_a_gpu_does_not_tell_is_none(monkeypatch):
    silent = (
        "nvmlDeviceGetApplicationsClock",
        "nvmlDeviceGetCurrentClocksThrottleReasons",
        "nvmlSystemGetDriverVersion",
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml(**dict.fromkeys(silent, True)))
    (found,) = gpus()
    assert (found["application_clock_mhz"], found["throttled_by"], found["driver"]) == (None, None, None)
    assert found["name"] == "NVIDIA L4"
    assert throttled([found]) == []


def test_without_a_driver_there_are_no_gpus(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlInit=True))
    assert gpus() == []


@pytest.mark.parametrize("reasons", [["idle"], ["application clocks"], [], None])
def test_idle_and_locked_clocks_are_no_throttling(reasons):
    assert throttled([{"throttled_by": reasons}]) == []
