"""Rejections that cost little: nothing is run that was not run for calibration."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import onnx

from harness.explain.rules import findings
from harness.spec.calibration import Calibration, Method, Policy, Precision
from harness.workers.store import file_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness.explain.finding import Finding
    from harness.spec.case import Case
    from harness.workbench import Workbench

__all__ = ["behind", "digests", "tried_db", "unfit", "wrong"]

FAR_DB = 6.0
"""A method that is so far behind the best one on calibration samples is not run on others."""


def unfit(bench: Workbench, case: Case) -> str:
    """Why a case need not be made at all; empty where it may."""
    runtime = bench.environment(case).runtime
    if case.precision is Precision.FP16 and runtime == "onnxruntime":
        return "FP16 on a CPU is computed in FP32: nothing to gain"
    if missing := bench.profiles_without_samples(case):
        return f"no calibration sample in {', '.join(missing)}"
    return ""


def tried_db(bench: Workbench, case: Case) -> dict[str, float]:
    """Method -> SQNR in dB on calibration samples at natural lengths, as ``auto`` tries them; of a case's dialect."""
    auto = Calibration(Method("auto"), Policy.RAGGED)
    (tried,) = bench.calibrated(case.model, auto, bench.layout(case), bench.dialect(case)).tried
    return tried


def behind(case: Case, tried: Mapping[str, float]) -> str:
    """Whether the case's method is more than 6 dB behind the best one on calibration samples; empty where it is not.

    Under every policy: what a policy does to samples changes a method's error by less.
    """
    if case.calibration is None or str(case.calibration.method) not in tried:
        return ""
    method = str(case.calibration.method)
    known = {name: value for name, value in tried.items() if not math.isnan(value)}
    best = max(known, key=lambda name: known[name])
    if method not in known:
        return f"{method}: outputs are not finite on calibration samples"
    if known[best] - known[method] > FAR_DB:
        return f"{method}: {known[method]:.1f} dB on calibration samples, {best} {known[best]:.1f}"
    return ""


def wrong(bench: Workbench, case: Case) -> list[Finding]:
    """What the rules call wrong with the file that the case is built from, and not with the FP32 file."""
    dialect = bench.dialect(case) if case.precision is Precision.INT8 else None
    spec = bench.model(case.model)

    def of(path: object) -> list[Finding]:
        found = findings(onnx.load(str(path)), model_spec=spec, dialect=dialect)
        return [one for one in found if one.severity == "wrong"]

    own = {one.kind for one in of(bench.prepared(case.model))}
    return [one for path in bench.artefacts(case) for one in of(path) if one.kind not in own]


def digests(bench: Workbench, case: Case) -> tuple[str, ...]:
    """Of what the case is built from: its files, their caches and batches, its profiles. Equal ones are one engine."""
    files = [file_digest(path) for path in bench.artefacts(case)]
    beside = [file_digest(path) for one in bench.calibration_files(case) for path in one.values()]
    layout = "" if bench.environment(case).runtime == "onnxruntime" else str(bench.layout(case).profiles)
    return (*files, *beside, layout, case.precision.value)
