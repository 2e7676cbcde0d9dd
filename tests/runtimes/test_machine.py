"""Facts of a host, and NVML without pynvml: a library in C that answers as nvml.h says, for one L4 that is too hot."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys

import pytest

from harness.measure.host import host, throttled
from harness.runtimes import nvml
from harness.runtimes.machine import gpus, machine

LIBRARY = r"""
#include <string.h>
typedef struct { unsigned long long total, free, used; } memory;
static int up = 0;
int nvmlInit_v2(void) { up = 1; return FAILS; }
int nvmlShutdown(void) { up = 0; return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 1; return up ? 0 : 1; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) { *h = (void *)0x7f0000000010; return i ? 2 : 0; }
static int right(void *h) { return h != (void *)0x7f0000000010; }
int nvmlDeviceGetName(void *h, char *s, unsigned n) { strncpy(s, "NVIDIA L4", n); return right(h); }
int nvmlSystemGetDriverVersion(char *s, unsigned n) { strncpy(s, "570.1", n); return 0; }
int nvmlDeviceGetMemoryInfo(void *h, memory *m) { m->total = 24ULL << 30; return right(h); }
int nvmlDeviceGetPowerManagementLimit(void *h, unsigned *w) { *w = 72000; return right(h); }
int nvmlDeviceGetClockInfo(void *h, int kind, unsigned *c) {
    *c = kind == 1 ? 1200 : kind == 2 ? 6251 : 0;
    return right(h);
}
int nvmlDeviceGetTemperature(void *h, int sensor, unsigned *t) { *t = 88; return right(h) || sensor; }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *h, unsigned long long *r) { *r = 0x41; return right(h); }
"""
"""Without nvmlDeviceGetApplicationsClock, as a driver that does not have a call."""


def test_the_machine_says_what_a_record_holds_of_a_host():
    found = machine()
    assert found["host"] == platform.node()
    assert found["architecture"] == platform.machine()
    assert found["cores_usable"] == len(os.sched_getaffinity(0))
    ours = host()
    stable = set(found) - {"load", "architecture"}
    assert {name: found[name] for name in stable} == {name: ours[name] for name in stable}


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A function that puts the library in the driver's place; it may fail to start."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here: apt-get install gcc libc6-dev")
    monkeypatch.setitem(sys.modules, "pynvml", None)

    def make(fails=0):
        source, built = tmp_path / "nvml.c", tmp_path / f"libnvml{fails}.so"
        source.write_text(LIBRARY)
        subprocess.run([compiler, "-w", "-shared", "-fPIC", f"-DFAILS={fails}", "-o", built, source], check=True)
        monkeypatch.setattr(nvml.ctypes, "CDLL", lambda name: real(str(built)) if "nvidia-ml" in name else real(name))

    real = ctypes.CDLL
    return make


def test_a_gpu_is_described_without_pynvml(library):
    library()
    assert gpus() == [
        {
            "name": "NVIDIA L4", "driver": "570.1", "memory_bytes": 24 << 30, "power_limit_w": 72.0,
            "sm_clock_mhz": 1200, "memory_clock_mhz": 6251, "application_clock_mhz": None, "temperature_c": 88,
            "throttled_by": ["idle", "hardware thermal"],
        }
    ]  # fmt: skip
    assert throttled(gpus()) == ["GPU 0 is throttled: hardware thermal"]


def test_a_driver_that_does_not_start_has_no_gpus(library):
    library(fails=9)
    assert gpus() == []


def test_without_a_driver_there_are_none(monkeypatch):
    def absent(name):
        raise OSError(name)

    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(nvml.ctypes, "CDLL", absent)
    assert gpus() == []
