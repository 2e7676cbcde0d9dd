"""Does measuring here tell the truth? Sessions whose answer is known, on this very machine.

A/A sessions compare a file with itself; the others compare it with a file that has 3, 5 or 10 % more layers. What
comes out is how often each verdict is given, and so the margins that this machine supports. The gate that most people
use today (pytest-benchmark's compare-fail) is asked the same question about the same files in the same minutes.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from harness.errors import DataError
from harness.measure import arms, clock, launch, sequential_gate, session, workload
from harness.measure.arms import Arm, Design, Input, Question
from harness.measure.burners import burners
from harness.measure.session import run_session
from harness.stats import verdict
from harness.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from harness.stats.verdict import Margins
    from harness.workers import Environment

    Line = dict[str, Any]

__all__ = [
    "CONDITIONS",
    "GATE",
    "OURS",
    "WORDS",
    "Condition",
    "Supported",
    "design_digest",
    "failed_line",
    "gate_line",
    "interval",
    "schedule",
    "session_line",
    "summary",
    "supported_margins",
]

OURS, GATE = "ours", "pytest_benchmark_median5"
"""Who judged a line: our session, or pytest-benchmark."""

WORDS = ("regression", "pass", "minor", "improved", "inconclusive", "invalid")

_DECIDE_NOTHING = {"__init__", "multiple", "tails"}
"""Modules of ``harness/stats`` that no verdict of one session goes through."""


@dataclass(frozen=True)
class Condition:
    """One question whose answer is known.

    :param layers: of the candidate; the baseline has :data:`harness.measure.workload.LAYERS`.
    :param noise: whether burners run meanwhile.
    :param weight: how often it is drawn, compared with the others.
    """

    name: str
    layers: int
    noise: bool = False
    weight: float = 1.0


CONDITIONS = {
    one.name: one
    for one in (
        Condition("aa", 155, weight=2.0),
        Condition("aa_noise", 155, noise=True),
        Condition("plus3", 160),
        Condition("plus5", 163),
        Condition("plus10", 171),
        Condition("plus5_noise", 163, noise=True),
    )
}
"""By name: 3.2, 5.2 and 10.3 % more layers, which take 3.1, 5.1 and 10.2 % more time.

A/A twice as often, because a rate near 0 takes more sessions to know than one near 1.
"""


def design_digest(design: Design, margins: Margins) -> str:
    """Eight digits that change with anything that can change a verdict: design, margins, workload, the code's meaning.

    Docstrings, comments and layout of the code do not count.
    """
    measuring = [Path(str(module.__file__)) for module in (arms, clock, launch, session)]
    judging = sorted(one for one in Path(str(verdict.__file__)).parent.glob("*.py") if one.stem not in _DECIDE_NOTHING)
    meanings = [_meaning(path.read_text("utf-8")) for path in (*measuring, *judging)]
    parts = [asdict(design), asdict(margins), workload.chain().name, meanings]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


def _meaning(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [one for one in body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
            node.body = kept  # type: ignore[attr-defined] # it has one
    return ast.dump(tree)


def schedule(conditions: Sequence[Condition], seed: int) -> Iterator[tuple[Condition, int]]:
    """Conditions in random order without end, each with a session's seed.

    Drawn in rounds, in which each comes as often as its weight says, so that no condition has an hour to itself.
    """
    random = np.random.default_rng(seed)
    unit = min(one.weight for one in conditions)
    turns = [one for one in conditions for _ in range(round(one.weight / unit))]
    while True:
        for place in random.permutation(len(turns)):
            yield turns[int(place)], int(random.integers(2**31))


def session_line(environment: Environment, condition: Condition, design: Design, margins: Margins, seed: int) -> Line:
    """One session of ours under a condition, as a line for :func:`summary`.

    :raises HarnessError: the runtime does not run here.
    """
    files = [_artefact(environment, layers) for layers in (workload.LAYERS, condition.layers)]
    question = Question(
        Arm("baseline", environment, files[0]),
        Arm("candidate", environment, files[1]),
        (Input("chain", 64, workload.feeds()),),
    )
    began = time.monotonic()
    with burners(seed) if condition.noise else nullcontext():
        outcome = run_session(question, design, margins, seed)
    found, null = outcome.traffic, outcome.null
    return {
        "who": OURS,
        "condition": condition.name,
        "seed": seed,
        "verdict": outcome.verdict.word,
        "why": outcome.verdict.why,
        "seconds": outcome.seconds["measuring"],
        "overhead_seconds": outcome.seconds["starting"] + outcome.seconds["warming"],
        "wall_seconds": time.monotonic() - began,
        "launches": len(outcome.launches),
        "lost": len(outcome.lost),
        "stopped_by": outcome.stopped_by,
        "clock": outcome.clock,
        "point": None if found is None else found.point,
        "low": None if found is None else _finite(found.interval.low),
        "high": None if found is None else _finite(found.interval.high),
        "null": None if null is None else null.point,
        "launch_sd": None if found is None else _finite(found.launch_sd),
        "block_sd": None if found is None else _finite(found.block_sd),
    }


def failed_line(condition: Condition, seed: int, error: Exception, seconds: float) -> Line:
    """A session of ours that raised: it counts, as invalid."""
    return {
        "who": OURS,
        "condition": condition.name,
        "seed": seed,
        "verdict": "invalid",
        "why": f"{type(error).__name__}: {error}",
        "seconds": seconds,
        "overhead_seconds": 0.0,
        "wall_seconds": seconds,
        "launches": 0,
        "lost": 0,
        "stopped_by": "error",
        "point": None,
        "high": None,
    }


def gate_line(condition: Condition, seed: int) -> Line:
    """One pair of pytest-benchmark runs under a condition, as a line for :func:`summary`.

    :raises HarnessError: pytest-benchmark is not there, or its runs failed.
    """
    began = time.monotonic()
    with burners(seed) if condition.noise else nullcontext():
        gate = sequential_gate.pytest_benchmark_pair(workload.chain(), workload.chain(condition.layers))
    return {
        "who": GATE,
        "condition": condition.name,
        "seed": seed,
        "verdict": gate.verdict,
        "seconds": gate.seconds,
        "overhead_seconds": gate.overhead_seconds,
        "wall_seconds": time.monotonic() - began,
    }


def _artefact(environment: Environment, layers: int) -> Path:
    """The file that is loaded: the chain, or an engine made of it where the runtime builds engines."""
    source = workload.chain(layers)
    if environment.runtime == "onnxruntime":
        return source
    with Worker(environment) as worker:
        _, artefact = worker.build(source)
    return artefact


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def interval(count: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval of a rate (Clopper & Pearson 1934); (0, 1) where nothing was tried.

    :raises DataError: not 0 <= count <= n.
    """
    if not 0 <= count <= n:
        raise DataError(f"{count} of {n}", where="the interval of a rate")
    tail = (1 - confidence) / 2
    low = float(stats.beta.ppf(tail, count, n - count + 1)) if count else 0.0
    high = float(stats.beta.isf(tail, count + 1, n - count)) if count < n else 1.0
    return low, high


