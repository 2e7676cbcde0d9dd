"""`pytest suites/ --baseline ENV --candidate ENV` as a user types it, over two stand-ins of TensorRT."""

from __future__ import annotations

import json
import re
import signal
import time
import xml.etree.ElementTree as ET

import pytest

from harness.results.record import encode
from harness.results.store import read_run
from tests.gate.yard import NEW, OLD, SIDES, Yard, checked

GATE = ("--baseline", SIDES[0], "--candidate", SIDES[1])
PAIRS = [f"{key}-{what}" for key in ("conv", "other") for what in ("fp32-single", "int8-minmax-ragged-single")]


@pytest.fixture(scope="module")
def yard(suites):
    return Yard(suites.folder, ("conv", "other"))


@pytest.fixture
def run(suites, yard):
    """Run the suites with a gate, in a cache of the test's own; what pytest said, and the report if there is one."""
    suites.forget()
    file = suites.folder / "report.json"
    file.unlink(missing_ok=True)

    def run(*options, gate=GATE, **settings):
        yard.plant(**settings)
        done = suites.quickly(*gate, *options, "--gate-report", file) if gate else suites.quickly(*options)
        return done, checked(json.loads(file.read_text())) if file.exists() else None

    return run


def collected(done):
    return [line.partition("::")[2] for line in done.out.splitlines() if "::" in line]


def test_without_a_gate_there_is_none(run):
    done, _ = run("--collect-only", "-q", gate=())
    assert done.code == 0, done.text
    assert collected(done)
    assert "upgrade" not in done.text
    assert "deselected" not in done.text


def test_asked_for_by_itself_it_says_what_is_missing(suites, yard):
    done = suites.quickly(under="test_upgrade.py")
    assert done.code == 5
    assert "no gate is asked for: --baseline ENV --candidate ENV" in done.out


def test_with_a_gate_there_is_nothing_else_unless_a_runtime_is_named(run, suites):
    done, _ = run("--collect-only", "-q")
    assert collected(done) == [f"test_upgrade[{name}]" for name in PAIRS]
    done, _ = run("--collect-only", "-q", "--runtime", "onnxruntime")
    assert {test.partition("[")[0] for test in collected(done)} > {"test_upgrade", "test_build", "test_traffic"}
    assert not suites.new_runs(), "collecting made a run"


def test_a_gate_that_blocks(run, suites, tmp_path):
    """One model no longer builds: its tests fail in words, the other's pass or stay open, and all is written."""
    junit = tmp_path / "junit.xml"
    done, report = run("--junitxml", junit, "--allow", "conv-fp32-single=known", crash="build", victim="conv")
    assert done.code == 1, done.text
    assert f"{len(PAIRS)} pair(s) of a gate, {OLD} -> {NEW}" in done.out
    assert report["cases"] == PAIRS
    assert (report["verdict"], report["exit_code"]) == ("regression", 1)
    found = {(one["case"], one["aspect"]): one["word"] for one in report["findings"]}
    assert found[PAIRS[0], "builds"] == "allowed"
    assert found[PAIRS[1], "builds"] == "regression"
    assert found[PAIRS[3], "accuracy"] == "pass"
    assert [one["case"] for one in report["first_stage"]] == PAIRS[:2]
    shown = done.out.partition("short test summary")[0]
    assert "no longer builds" in shown
    assert re.search(r"^  (\| .+|model: /.+\.onnx)$", shown, re.MULTILINE), "what was built, or what was said of it"
    assert "Traceback" not in done.text
    assert "Warning" not in done.out

    (file,) = suites.new_runs()
    *pairs, whole = (one for one in read_run(file) if one["kind"] == "gate")
    assert [one["values"]["pair"] for one in pairs] == PAIRS
    assert [one["verdict"] for one in pairs][:2] == ["pass", "regression"]
    assert (whole["kind"], whole["verdict"], report["run"]) == ("gate", "regression", file.stem)
    assert file.with_suffix(".gate.md").read_text().startswith(f"## ❌ {OLD} → {NEW}: regression")
    assert f"summary: {file.with_suffix('.gate.md')}" in done.out

    suite = ET.parse(junit).getroot().find("testsuite")
    whole = properties(suite)
    assert (whole["verdict"], whole["baseline"], whole["candidate"]) == ("regression", OLD, NEW)
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert set(cases) == {f"test_upgrade[{name}]" for name in PAIRS}
    failed = cases[f"test_upgrade[{PAIRS[1]}]"]
    assert failed.find("failure") is not None
    assert properties(failed) == {
        "baseline": OLD, "candidate": NEW, "verdict": "regression", "builds": "regression",
    }  # fmt: skip
    other = properties(cases[f"test_upgrade[{PAIRS[3]}]"])
    assert other["accuracy.short"] == "pass"
    assert float(other["latency.traffic.ratio"]) > 0
    assert float(other["size.ratio"]) > 0


def properties(element):
    return {one.get("name"): one.get("value") for one in element.findall("properties/property")}


def test_a_gate_that_ends_early_has_not_passed(run):
    done, report = run("-k", "other", "-x", crash="build", victim="other")
    assert done.code == 1
    found = {one["case"]: (one["word"], one["why"]) for one in report["findings"]}
    assert found[PAIRS[2]][0] == "regression"
    assert found[PAIRS[3]] == ("invalid", "it was not judged: the run ended before it")


