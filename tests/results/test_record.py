from __future__ import annotations

import json
import math
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import ResultsError, UsageError
from harness.results.record import MIGRATIONS, SCHEMA, decode, encode, fingerprint, record
from harness.spec.calibration import Calibration, Method, Policy, Precision
from harness.spec.case import Case
from harness.spec.model import Bounds

CASE = Case("rec", "onnxruntime-1.32.0-cpu", Precision.INT8, Calibration(Method("entropy"), Policy.PAD), "single")


def strict(line):
    def refuse(name):
        raise AssertionError(name)

    return json.loads(line, parse_constant=refuse)


def test_a_record_carries_what_is_needed_to_trust_it():
    one = record(
        "accuracy",
        "r1",
        {"sqnr_db": 12.5},
        case=CASE,
        corpus={"test": "ab"},
        seed=3,
        synthetic=True,
        verdict="pass",
    )
    back = decode(encode(one))
    assert back["schema"] == SCHEMA
    assert back["case"] == CASE.id
    assert back["fields"]["method"] == "entropy"
    assert back["fields"]["policy"] == "pad"
    assert (back["corpus"], back["seed"], back["synthetic"], back["verdict"]) == ({"test": "ab"}, 3, True, "pass")
    assert datetime.fromisoformat(back["time"]).utcoffset().total_seconds() == 0
    environment = back["environment"]
    assert environment["libraries"]["numpy"] == np.__version__
    assert environment["cores"] >= environment["cores_usable"] >= 1
    assert fingerprint() is fingerprint()
    plain = record("gate", "r1", {}, environment={"cpu": "other", "driver": "1"})
    assert "case" not in plain
    assert plain["environment"]["cpu"] == "other"
    assert plain["environment"]["driver"] == "1"
    assert fingerprint()["cpu"] != "other"
    with pytest.raises(UsageError, match="unknown kind"):
        record("speed", "r1", {})


def test_what_is_not_json_gets_a_form_or_a_place():
    values = {
        "scalar": np.float32(0.5),
        "integer": np.int64(7),
        "flag": np.bool_(True),
        "array": np.array([[1.0, np.nan], [np.inf, -np.inf]]),
        "zero_d": np.array(3),
        "policy": Policy.PAD,
        "path": Path("a/b"),
        "bounds": Bounds(cosine=0.5),
        "set": {3, 1, 2},
        "big": 2**80,
        1: ("tuple",),
        "odd text": "\ud800 \u2028 \n",
    }
    line = encode({"schema": SCHEMA, "values": values})
    assert line.count(b"\n") == 1
    raw = strict(line)["values"]
    assert raw["array"] == [[1.0, "NaN"], ["Infinity", "-Infinity"]]
    assert raw["integer"] == 7
    assert raw["flag"] is True
    assert raw["zero_d"] == 3
    assert raw["policy"] == "pad"
    assert raw["bounds"]["cosine"] == 0.5
    assert raw["set"] == [1, 2, 3]
    assert raw["1"] == ["tuple"]
    back = decode(line)["values"]
    assert math.isnan(back["array"][0][1])
    assert back["array"][1] == [math.inf, -math.inf]
    assert back["odd text"] == values["odd text"]
    with pytest.raises(ResultsError, match="a object has no JSON form") as error:
        encode({"values": {"deep": [1, object()]}})
    assert error.value.where == "record.values.deep[1]"


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_like)
def test_round_trip(value):
    one = {"schema": SCHEMA, "values": value}
    line = encode(one)
    strict(line)
    assert encode(decode(line)) == line


@pytest.mark.parametrize(
    "line", [b"{}", b"[1]", b"3", b"", b'{"schema": "1"}', b'{"schema": true}', b'{"schema": 1, "x": NaN}', b"\xff\n"]
)
def test_lines_that_are_no_records(line):
    with pytest.raises(ValueError):  # noqa: PT011 - any reason will do
        decode(line)


def test_newer_records_are_not_guessed_at():
    with pytest.raises(ValueError, match="newer than this harness"):
        decode(json.dumps({"schema": SCHEMA + 1}).encode())


@pytest.mark.parametrize(
    ("kind", "values", "now"),
    [
        ("accuracy", {"buckets": {}, "reasons": []}, "accuracy"),
        ("accuracy", {"examples": 0, "worst": None}, "drawn"),
        ("accuracy", {"test": "test_drawn[wave-x]", "error": "WorkerDied: ..."}, "drawn"),
        ("accuracy", {"test": "test_corpus[wave-x]", "error": "WorkerDied: ..."}, "accuracy"),
        ("build", {"examples": 3}, "build"),
    ],
)
def test_drawn_examples_of_the_first_schema_have_a_kind_of_their_own(kind, values, now):
    old = json.dumps({"schema": 1, "kind": kind, "values": values}).encode()
    assert decode(old) == {"schema": SCHEMA, "kind": now, "values": values}
    with pytest.raises(ValueError, match="does not fit its schema 1"):
        decode(b'{"schema": 1, "kind": "accuracy"}')


def test_older_records_are_migrated_step_by_step(monkeypatch):
    def named(one):
        one["values"]["median_ms"] = one["values"].pop("median_us") / 1e3
        return one

    monkeypatch.setattr("harness.results.record.SCHEMA", 3)
    monkeypatch.setitem(MIGRATIONS, 1, named)
    monkeypatch.setitem(MIGRATIONS, 2, lambda one: {**one, "verdict": one["verdict"].upper()})
    old = b'{"schema": 1, "verdict": "pass", "values": {"median_us": 5, "worst": "NaN"}}'
    back = decode(old)
    assert (back["schema"], back["verdict"], back["values"]["median_ms"]) == (3, "PASS", 0.005)
    assert math.isnan(back["values"]["worst"])
    assert decode(b'{"schema": 2, "verdict": "pass"}') == {"schema": 3, "verdict": "PASS"}
    assert decode(b'{"schema": 3, "verdict": "pass"}')["verdict"] == "pass"
    with pytest.raises(ValueError, match="does not fit its schema 1: KeyError"):
        decode(b'{"schema": 1, "values": {}}')
    with pytest.raises(ValueError, match="nothing is known of schema 0"):
        decode(b'{"schema": 0}')