def summary(lines: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Who -> condition -> ``n``, the rate of every word (0 to 1), and what it cost.

    Beside the rates: ``intervals`` (95 %, by word), ``seconds_median`` and ``seconds_p90`` (measuring),
    ``overhead_seconds_median`` (starting and warming up; for pytest-benchmark what its processes took beside their
    tests), and for ours ``launches_median``, ``effect_median`` (candidate / baseline - 1) and ``stopped_by``.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for line in lines:
        groups.setdefault((line["who"], line["condition"]), []).append(line)
    out: dict[str, dict[str, dict[str, Any]]] = {}
    for who in (OURS, GATE):
        for condition in CONDITIONS:
            if (who, condition) in groups:
                out.setdefault(who, {})[condition] = _row(groups[who, condition])
    return out


def _row(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    counts = Counter(line["verdict"] for line in lines)
    n = len(lines)
    row: dict[str, Any] = {"n": n, **{word: counts[word] / n for word in WORDS}}
    row["intervals"] = {word: list(interval(counts[word], n)) for word in WORDS}
    seconds = [line["seconds"] for line in lines]
    row["seconds_median"], row["seconds_p90"] = float(np.median(seconds)), float(np.percentile(seconds, 90))
    row["overhead_seconds_median"] = float(np.median([line["overhead_seconds"] for line in lines]))
    if any("launches" in line for line in lines):
        row["launches_median"] = float(np.median([line["launches"] for line in lines]))
        points = [line["point"] for line in lines if line.get("point") is not None]
        row["effect_median"] = math.expm1(float(np.median(points))) if points else None
        row["stopped_by"] = dict(Counter(line["stopped_by"] for line in lines))
    return row


@dataclass(frozen=True)
class Supported:
    """The margins that a machine supports, as ratios minus 1.

    :param tolerated: 97.5th percentile of the size of A/A point estimates: less is noise.
    :param caught: 90th percentile of the upper ends of A/A intervals, and no less than ``tolerated``: with it nine of
        ten sessions on equal code pass.
    :param sessions: A/A sessions that they rest on; below 40, the percentile is little more than the largest.
    """

    tolerated: float
    caught: float
    sessions: int


def supported_margins(lines: Iterable[Mapping[str, Any]]) -> Supported | None:
    """From the A/A sessions of ours, with and without burners; None where there are none."""
    ours = [one for one in lines if one["who"] == OURS and CONDITIONS[one["condition"]].layers == workload.LAYERS]
    usable = [one for one in ours if one.get("point") is not None and one["verdict"] != "invalid"]
    if not usable:
        return None
    tolerated = float(np.percentile([abs(one["point"]) for one in usable], 97.5))
    upper = [math.inf if one["high"] is None else one["high"] for one in usable]
    caught = float(np.percentile(upper, 90, method="inverted_cdf"))
    return Supported(math.expm1(tolerated), math.expm1(max(caught, tolerated)), len(usable))
