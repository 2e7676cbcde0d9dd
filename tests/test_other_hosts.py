"""The suites and the commands over ssh: to this machine, with a name, a core and a cache of its own."""

from __future__ import annotations

import json
import platform
import re
import sys
import time

import onnxruntime
import pytest

SMALL = ["--precision", "fp32,int8", "--layouts", "single", "--methods", "minmax", "--policies", "ragged"]
RUNTIME = f"onnxruntime-{onnxruntime.__version__}-cpu"


@pytest.fixture
def hosts(suites):
    """A harness.toml with other hosts where the suites run; gone afterwards."""

    def write(**entries):
        python = json.dumps(sys.executable)
        lines = [f"{name} = {{python = {python}, host = {json.dumps(host)}}}" for name, host in entries.items()]
        (suites.folder / "harness.toml").write_text("\n".join(["[environments]", *lines]))

    yield write
    (suites.folder / "harness.toml").unlink()


def records(suites):
    return [json.loads(line) for path in suites.new_runs() for line in path.read_text().splitlines()]


def test_the_suites_run_on_a_host_and_records_are_about_it(suites, own, hosts, sshd):
    hosts(gpu=sshd.host)
    done = suites.quickly(*own(), *SMALL, "--runtime", "gpu")
    assert done.code == 0, done.text
    found = [one for one in records(suites) if "case" in one]
    assert {one["kind"] for one in found} >= {"build", "accuracy", "latency"}
    for one in found:
        assert one["fields"]["runtime"] == f"{RUNTIME}@{sshd.label}"
        where = one["environment"]
        assert (where["host"], where["cores_usable"]) == (sshd.hostname, 1), one["kind"]
        assert where["coordinator"] == platform.node()
        assert where["worker"]["cpus"] == 1
    sessions = [one["values"]["session"] for one in found if "session" in one["values"]]
    assert {launch["core"] for session in sessions for launch in session["launches"]} == {sshd.core}
    assert f"{RUNTIME}@{sshd.label}" in done.out


def test_a_host_that_is_not_there_is_a_skip_unless_it_is_called(suites, own, hosts, sshd):
    hosts(gpu=sshd.host, off="ssh=-F none -p 1 me@127.0.0.1")
    small = [*SMALL, "--samples", "4", "-rs"]
    done = suites.quickly(*own(), *small, under="test_build.py")
    assert done.code == 0, done.text
    assert "off@127.0.0.1-1" in done.out or "Connection refused" in done.out
    ran = {one["fields"]["runtime"] for one in records(suites)}  # where tox has TensorRT-RTX, that, too
    assert {one for one in ran if "rtx" not in one} == {RUNTIME, f"{RUNTIME}@{sshd.label}"}
    called = suites.quickly(*own(), *small, "--runtime", "*@127.0.0.1-1", under="test_build.py")
    assert called.code == 4
    assert "Connection refused" in called.text
    here = suites.quickly(*own(), *small, "--runtime", RUNTIME, "--collect-only", "-q", under="test_build.py")
    assert here.code == 0
    assert "off" not in here.out


def test_a_connection_that_is_lost_in_the_middle_costs_no_record_and_doubles_none(suites, own, hosts, sshd):
    hosts(gpu=sshd.host)
    process = suites.start(*suites.command(*own(), *SMALL, "--runtime", "gpu", "-m", "not latency"))
    until, cut = time.monotonic() + 120, 0
    while process.poll() is None and time.monotonic() < until and not cut:
        if any(path.stat().st_size for path in suites.new_runs()):
            cut = sshd.cut()
        time.sleep(0.02)
    out, err = process.communicate(timeout=240)
    assert cut >= 1, out + err
    found = [one for one in records(suites) if "case" in one]
    once = [(one["kind"], one["case"], one["verdict"], sorted(one["values"])) for one in found]
    assert not [one for one in once if once.count(one) > 1]
    lost = [one for one in found if one["verdict"] == "failed"]
    assert len(lost) <= 1
    errors = [one["values"]["error"] for one in lost]
    told = "the connection to|the engine's worker process has ended|the worker has ended earlier"
    assert [error for error in errors if not re.search(told, error)] == []
    assert process.returncode == (1 if lost else 0), out + err
    kinds = {(one["kind"], one["fields"]["precision"]) for one in found}
    assert {("build", "fp32"), ("build", "int8"), ("accuracy", "int8")} <= kinds


