"""Records of ``harness explain``, of the program's own types: searches for the case to ship, layer tables."""

from __future__ import annotations

import math

from harness.accuracy import Comparison
from harness.best.evidence import RUNGS, Accuracy, Candidate, Speed
from harness.best.found import Found
from harness.best.goal import Ask, Goal
from harness.best.layout_advice import Advice, Plan
from harness.best.layouts import LayoutAdvice
from harness.explain.data import roofline_data, table_data
from harness.explain.finding import Finding
from harness.explain.layer import ROLES, Layer, LayerTable, Roofline
from harness.spec.calibration import Calibration, Method, Policy, Precision
from harness.spec.case import Case
from harness.spec.shapes import Layout, Profile
from tests.run_records import made
from tests.site.records import case_of

CASE = case_of("wave")
ROOF = Roofline({"int8": 1e11, "fp32": 1e10}, 1e10)


RUNTIME = "tensorrt-8.6.0"


def case(method="auto", precision=Precision.INT8):
    calibration = Calibration(Method.parse(method), Policy.RAGGED) if precision is Precision.INT8 else None
    return Case("wave", RUNTIME, precision, calibration, "single")


def seen(*decibels):
    one = [Comparison(sqnr_db=db, cosine=0.99, worst=0.1, score=0.95, score_weight=3.0, finite=True) for db in decibels]
    return Accuracy(dict(zip(("short", "long"), one, strict=True)))


def speed(low, point, high, word="faster"):
    return Speed({"traffic": (low, point, high), "long": (low, point, high)}, {"traffic": (2.0, 2.5, 3.0)}, word)


def found(**changes):
    """What a search comes to, in the program's own types: every rung, an interval of one launch, alike rejections."""
    ship = Candidate(case(), RUNGS[4], search=seen(20, 22), test=seen(19, math.inf), session=speed(2.9, 3.1, 3.3))
    candidates = [
        Candidate(case(precision=Precision.FP32), RUNGS[4], session=speed(1, 1, 1, "")),
        Candidate(case(precision=Precision.FP16), RUNGS[0], "nothing to gain"),
        *(Candidate(case(method), RUNGS[0], "6 dB behind") for method in ("minmax", "percentile99")),
        Candidate(case("mse"), RUNGS[2], "place 2 of 2", search=seen(math.nan, 18)),
        Candidate(case("entropy"), RUNGS[3], "no faster", search=seen(19, 19), short=speed(0, 3.0, 1e9, "")),
        ship,
    ]  # fmt: skip
    single, three = (
        Plan(Layout(name, profiles), us, switches, 171 * switches, saved)
        for name, profiles, us, switches, saved in (
            ("single", (Profile(16, 1024, 8192),), 66.8, 0.0, 0.0),
            ("two", (Profile(16, 199, 541), Profile(542, 4830, 8192)), 71.9, 0.5, -0.134),
        )
    )
    advice = Advice(single, (single, three), single, three)
    layouts = LayoutAdvice("samples", ship.case.id, {0.05: 20, 0.95: 4000}, "", advice, costs=("a context has memory",))
    limits = [Finding("float-fallback", "slow", "3 operators in float", ("/a", "/b", "/c", "/d"), "int8-mixed")]
    return Found(**{
        "goal": Goal((Ask("traffic", "speedup", 3.0), Ask("long", "latency_ms", 8.0))), "candidates": candidates,
        "ship": ship, "word": "met", "why": "as fast as asked", "layouts": layouts, "findings": limits,
        "notes": ["no plan of mixed precision is kept"], **changes,
    })  # fmt: skip


def searched(run="r", minute=0, answer=None, **changes):
    """Its record, as :func:`harness.best.search.record` writes it."""
    answer = answer or found()
    values = {name: value for name, value in answer.as_data().items() if name != "word"} | changes
    shipped = case_of("wave", RUNTIME)
    return made(run, minute, kind="best", verdict=answer.word, values=values, **shipped)


def table(length, scale=1.0, count=12, *, timed=True):
    """The first layer takes half of all."""
    times = [scale * us for us in (100.0, *[100.0 / (count - 1)] * (count - 1))]
    rows = (
        Layer(f"/conv.{n}", "Conv", (), "int8", ROLES[n % 4], us if timed else None, 1_000_000 * (n + 1), 10_000)
        for n, us in enumerate(times)
    )
    return LayerTable(CASE["case"], length, tuple(rows), 150.0 * scale if timed else None, 900, ("said",))


def told(at=100, run="r", minute=0, scale=1.0, case=CASE, *, beside=True, timed=True, host="gpu1", **changes):
    """A record, as :func:`harness.explain.explained.record` writes it."""
    values = {name: value for name, value in table_data(table(at, scale, timed=timed), ROOF).items() if name != "case"}
    other = table_data(table(at, 3 * scale))
    against = {name: value for name, value in other.items() if name not in {"layers", "log"}}
    against["case"] = case_of("wave", precision="fp32")["case"]
    values |= {"layers_of": 30, "against": against if beside else None, "roofline": roofline_data(ROOF), **changes}
    return made(run, minute, kind="layers", verdict="", values=values, host=host, **case)
