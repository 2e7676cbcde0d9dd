"""The newest records as OpenMetrics text (version 1.0): what Prometheus and others scrape from a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness.results.query import Found

__all__ = ["openmetrics"]

_FAMILIES = {
    "harness_verdict": ("", "1 for the verdict of the newest record of this kind."),
    "harness_latency_ratio": ("", "Time of the baseline over INT8: above 1, INT8 is faster."),
    "harness_latency_median_seconds": ("seconds", "Median time of one inference, by the clock that judged."),
    "harness_accuracy_sqnr_decibels": ("decibels", "Signal to quantization noise ratio against FP32."),
    "harness_accuracy_cosine": ("", "Cosine similarity to FP32's output."),
    "harness_engine_size_bytes": ("bytes", "Size of an engine, by profile."),
    "harness_build_duration_seconds": ("seconds", "Time of building an engine, by profile."),
    "harness_int8_layers": ("", "Operators that run in INT8, by profile."),
}

_Sample = tuple[str, dict[str, str], float]


def openmetrics(records: Iterable[Found]) -> str:
    """Gauges with the records' times. What a record does not have, or is unknown, has no sample.

    :param records: the newest of each case, kind, bucket and host: two of them would be the same series twice.
    """
    series: dict[str, list[str]] = {name: [] for name in _FAMILIES}
    for one in records:
        stamp = one.time.replace(tzinfo=UTC).timestamp()
        common = {
            "case": one.case, "kind": one.kind, "model": one.model, "runtime": one.runtime, "precision": one.precision,
            "host": one.host, "bucket": one.bucket,
        }  # fmt: skip
        labels = {name: value for name, value in common.items() if value is not None}
        for family, more, value in _samples(one):
            text = ",".join(f'{name}="{_escaped(cell)}"' for name, cell in sorted({**labels, **more}.items()))
            series[family].append(f"{family}{{{text}}} {_number(value)} {stamp:.3f}")
    lines = []
    for family, (unit, said) in _FAMILIES.items():
        if series[family]:
            lines += [
                f"# TYPE {family} gauge",
                *([f"# UNIT {family} {unit}"] if unit else []),
                f"# HELP {family} {said}",
            ]
            lines += series[family]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _samples(one: Found) -> Iterator[_Sample]:
    if one.verdict:
        yield "harness_verdict", {"verdict": one.verdict}, 1.0
    values = one.values()
    if one.kind == "latency":
        for cell in _cells(values.get("buckets")).values():
            yield from _numbers("harness_latency_ratio", {}, cell.get("ratio"))
            for role in ("baseline", "int8"):
                median = _cells(cell.get(role) and {role: cell[role]}).get(role, {}).get("median_ms")
                arm = str(values.get("baseline", role)) if role == "baseline" else role
                yield from _numbers("harness_latency_median_seconds", {"arm": arm}, median, 1e-3)
        session = _cells({"session": values.get("session")}).get("session", {})
        yield from _numbers("harness_latency_ratio", {}, _cells(session).get("ratio", {}).get("ratio"))
    elif one.kind == "accuracy":
        for bucket, cell in _cells(values.get("buckets")).items():
            yield from _numbers("harness_accuracy_sqnr_decibels", {"bucket": bucket}, cell.get("sqnr_db"))
            yield from _numbers("harness_accuracy_cosine", {"bucket": bucket}, cell.get("cosine"))
    elif one.kind == "build":
        for family, name in (
            ("harness_engine_size_bytes", "engine_bytes"),
            ("harness_build_duration_seconds", "build_seconds"),
            ("harness_int8_layers", "int8"),
        ):
            found = values.get(name)
            for profile, value in enumerate(found if isinstance(found, list) else [found]):
                yield from _numbers(family, {"profile": str(profile)}, value)


def _cells(found: Any) -> dict[str, Mapping[str, Any]]:  # noqa: ANN401 - as records have it
    if not isinstance(found, Mapping):
        return {}
    return {str(name): cell for name, cell in found.items() if isinstance(cell, Mapping)}


def _numbers(family: str, labels: dict[str, str], value: Any, factor: float = 1.0) -> Iterator[_Sample]:  # noqa: ANN401
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield family, labels, value * factor


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