def test_a_gate_over_two_hosts_is_refused(suites, hosts, sshd):
    hosts(gpu=sshd.host)
    for words in (("gpu", RUNTIME), (RUNTIME, f"onnxruntime@{sshd.label}")):
        done = suites.python("-m", "harness", "gate", *words)
        assert done.code == 2, done.text
        assert "the two sides run on different hosts: " in done.err
        assert sshd.label in done.err
        assert "-> take both environments on one host: install what" in done.err
    assert not (suites.folder / "results").exists(), "a run was begun"
    away = suites.python("-m", "harness", "gate", RUNTIME, "onnxruntime@127.0.0.1-1")
    assert away.code == 5, away.text
    assert "no runtime matches" in away.err


def test_a_record_is_compared_with_the_host_that_the_candidate_is_on(suites, own, hosts, sshd, tmp_path):
    """Not with the machine that the gate is asked on."""
    hosts(gpu=sshd.host)
    few = tmp_path / "few.toml"
    few.write_text("compared = []\ntests = 1\nlaunches = 2\nblocks = 2\n")
    int8, there = [*own(), *SMALL, "--precision", "int8", "--matrix", few], f"{RUNTIME}@{sshd.label}"
    done = suites.quickly(*int8, "--runtime", "onnxruntime", "-k", "test_build or test_latency")
    assert done.code == 0, done.text
    (run,) = suites.new_runs()
    found = {}
    for recorded in (RUNTIME, there):
        report = tmp_path / f"{recorded}.json"
        baseline = f"record:{run}:{recorded}"
        done = suites.quickly(
            *int8, "--baseline", baseline, "--candidate", there, "--gate-report", report, "-k", "int8"
        )
        assert report.exists(), done.text
        left = json.loads(report.read_text())["not_compared"]
        found[recorded] = {one["aspect"] for one in left if "measured elsewhere: " in one["why"]}
    assert found == {RUNTIME: {"build time", "latency"}, there: set()}


def test_doctor_and_environments_list_it(suites, hosts, sshd):
    hosts(gpu=sshd.host, off="ssh=-F none -p 1 me@127.0.0.1")
    done = suites.python("-m", "harness", "doctor", "--json")
    assert done.code == 0, done.text
    found = {one["source"]: one for one in json.loads(done.out)["findings"] if one["runtime"] in {"onnxruntime", ""}}
    gpu, off = found["[environments] gpu"], found["[environments] off"]
    assert (gpu["can_build"], gpu["can_run"], gpu["host"]) == (True, True, sshd.host)
    assert gpu["version"] == onnxruntime.__version__
    assert "Connection refused" in off["why"]
    table = suites.python("-m", "harness", "doctor").out
    assert f"{RUNTIME}@127.0.0" in table
    listed = suites.python("-m", "harness", "environments", "--json").out  # the table breaks long names
    assert f"{RUNTIME}@127.0.0" in listed
    assert "missing: cannot be reached" in " ".join(listed.split())
    report = suites.python("-m", "harness", "doctor", "--report").out
    assert f"{RUNTIME}@host1: can build and run" in report
    assert "127.0.0.1" not in report
    assert sshd.host not in report


def test_a_missing_server_is_an_error_where_it_is_required(suites, tmp_path):
    program = tmp_path / "test_one.py"
    program.write_text("from tests.conftest import sshd\ndef test(sshd): pass\n")
    path = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    words = ["-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", program]
    found = {"HARNESS_SSHD": "/no/such/sshd"}
    skipped = suites.python(*words, environ={**path, **found, "HARNESS_REQUIRE_SSH": "0"})
    assert skipped.code == 0, skipped.text
    assert "install it with: apt-get install openssh-server" in skipped.out
    failed = suites.python(*words, environ={**path, **found, "HARNESS_REQUIRE_SSH": "1"})
    assert failed.code == 1
