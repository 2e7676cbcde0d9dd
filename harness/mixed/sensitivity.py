"""How much noise each operator's quantization makes, one at a time on, and what taking one out wins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.mixed.assignment import Assignment
    from harness.mixed.evaluate import Evaluator

__all__ = ["Sensitivity", "measure"]


@dataclass(frozen=True)
class Sensitivity:
    """One weighted node.

    :param on: noise to signal at the model's output with this node alone in INT8 (a ratio).
    :param off: the same with this node alone in float; None where it was not on the shortlist.
    :param saved: what INT8 saves there, see :class:`harness.mixed.gains.Gains`.
    """

    node: str
    on: float
    off: float | None
    saved: float


def measure(
    evaluator: Evaluator,
    base: Assignment,
    saved: dict[str, float],
    indices: Sequence[int],
    shortlist: int,
    going_on: Callable[[], bool],
    on_step: Callable[[str], None],
) -> list[Sensitivity]:
    """Every node that the base has in INT8, the noisiest first.

    One at a time on is additive as long as noise is small, and does not depend on what else is quantized: the cheap
    measure. One at a time off is what a search gains in the end, with all that errors do to one another: for the
    shortlist, the noisiest by the cheap one.

    :param indices: of the corpus; a few of each bucket.
    :param going_on: false when the time is up: nodes that were not reached then count as silent. Those that save the
        least come first, for they are the ones that a search leaves in float.
    """
    left = [node for node in evaluator.palette.nodes if node not in base.in_float]
    nodes = sorted(left, key=lambda node: saved[node])
    on: dict[str, float] = {}
    for number, node in enumerate(nodes, 1):
        if not going_on():
            break
        on_step(f"one at a time on: {number} of {len(nodes)}")
        alone = base.with_float(*(other for other in nodes if other != node))
        on[node] = evaluator.outcome(alone, indices).noise()
    ranked = sorted(nodes, key=lambda node: (-on.get(node, 0.0), node))
    off: dict[str, float] = {}
    for number, node in enumerate(ranked[:shortlist], 1):
        if not going_on():
            break
        on_step(f"one at a time off: {number} of {min(shortlist, len(ranked))}")
        off[node] = evaluator.outcome(base.with_float(node), indices).noise()
    return [Sensitivity(node, on.get(node, 0.0), off.get(node), saved[node]) for node in ranked]
