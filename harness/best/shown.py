"""A search's answer on a terminal: what to ship and how to make it, the candidates, the layouts."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from harness.best.evidence import RUNGS
from harness.measure.session import TRAFFIC
from harness.report.plain import new_table
from harness.report.visible import visible
from harness.spec.calibration import Policy, Precision, Route
from harness.spec.routes import cache_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from harness.best.evidence import Candidate, Speed
    from harness.best.found import Found
    from harness.best.layouts import LayoutAdvice
    from harness.spec.case import Case
    from harness.workbench import Workbench

_UNKNOWN = 1e4

__all__ = ["candidates_table", "commands", "layouts_lines", "layouts_table", "verdict_lines"]


def verdict_lines(found: Found) -> list[str]:
    """The answer, and what it rests on."""
    lines = [f"goal: {found.goal}, within the accuracy bounds"]
    if found.ship is None:
        return [*lines, f"nothing to ship: {found.why}"]
    what = {"met": "ship", "open": "not proved, nearest", "not met": "the goal is not met; nearest"}[found.word]
    lines.append(f"{what}: {found.ship.case.id}")
    lines.append(f"  {found.why}")
    if found.ship.session and found.ship.case.precision is not Precision.FP32:
        lines.append(f"  session: {_speeds(found.ship.session)}")
    elif found.ship.session and TRAFFIC in found.ship.session.ms:
        lines.append(f"  {_ms(found.ship.session)} a run of the traffic")
    if found.ship.test:
        lines.append(f"  test corpus, bucket by bucket: {found.ship.test.text()}")
    return lines


def candidates_table(found: Found) -> Table:
    """All candidates: how far each came, its numbers, and what rejected it; those that came farthest first.

    Those that one reason rejected stand in one row.
    """
    table = new_table("")
    table.add_column("candidate", overflow="fold", max_width=42)
    table.add_column("rung", no_wrap=True)
    table.add_column("dB", justify="right", no_wrap=True)
    table.add_column("speed", justify="right", no_wrap=True)
    table.add_column("why it goes no further", ratio=1, overflow="fold")
    order = sorted(found.candidates, key=lambda one: (-RUNGS.index(one.rung), bool(one.rejected)))
    rows: dict[tuple[str, ...], list[Candidate]] = {}
    for number, one in enumerate(order):
        alike = one.rejected and one.speed is None and one.search is None
        rows.setdefault((one.rung, one.rejected) if alike else (str(number),), []).append(one)
    for same in rows.values():
        one = same[0]
        known = one.test or one.search
        ratio = one.speed.ratio.get(TRAFFIC) if one.speed else None
        others = f" and {len(same) - 1} more" if len(same) > 1 else ""
        table.add_row(
            visible(_name(one.case)) + others, one.rung, f"{known.sqnr_db():.1f}" if known else "",
            f"{ratio[1]:.2f}x" if ratio else "", visible(one.rejected or _outcome(one, found)),
        )  # fmt: skip
    return table


def commands(
    bench: Workbench, ship: Candidate, model: str, described: list[str], bounds: Sequence[str] = ()
) -> list[str]:
    """The command lines that make the case's files, and that check it.

    :param model: the word that names the model; :param described: the options that describe a file of one's own.
    :param bounds: what was asked beside the model's own, as ``--bound`` takes it: the check asks it, too.
    """
    case, environment = ship.case, bench.environment(ship.case)
    options = shlex.join(described)
    word = shlex.quote(model)
    made: list[str] = []
    calibration = case.calibration
    if case.mixed:  # another search may end with another plan: it is the one that is kept that was judged
        made.append(shlex.join(["cp", str(bench.artefacts(case)[0]), f"{case.model}.mixed.onnx"]))
    elif calibration is not None and case.route is not Route.CALIBRATOR:
        emit = "trt-cache" if case.route is Route.CACHE else f"qdq-{bench.dialect(case).value}"
        version = cache_version(environment.version) if environment.runtime == "tensorrt" else ""
        suffix = "cache" if emit == "trt-cache" else "onnx"
        own = bench.entries[case.model].every is not None
        samples = "" if own else f"--samples {len(bench.corpus(case.model, 'calibration'))}"
        made.append(" ".join(filter(None, [
            f"harness calibrate {word}", options, f"--method {calibration.method}",
            f"--policy {calibration.policy.value}" if calibration.policy is not Policy.RAGGED else "",
            f"--layout {case.layout}" if case.layout != "single" else "",
            samples, f"--seed {bench.seed} --emit {emit}",
            f"--trt-version {version}" if version else "", f"-o {case.model}.int8.{suffix}",
        ])))  # fmt: skip
    asked = shlex.join(text for bound in bounds for text in ("--bound", bound))
    made.append(" ".join(filter(None, [_check(case, word, options, bench), asked])))
    return made


def layouts_table(advice: LayoutAdvice) -> Table | None:
    """Layouts of growing numbers of profiles: what each takes, saves and costs; None where there is no advice."""
    if advice.advice is None:
        return None
    table = new_table("")
    for head, justify in (
        ("layout", "left"),
        ("a run", "right"),
        ("saved", "right"),
        ("changes", "right"),
        ("with them", "right"),
    ):
        table.add_column(head, justify=justify, overflow="fold")  # type: ignore[arg-type]
    table.add_row(
        f"{advice.advice.single.text} (as given)",
        f"{advice.advice.single.expected_us:.1f}us",
        "",
        "0 %",
        f"{advice.advice.single.total_us:.1f}us",
    )
    for plan in advice.advice.plans:
        table.add_row(
            plan.text,
            f"{plan.expected_us:.1f}us",
            f"{100 * plan.saved:+.1f} %",
            f"{100 * plan.switches:.0f} %",
            f"{plan.total_us:.1f}us",
        )
    return table


def layouts_lines(advice: LayoutAdvice) -> list[str]:
    """The advice in sentences."""
    shares = ", ".join(f"{100 * share:g} % up to {length}" for share, length in advice.quantiles.items())
    lines = [f"traffic, {advice.unit}: {shares}"]
    if advice.advice is None:
        return [*lines, f"layout: {advice.why}"]
    best, apart, own = advice.advice.best, advice.advice.apart, advice.advice.single
    lines.append(
        f"layout: --layouts {best.text}: {best.total_us:.1f} us a run under the model; as given, in one profile, "
        f"{own.total_us:.1f}"
    )
    if apart.text != best.text:
        lines.append(
            f"  with an execution context for each profile no change costs: --layouts {apart.text}, "
            f"{apart.expected_us:.1f} us"
        )
    lines.append(f"  {advice.switch_from}; the model is within 8 % of half of the times that it was fitted to")
    lines.append("  so time layouts before you ship one")
    return [*lines, *(f"  {cost}" for cost in advice.costs)]


def _check(case: Case, word: str, options: str, bench: Workbench) -> str:
    own = f"--model {word} {options}" if options else f"--models {case.model}"
    precision = "int8-mixed" if case.mixed else case.precision.value
    precisions = f"fp32,{precision}" if case.precision is not Precision.FP32 else "fp32"
    calibration = case.calibration
    parts = ["pytest suites/", own, f"--runtime {case.runtime}", f"--precision {precisions}"]
    if calibration is not None and not case.mixed:
        parts.append(f"--methods {calibration.method} --policies {calibration.policy.value}")
    if case.route is not Route.QDQ:
        parts.append(f"--routes {case.route.value}")
    return " ".join([*parts, f"--layouts {case.layout} --seed {bench.seed}"])


def _outcome(one: Candidate, found: Found) -> str:
    if found.ship is one and found.word == "met":
        return "shipped"
    if one.case.precision is Precision.FP32:
        return "what all are held against"
    if one.test and one.session:
        return "the nearest" if found.ship is one else "judged; another one is chosen"
    return ""


def _speeds(speed: Speed) -> str:
    parts = []
    for name, (low, point, high) in speed.ratio.items():
        ms = f", {speed.ms[name][1]:.3g} ms" if name in speed.ms else ""
        interval = f"[{low:.2f}, {high:.2f}]" if high < _UNKNOWN else "(one launch shows no interval)"
        parts.append(f"{name} {point:.2f}x {interval}{ms}")
    return "; ".join(parts)


def _ms(speed: Speed) -> str:
    low, point, high = speed.ms[TRAFFIC]
    return f"{point:.3g} ms [{low:.3g}, {high:.3g}]"


def _name(case: Case) -> str:
    return case.id.removeprefix(f"{case.model}-{case.runtime}-")
