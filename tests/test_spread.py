"""Cases shared out over two hosts, and hosts that go away: both are this machine, by a real sshd each."""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter

import onnxruntime
import pytest

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
    assert {one["kind"] for one in moved} >= {"accuracy", "latency", "profiles"}
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