def test_an_interrupt_reports_what_was_judged(run, suites, yard, tmp_path):
    yard.plant(build_seconds=60.0, victim="other")
    file = tmp_path / "report.json"
    process = suites.start(*suites.command(*GATE, "--precision", "fp32", "--gate-report", file))
    try:
        end = time.monotonic() + 120
        while not any(path.read_bytes() for path in suites.new_runs()):
            assert time.monotonic() < end, "the first pair was never recorded"
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        yard.plant(build_seconds=0.0)
    assert process.returncode == 2, out + err
    assert "interrupted; what was judged is in the report" in out
    assert "Traceback" not in out + err
    found = {
        one["case"]: one["word"]
        for one in checked(json.loads(file.read_text()))["findings"]
        if one["aspect"] == "builds"
    }
    assert found == {"conv-fp32-single": "pass", "other-fp32-single": "invalid"}


def test_other_suites_beside_a_gate_write_into_the_same_run(run, suites):
    done, report = run(
        "--runtime", OLD, "--python", suites.folder / OLD / "bin" / "python", "-k", "conv-fp32 or test_build"
    )
    assert done.code == report["exit_code"], done.text
    (file,) = suites.new_runs()
    kinds = [one["kind"] for one in read_run(file)]
    assert (kinds.count("gate"), kinds.count("build")) == (2, 4)


@pytest.fixture(scope="module")
def recorded(suites, yard):
    """The file of a run of the suites over the baseline."""
    done = suites(
        "--runtime", OLD, "--python", yard.old / "bin" / "python", "-k", "test_build or test_corpus", "--models", "conv"
    )  # fmt: skip
    assert done.code == 0, done.text
    (file,) = suites.new_runs()
    return file


def test_a_record_may_be_the_baseline(run, recorded):
    done, report = run("--models", "conv", gate=("--baseline", f"record:{recorded.stem}", "--candidate", SIDES[1]))
    assert (done.code, report["verdict"]) == (0, "pass"), done.text
    assert f"2 pair(s) of a gate, {OLD} as recorded in {recorded.stem} -> {NEW}" in done.out
    assert (report["historical"], report["baseline"]["record"]) == (True, recorded.stem)


def test_what_stays_open_is_no_failure_and_no_pass(run, suites, recorded, tmp_path):
    """The record is of other samples: of accuracy nothing is proved, and the exit code says so."""
    lines = [json.loads(line) for line in recorded.read_bytes().splitlines()]
    other = tmp_path / "other.jsonl"
    other.write_bytes(b"".join(encode({**one, "corpus": {"test": "00"}}) for one in lines))
    options = ("--junitxml", tmp_path / "junit.xml", "--gate-summary", tmp_path / "mine.md", "-k", "conv-int8")
    done, report = run(*options, gate=("--baseline", f"record:{other}", "--candidate", SIDES[1]))
    assert report["cases"] == [PAIRS[1]], "what -k left out was not asked"
    assert report["verdict"] == "inconclusive", done.text
    assert done.code == report["exit_code"] == 3
    assert "1 xfailed" in done.out
    skipped = ET.parse(tmp_path / "junit.xml").getroot().find("testsuite/testcase/skipped")
    assert skipped.get("type") == "pytest.xfail"
    assert "the record has other test samples" in skipped.get("message")
    assert "❔" in (tmp_path / "mine.md").read_text()
    assert not suites.new_runs()[0].with_suffix(".gate.md").exists()


def test_a_pair_that_cannot_be_judged_is_invalid(run, suites, yard):
    """Its model's data are damaged; the others are judged."""
    file = suites.folder / "data" / "7.npz"
    kept = file.read_bytes()
    file.write_bytes(b"no archive")
    try:
        done, report = run("-k", "conv-fp32")
    finally:
        file.write_bytes(kept)
    assert (done.code, report["verdict"]) == (4, "invalid")
    (finding,) = report["findings"]
    assert "7.npz" in finding["why"]
    assert "Traceback" not in done.text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (GATE[:2], "--baseline without --candidate"),
        (GATE[2:], "--candidate without --baseline"),
        (("--thorough",), "--thorough is for a gate"),
        (("--gate-report", "r.json"), "--gate-report is for a gate"),
        ((*GATE, "--allow-file", "none.toml"), "none.toml: cannot be read"),
        ((*GATE, "--gate-report", "nowhere/r.json"), "nowhere/r.json cannot be written"),
        ((*GATE[:2], "--candidate", SIDES[0]), "are one environment"),
        ((*GATE[:2], "--candidate", "tensorrt-99"), "no runtime matches 'tensorrt-99'"),
        ((*GATE[:2], "--candidate", "onnxruntime"), "are different runtimes"),
        ((*GATE, "--seed", "-1"), "--seed -1 is negative"),
        ((*GATE, "--reruns", "2"), "refused with reruns"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(suites, yard, words, says):
    if "--reruns" in words:
        pytest.importorskip("pytest_rerunfailures")
    done = suites.quickly(*words)
    expected = 4 if "--reruns" in words else 5 if "tensorrt-99" in words else 2  # 4 is pytest's own for usage
    assert done.code == expected, done.text
    assert says in done.text
    assert "Traceback" not in done.text
    assert not suites.new_runs()


@pytest.mark.parametrize("words", [("-n", "1"), ("--spread", "-n", "2")], ids=["alone", "spread"])
def test_it_is_refused_under_xdist(suites, yard, words):
    pytest.importorskip("xdist")
    done = suites.quickly(*GATE, *words, "-k", "conv-fp32")
    assert done.code == 2, done.text
    assert "a gate is refused under pytest-xdist (-n), with --spread, too" in done.text
    assert "Traceback" not in done.text
    assert not suites.new_runs()
