"""Cases shared out over two hosts, and hosts that go away: both are this machine, by a real sshd each."""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import pytest

from harness.plan import Plan
from harness.spec.calibration import Calibration, Method, Policy, Precision
from harness.spec.case import Case
from harness.spread import Handed, handed_to, least_busy, left_out, unit_of
from harness.workers import Environment
from harness.workers.absent import Absent

RUNTIME = f"onnxruntime-{onnxruntime.__version__}-cpu"
SMALL = ["--precision", "fp32,int8", "--layouts", "single", "--layouts", "buckets3", "--methods", "minmax"]
SMALL += ["--policies", "ragged", "--samples", "8", "--matrix", "few.toml", "--runtime", "*@*", "-rs"]
FEW = "compared = ['minmax-pad']\ntests = 2\ndraws = 2\nlaunches = 2\nblocks = 2\n"


@pytest.fixture
def both(suites, sshd, second_sshd):
    """Names of the one runtime on two hosts."""
    python = json.dumps(sys.executable)
    entries = {"one": sshd.host, "two": second_sshd.host}
    lines = [f"{name} = {{python = {python}, host = {json.dumps(host)}}}" for name, host in entries.items()]
    (suites.folder / "harness.toml").write_text("\n".join(["[environments]", *lines]))
    (suites.folder / "few.toml").write_text(FEW)
    yield f"{RUNTIME}@{sshd.label}", f"{RUNTIME}@{second_sshd.label}"
    (suites.folder / "harness.toml").unlink()


def records(suites):
    """Of cases, as far as they are whole."""
    lines = [line for path in suites.new_runs() for line in path.read_bytes().splitlines(keepends=True)]
    return [one for line in lines if line.endswith(b"\n") and "case" in (one := json.loads(line))]


def said(one):
    """What a record is about, whatever host it ran on; a test of latency has one for each bucket, and the traffic's."""
    about = {name: value for name, value in one["fields"].items() if name != "runtime"}
    return (
        one["kind"],
        json.dumps(about),
        tuple(sorted(set(one["values"]) - {"moved_from"})),
        str(one["values"].get("buckets", {}).keys()),
    )


def lose(suites, server, process, host):
    """Stop a host's server when the first record of it is there."""
    until, lost = time.monotonic() + 120, False
    while process.poll() is None and time.monotonic() < until and not lost:
        if any(one["fields"]["runtime"] == host for one in records(suites)):
            server.stop()
            lost = True
        time.sleep(0.02)
    out, err = process.communicate(timeout=240)
    if lost:
        server.start()
    assert lost, out + err
    return out + err


def test_a_case_runs_once_and_each_host_has_its_share(suites, own, both):
    done = suites(*own(), *SMALL, "--spread", "-n", "2")
    assert done.code == 0, done.text
    found = records(suites)
    assert set(Counter(map(said, found)).values()) == {1}
    by_host = {
        name: {one["case"].replace(name, "") for one in found if one["fields"]["runtime"] == name} for name in both
    }
    assert all(len([case for case in cases if "int8-minmax-ragged" in case]) == 1 for cases in by_host.values())
    assert not by_host[both[0]] & by_host[both[1]]
    assert {one["kind"] for one in found} >= {"build", "accuracy", "calibration", "latency", "profiles"}
    assert len(suites.new_runs()) == 2, "each process has written a run of its own"
    written = {(one["fields"]["layout"], one["fields"]["precision"], one["run"]) for one in found}
    assert len(written) == 4, "tests of one case ran in several processes"
    assert all(f"records: {path}" in done.out for path in suites.new_runs())
    assert "speed: INT8 against FP32" in done.out
    assert f"ort {both[1].removeprefix('onnxruntime-')} minmax-ragged buckets3" in done.out


def test_what_was_open_on_a_lost_host_runs_on_the_other_one(suites, own, both, sshd):
    process = suites.start(*suites.command(*own(), *SMALL, "--spread", "-n", "2"))
    text = lose(suites, sshd, process, both[0])
    assert process.returncode == 0, text
    found = records(suites)
    assert set(Counter(map(said, found)).values()) == {1}
    moved = [one for one in found if "moved_from" in one["values"]]
    assert {(one["values"]["moved_from"], one["fields"]["runtime"]) for one in moved} == {both}
    kinds = {one["kind"] for one in moved}
    assert kinds >= {"latency", "profiles"}
    assert kinds & {"accuracy", "drawn"}
    assert all(one["case"].count(both[1]) == 1 and one["verdict"] != "failed" for one in moved)


def test_without_shares_a_lost_host_fails_once_and_its_other_cases_say_why_they_are_skipped(suites, own, both, sshd):
    process = suites.start(*suites.command(*own(), *SMALL))
    text = lose(suites, sshd, process, both[0])
    assert process.returncode == 1, text
    found = records(suites)
    (failed,) = [one for one in found if one["verdict"] == "failed"]
    assert failed["fields"]["runtime"] == both[0]
    assert f"{both[1]} has all cases of its own" in failed["values"]["error"]
    assert re.search(
        r"SKIPPED \[\d+\].*127\.0\.0\.1-\d+ was lost \(cannot be reached: .*has all cases of its own", text
    )
    there = {one["case"] for one in found if one["fields"]["runtime"] == both[1]}
    assert len(there) >= 4
    assert not [one for one in found if "moved_from" in one["values"]]


