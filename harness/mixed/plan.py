"""What a search ended with: a small JSON file, kept beside the model that it was made for, to build from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.calibration.qdq import quantized_tensors
from harness.calibration.rescaling import rescaled_file
from harness.errors import UsageError
from harness.mixed.assignment import Assignment
from harness.mixed.palette import mixed_file
from harness.paths import cache_dir, written
from harness.results.record import encode, restored
from harness.spec.calibration import Dialect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import onnx

    from harness.calibration.ranges import Ranges

__all__ = ["Plan", "file_of", "find", "is_better", "keep", "ranges_of", "read"]

_VERSION = 1


@dataclass(frozen=True)
class Plan:
    """Which operators of one prepared model stay in float in one dialect, and the ranges of all others.

    :param model: its key. :param prepared: the prepared file's name, which goes by its content.
    :param method: that the ranges are chosen by where ``assignment`` names no other one.
    :param ranges: quantized tensor -> (low, high); they already follow the assignment.
    :param evidence: what the search saw and reached, as plain data: bounds, corpora, scores, the front, seconds.
    """

    model: str
    prepared: str
    dialect: Dialect
    method: str
    assignment: Assignment
    ranges: Ranges
    evidence: dict[str, Any] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "model": self.model,
            "prepared": self.prepared,
            "dialect": self.dialect.value,
            "method": self.method,
            "assignment": self.assignment.as_data(),
            "ranges": {name: list(one) for name, one in sorted(self.ranges.items())},
            "evidence": self.evidence,
        }


def ranges_of(
    prepared: onnx.ModelProto,
    nodes: Sequence[str],
    dialect: Dialect,
    by_method: Mapping[str, Ranges],
    assignment: Assignment,
) -> Ranges:
    """Every quantized tensor's own range, by the method that the assignment or, first of all, ``by_method`` names."""
    first, own = next(iter(by_method)), dict(assignment.methods)
    return {
        name: by_method[own.get(name, first)][source]
        for name, source in quantized_tensors(prepared, nodes, dialect).items()
    }


def file_of(plan: Plan, prepared: Path) -> Path:
    """The plan's Q/DQ file, cached by content.

    :param prepared: the model that the plan was made for.
    :raises CalibrationFailed: see :func:`harness.calibration.qdq.write_qdq`.
    """
    source = rescaled_file(prepared, plan.assignment.rows)
    return mixed_file(source, plan.ranges, plan.assignment, plan.dialect)


def keep(plan: Plan) -> Path:
    """Write the plan to where :func:`find` looks for it."""
    path = _path(plan.prepared, plan.dialect)
    with written(path) as file:
        file.write(json.dumps(json.loads(encode(plan.as_data())), indent=1).encode())
    return path


def is_better(old: Plan | None, new: Plan) -> bool:
    """Whether an earlier plan is to stay: it met what the new one was asked for, and the new one did not."""
    if old is None or old.evidence.get("bounds") != new.evidence.get("bounds"):
        return False
    ours, theirs = (_worth(one.evidence) for one in (old, new))
    return ours > theirs


def _worth(evidence: Mapping[str, Any]) -> tuple[bool, bool, bool]:
    """Whether bounds were met, with the speed-up kept that was asked for; whether at all; whether for certain."""
    met = bool(evidence.get("met"))
    fast = evidence.get("reached", {}).get("kept", 1.0) >= evidence.get("keep", 0.0)
    return met and fast, met, bool(evidence.get("met_for_certain"))


def find(prepared: Path, dialect: Dialect) -> Plan | None:
    """The plan of the newest search of this model in this dialect; None where there was none."""
    path = _path(prepared.name, dialect)
    return read(path) if path.is_file() else None


def read(path: Path) -> Plan:
    """A plan out of a file.

    :raises UsageError: it is none, or of a newer version.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != _VERSION:
            raise UsageError(
                f"a plan of version {data['version']}", where=str(path), todo="search again: harness mix MODEL"
            )
        return Plan(
            data["model"],
            data["prepared"],
            Dialect(data["dialect"]),
            data["method"],
            Assignment.from_data(data["assignment"]),
            {name: (float(low), float(high)) for name, (low, high) in data["ranges"].items()},
            restored(data["evidence"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"no plan of mixed precision: {type(error).__name__}: {error}",
            where=str(path),
            todo="search again: harness mix MODEL",
        ) from error


def _path(prepared: str, dialect: Dialect) -> Path:
    return cache_dir("mixed") / f"{prepared.removesuffix('.onnx')}-{dialect.value}.json"
