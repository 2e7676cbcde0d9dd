"""Rules on lengths: whether INT8 pays at each, and whether profiles stand where the traffic is."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from harness.explain.rules.registry import Told, counted, number, rule
from harness.spec.calibration import Precision
from harness.spec.case import read_case

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.explain.rules.registry import Subject

_FAR = 2.0
_DEAR = 0.1


@rule("not-faster", "slow", needs="baseline")
def not_faster(subject: Subject) -> Iterator[Told]:
    """Lengths at which the whole model is not faster in INT8."""
    ratios = {}
    for table in subject.tables:
        base, case = subject.baseline_of(table), read_case(table.case)
        in_int8 = case is None or case.precision is Precision.INT8
        if in_int8 and base is not None and table.whole_us and base.whole_us:
            ratios[table.length] = (base.whole_us / table.whole_us, table.whole_us - base.whole_us)
    behind = {length: pair for length, pair in ratios.items() if pair[0] <= 1}
    if behind:
        length = min(behind, key=lambda one: behind[one][0])
        ratio, lost = behind[length]
        everywhere = len(behind) == len(ratios)
        yield Told(
            f"not faster in INT8 at {'any' if everywhere else len(behind)} of {counted(len(ratios), 'length')}:"
            f" {ratio:.2f}x at length {length}"
            f" ({', '.join(f'{one}: {pair[0]:.2f}x' for one, pair in sorted(ratios.items()))})",
            tuple(f"length {one}" for one in sorted(behind)),
            "see the layers' findings; medians of single sessions: pytest suites/test_latency.py judges it"
            + ("" if everywhere else "; serve these lengths with a float engine of their own"),
            {"lengths": len(ratios), "not_faster": len(behind), "worst_ratio": number(ratio), "at": length},
            lost if lost > 0 else None,
        )


@rule("far-opt", "slow", needs="traffic")
def far_opt(subject: Subject) -> Iterator[Told]:
    """Profiles whose opt is far from the lengths that they serve."""
    if subject.layout is None or not subject.lengths:
        return
    inside = [length for length in subject.lengths if subject.layout.minimum <= length <= subject.layout.maximum]
    found = []
    for profile in subject.layout.profiles:
        served = [length for length in inside if length in profile]
        if len(served) < 2 or len(served) < 0.05 * len(inside):
            continue
        usual = statistics.median(served)
        apart = max(profile.opt / usual, usual / profile.opt)
        if apart > _FAR:
            found.append((apart, profile, usual, len(served) / len(inside)))
    if found:
        apart, profile, usual, share = max(found, key=lambda item: item[0])
        yield Told(
            f"{counted(len(found), 'profile')} with an opt far from the traffic: {profile} serves {share:.0%} of it,"
            f" half of that below {usual:g}, {apart:.1f} times away; kernels are chosen for opt",
            tuple(str(one) for _, one, _, _ in found),
            f"--layouts {profile.min}-{int(usual)}-{profile.max}, or further profiles: --layouts buckets3",
            {
                "count": len(found), "opt": profile.opt, "median_length": number(usual), "times": number(apart),
                "share": round(share, 4),
            },
        )  # fmt: skip


@rule("dear-switch", "slow", needs="traffic")
def dear_switch(subject: Subject) -> Iterator[Told]:
    """Changes of profile that cost a good part of a run."""
    table, layout = subject.table, subject.layout
    if subject.switch_us is None or table is None or not table.whole_us or layout is None or len(layout.profiles) < 2:
        return
    share = subject.switch_us / table.whole_us
    if share > _DEAR:
        lengths = [one for one in subject.lengths if layout.minimum <= one <= layout.maximum]
        served = [layout.dispatch(one) for one in lengths]
        frequent = 1 - sum((served.count(one) / len(served)) ** 2 for one in set(served)) if served else 1.0
        yield Told(
            f"a change of profile costs {subject.switch_us:.0f} us, {share:.0%} of a run of {table.whole_us:.0f} us at"
            f" length {table.length}; in random order {frequent:.0%} of the runs change it",
            tuple(map(str, layout.profiles)),
            "an execution context for each profile, requests sorted by length, or fewer profiles (--layouts single)",
            {"switch_us": number(subject.switch_us), "share": number(share), "changes": round(frequent, 4)},
            subject.switch_us * frequent,
        )