def test_on_one_machine_processes_work_side_by_side_and_latency_is_not_refused(suites, own):
    few = suites.folder / "least.toml"
    few.write_text("compared = []\ntests = 1\ndraws = 1\nlaunches = 2\nblocks = 2\nlayouts = ['single']\n")
    options = ["--matrix", few, "--runtime", RUNTIME, "--methods", "minmax", "-k", "latency or traffic or build"]
    done = suites(*own(), *options, "--spread", "-n", "2")
    assert done.code == 0, done.text
    assert "7 passed" in done.out
    assert {one["fields"]["runtime"] for one in records(suites)} == {RUNTIME}
    refused = suites.quickly(*own(), *options, "--spread", "-n", "2", "--methods", "minmx")
    assert refused.code == 4, refused.text
    assert refused.text.count("ERROR: unknown method 'minmx'") == 1
    assert "Traceback" not in refused.text
    assert not suites.new_runs()


# What it decides

ONE, TWO, OTHER = (
    Environment(name, "python", "tensorrt", "8.6", {"cuda_graph": True}, f"ssh={name.partition('@')[2]}")
    for name in ("tensorrt-8.6@gpu1", "tensorrt-8.6@gpu2", "tensorrt-10@gpu2")
)
INT8 = Calibration(Method("minmax"), Policy.RAGGED)


def cases(*environments, models=("m",)):
    return [
        Case(model, one.name, precision, calibration, "single")
        for model in models
        for one in environments
        for precision, calibration in ((Precision.FP32, None), (Precision.FP16, None), (Precision.INT8, INT8))
    ]


def shares(*environments, models):
    listed = cases(*environments, models=models)
    named = {one.name: one for one in environments}
    out = left_out(listed, named)
    return [case for case in listed if case not in out]


def test_cases_of_one_runtime_are_shared_out_and_int8_first():
    kept = shares(ONE, TWO, models="abcd")
    assert len({(case.model, case.precision) for case in kept}) == len(kept) == 12
    assert Counter(case.runtime for case in kept) == {ONE.name: 6, TWO.name: 6}
    assert Counter(case.runtime for case in kept if case.calibration) == {ONE.name: 2, TWO.name: 2}


def test_this_machine_has_its_share():
    here = Environment("tensorrt-8.6", "python", "tensorrt", "8.6")
    assert Counter(case.runtime for case in shares(here, ONE, models="ab")) == {here.name: 3, ONE.name: 3}


def test_other_runtimes_keep_their_cases():
    kept = shares(ONE, TWO, OTHER, models="a")
    assert Counter(case.runtime for case in kept)[OTHER.name] == 3
    assert len(kept) == 6


def test_who_only_builds_leaves_cases_to_who_runs_them():
    builds = Environment("tensorrt-8.6@gpu3", "python", "tensorrt", "8.6", {}, "ssh=gpu3", can_run=False)
    assert {case.runtime for case in shares(builds, ONE, models="ab")} == {ONE.name}
    assert {case.runtime for case in shares(builds, models="ab")} == {builds.name}


def test_tests_of_one_case_are_one_unit():
    ids = sorted((case.id for case in cases(ONE)), key=len, reverse=True)
    of = "m-tensorrt-8.6@gpu1-int8-minmax-ragged-single"
    for name in (f"test_build[{of}]", f"test_latency[short-{of}]", f"test_latency[{of}-short]"):
        assert unit_of(f"suites/test_it.py::{name}", ids) == of
    other = "suites/test_it.py::test_build[tensorrt-10@gpu2]"
    assert unit_of(other, ids) == other
    assert unit_of("test_it.py::test_else", ids) == "test_it.py::test_else"
    longer = f"{of}-more"
    assert unit_of(f"t.py::t[{longer}]", [longer, of]) == longer


def test_work_goes_where_the_fewest_are():
    places = {"a1": "gpu1", "a2": "gpu1", "b1": "gpu2", "b2": "gpu2"}
    assert least_busy(["a2", "b1", "b2"], places, []) == "a2"
    assert least_busy(["a2", "b1", "b2"], places, ["a1"]) == "b1"
    assert least_busy(["a2", "b2"], places, ["a1", "b1"]) == "a2"
    assert least_busy(["a2", "else"], places, ["a1"]) == "else"


def test_a_process_takes_what_it_is_handed(tmp_path):
    handed = Handed("run-gw0", tmp_path / "turns", (ONE, TWO), (Absent("tensorrt-9", "is not installed"),))
    options = {"--results": str(tmp_path / "results"), "--seed": 0, "--spread": True}
    config = SimpleNamespace(
        workerinput={"harness": handed.plain()},
        getoption=lambda name: options.get(name, ""),
        rootpath=tmp_path,
        invocation_params=SimpleNamespace(dir=Path(__file__).parents[1], args=()),
    )
    assert handed_to(config) == handed
    plan = Plan(config)
    assert list(plan.environments) == [ONE.name, TWO.name]
    assert plan.environments[ONE.name].options == {"cuda_graph": True}
    assert plan.absent() == [Absent("tensorrt-9", "is not installed")]
    bench = plan.workbench()
    assert (bench.run.id, bench.turns.folder) == ("run-gw0", tmp_path / "turns")
    bench.close()
    assert handed_to(SimpleNamespace()) is None
