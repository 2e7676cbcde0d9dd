"""The table of what a calibration saw."""

from __future__ import annotations

from statistics import median_low
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table

from harness.spec.calibration import Policy

if TYPE_CHECKING:
    from harness.calibration.pipeline import Calibrated
    from harness.corpus.samples import Corpus
    from harness.spec.calibration import Calibration
    from harness.spec.model import Model
    from harness.spec.shapes import Layout

__all__ = ["calibrated_at", "seen", "summary"]

_SHOWN = 3


def calibrated_at(found: Calibrated, calibration: Calibration, layout: Layout) -> str:
    """Which lengths the model was run at, in words."""
    if calibration.policy is Policy.RAGGED:
        return "every sample's own length"
    if found.profile is None:
        return "each profile's own opt: " + ", ".join(str(profile.opt) for profile in layout.profiles)
    profile = layout.profiles[found.profile]
    return f"opt {profile.opt} of profile {found.profile} ({profile})"


def summary(model: Model, corpus: Corpus, found: Calibrated, calibration: Calibration, layout: Layout) -> Group:
    """Samples, lengths, padding and losses, and the widest and narrowest ranges."""
    seen, lengths = found.seen, corpus.lengths
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_row("calibration", f"{calibration.method}, {calibration.policy}, layout {layout.name}")
    if found.tried:
        facts.add_row("chosen", _chosen(found))
    facts.add_row("data", f"{corpus.origin} ({corpus.digest[:12]})")
    facts.add_row("samples", str(len(corpus)))
    facts.add_row("batches", str(found.consumed))
    facts.add_row("left out", str(seen.left_out))
    facts.add_row(
        "lengths",
        f"{min(lengths)} / {median_low(lengths)} / {max(lengths)} {model.axis_name} (min / median / max)",
    )
    facts.add_row("padded", f"{seen.padded_fraction:.1%} of what was seen")
    facts.add_row("lost", f"{seen.lost_fraction:.1%} of the data")
    facts.add_row("run at", calibrated_at(found, calibration, layout))
    facts.add_row("tensors", str(len(found.ranges[0])))
    return Group(facts, _ranges(found))


def seen(found: Calibrated) -> dict[str, Any]:
    """What the tables show: fractions of 1; of each profile, ``auto``'s dB by method, and tensor -> low, high."""
    return {
        "left_out": found.seen.left_out,
        "padded_fraction": found.seen.padded_fraction,
        "lost_fraction": found.seen.lost_fraction,
        "tried_db": list(found.tried or ()),
        "ranges": list(found.ranges),
    }


def _chosen(found: Calibrated) -> str:
    best = [f"{method} ({tried[str(method)]:.1f} dB)" for method, tried in zip(found.methods, found.tried, strict=True)]
    if len(best) == 1:
        return f"{best[0]} of " + ", ".join(f"{name} {value:.1f}" for name, value in found.tried[0].items())
    return ", ".join(f"profile {index}: {text}" for index, text in enumerate(best))


def _ranges(found: Calibrated) -> Table:
    several = len(found.ranges) > 1
    rows = sorted(
        ((high - low, name, low, high, index) for index, ranges in enumerate(found.ranges)
         for name, (low, high) in ranges.items()),
        reverse=True,
    )  # fmt: skip
    shown = rows if len(rows) <= 2 * _SHOWN else [*rows[:_SHOWN], *rows[-_SHOWN:]]
    table = Table("range", "tensor", *(["profile"] if several else []))
    for position, (_, name, low, high, index) in enumerate(shown):
        table.add_row(f"{low:.5g} .. {high:.5g}", name, *([str(index)] if several else []))
        if len(rows) > len(shown) and position == _SHOWN - 1:
            table.add_row("...", f"{len(rows) - len(shown)} between them", *([""] if several else []))
    return table
