"""Calibration's cost: time and peak memory of every method, beside plain FP32 inference and ONNX Runtime's own.

    python benchmarks/calibration.py [--models vad,rec] [--rounds 3] [--seed 1] [--quick]

Every case runs in a fresh process and begins at the same things on disk: the prepared FP32 file and a corpus.
Its time runs from there to the ranges: loading the model, reading samples, observing, choosing. The floor is
ONNX Runtime running the same file over the same samples, its outputs fetched, with the same session options.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measuring import ROOT, Measured, fresh, machine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from onnxruntime.quantization import CalibrationDataReader

    from harness.corpus.catalogue import Entry
    from harness.corpus.samples import Corpus, Feeds

METHODS = ("minmax", "percentile", "entropy", "mse")
ORT_METHODS = {
    "ort-minmax": "MinMax",
    "ort-entropy": "Entropy",
    "ort-percentile": "Percentile",
    "ort-percentile-same-types": "Percentile",
}
SIZES = {"vad": (16, 64, 200), "rec": (16, 64)}
# by default it observes every operator: its Percentile takes seconds a sample on rec
ORT_SIZES = {"vad": (16, 64, 200), "rec": (16,)}
GOALS = {"minmax": 2.0, "percentile": 4.0, "entropy": 4.0, "mse": 4.0}
_PERCENTILE = 99.99
CLOCKS = ("cpu_seconds", "seconds")
"""Our arms and the floor compute on one thread: processor time is their time on an idle machine, and says the same
on a busy one. The wall clock's ratios stand beside it."""
_CAPTION = (
    "One fresh process a case; peak MB above what was resident before the model was loaded.\n"
    "Ratios are taken within a round.\n"
    "ONNX Runtime's arms: quantize_static with CalibStridedMinMax=1, its default threads, in the first round only;\n"
    "on rec only n=16 (its Percentile takes seconds a sample). As it comes it observes all operator types,\n"
    "same-types only those that ours does. Their time s ends when the ranges are known,\n"
    "cpu s and peak MB are of the whole call."
)
_FLAT = 0.10
_FASTER_THAN_ORT = 5.0


# -- the cases: each makes its preparations and returns the work --------------------------------------------------


def floor(prepared: str, corpus: str, count: int) -> Callable[[], dict[str, Any]]:
    """Plain inference, with the options that observing uses."""
    import onnxruntime  # noqa: F401 - imported before the clock starts

    from harness.calibration.observe import open_session

    samples = _corpus(corpus, count)

    def work() -> dict[str, Any]:
        session = open_session(Path(prepared), [], threads=1)
        for feeds in samples:
            session.run(None, feeds)
        return {}

    return work


def ours(key: str, method: str, prepared: str, corpus: str, count: int) -> Callable[[], dict[str, Any]]:
    """What ``harness calibrate`` does, up to the ranges: dialect u8s8, policy ragged."""
    import onnxruntime  # noqa: F401 - imported before the clock starts

    from harness.calibration.pipeline import calibrate
    from harness.spec.calibration import Calibration, Dialect, Method, Policy
    from harness.spec.shapes import layout_from_text

    samples, model = _corpus(corpus, count), _entry(key).model
    calibration = Calibration(Method.parse(method), Policy.RAGGED)
    layout = layout_from_text("single", model)

    def work() -> dict[str, Any]:
        found = calibrate(Path(prepared), model, samples, samples.lengths, calibration, layout, Dialect.U8S8)
        return {"tensors": len(found.ranges[0]), "consumed": found.consumed}

    return work


def onnxruntimes(arm: str, prepared: str, corpus: str, count: int) -> Callable[[], dict[str, Any]]:
    """``quantize_static``, timed up to the moment it has its ranges and writes them to its cache file.

    It opens its session itself, with ONNX Runtime's default threads (one a core): they cannot be set. Peak memory
    is that of the whole call. It quantizes the operator types of its own default, or for ``-same-types`` ours.
    """
    import onnx
    import onnxruntime.quantization as ortq

    from harness.modelfile import WEIGHTED_TYPES, weighted_nodes

    reader = _reader(_corpus(corpus, count))
    same = {"nodes_to_quantize": weighted_nodes(onnx.load(prepared)), "op_types_to_quantize": list(WEIGHTED_TYPES)}

    def work() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="bench.") as scratch:
            cache = Path(scratch, "ranges.json")
            start = time.time()  # the clock that a file's time is told by
            ortq.quantize_static(
                prepared,
                Path(scratch, "out.onnx"),
                reader,
                per_channel=True,
                **(same if arm.endswith("-same-types") else {}),
                activation_type=ortq.QuantType.QUInt8,
                weight_type=ortq.QuantType.QInt8,
                calibrate_method=ortq.CalibrationMethod[ORT_METHODS[arm]],
                extra_options={"CalibStridedMinMax": 1, "CalibPercentile": _PERCENTILE},
                calibration_cache_path=cache,
            )
            return {"seconds": cache.stat().st_mtime - start}

    return work


def observed(prepared: str, corpus: str, count: int) -> Callable[[], dict[str, Any]]:
    """How many bytes the observed tensors of the longest (the first) sample hold."""
    import onnx

    from harness.calibration.observe import observe
    from harness.calibration.qdq import tensors_to_observe
    from harness.modelfile import weighted_nodes
    from harness.spec.calibration import Dialect

    proto = onnx.load(prepared)
    tensors = tensors_to_observe(proto, weighted_nodes(proto), Dialect.U8S8)
    first = next(iter(_corpus(corpus, count)))

    def work() -> dict[str, Any]:
        seen = observe(proto, tensors, [first]).tensors
        return {"bytes": sum(statistic.count for statistic in seen.values()) * 4}

    return work


def _reader(samples: Corpus) -> CalibrationDataReader:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.set_range(0, len(samples))

        def __len__(self) -> int:
            return len(samples)

        def set_range(self, start_index: int, end_index: int) -> None:
            self._left = iter(range(start_index, end_index))

        def get_next(self) -> Feeds | None:
            index = next(self._left, None)
            return None if index is None else samples[index]

    return Reader()


def _corpus(folder: str, count: int) -> Corpus:
    """The first ``count`` samples, so that every larger set contains the smaller ones."""
    from harness.corpus.samples import Corpus

    whole = Corpus.open(Path(folder))
    if whole is None:
        raise FileNotFoundError(folder)
    return replace(whole, lengths=whole.lengths[:count])


def _entry(key: str) -> Entry:
    sys.path.insert(0, str(ROOT))
    from fixtures.catalogue import ENTRIES

    return ENTRIES[key]


# -- the plan, and what it gives ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Cases that are compared with one another: one model, one set of samples."""

    key: str
    count: int


@dataclass(frozen=True)
class Plan:
    """Where a model's things are, and what is measured on them."""

    prepared: str
    corpus: str
    sizes: Sequence[int]
    ort_sizes: Sequence[int]

    def arms(self, count: int, number: int) -> list[str]:
        """What runs in round ``number``: ONNX Runtime's calibrators in the first one only, they take too long."""
        own = ["floor", *METHODS]
        return own + list(ORT_METHODS) if number == 0 and count in self.ort_sizes else own


Results = dict[tuple[str, int, str], list[Measured]]


def draw(entry: Entry, count: int, folder: Path, seed: int) -> Corpus:
    """``count`` natural samples, the longest of them first."""
    from harness.corpus.samples import Corpus, length_of

    samples = list(itertools.islice(entry.samples("calibration", seed), count))
    longest = max(range(count), key=lambda index: length_of(entry.model, samples[index]))
    samples.insert(0, samples.pop(longest))
    return Corpus.write(folder, entry.model, samples, f"{entry.model.key} calibration, seed {seed}, longest first")


def measure(key: str, plan: Plan, count: int, arm: str) -> Measured:
    where = {"prepared": plan.prepared, "corpus": plan.corpus, "count": count}
    if arm == "floor":
        return fresh("calibration:floor", where)
    if arm in ORT_METHODS:
        return fresh("calibration:onnxruntimes", {"arm": arm, **where})
    done = fresh("calibration:ours", {"key": key, "method": arm, **where})
    if done.result["consumed"] != count:
        raise RuntimeError(f"{key} {arm}: {done.result['consumed']} of {count} samples were consumed")
    return done


def run(plans: dict[str, Plan], rounds: int, seed: int, progress: Callable[[str], None]) -> Results:
    """Every case, ``rounds`` times. The order is random, but one group's arms stay next to one another."""
    order = random.Random(seed)
    results: Results = defaultdict(list)
    groups = [Group(key, count) for key, plan in plans.items() for count in plan.sizes]
    for number in range(rounds):
        order.shuffle(groups)
        for group in groups:
            plan = plans[group.key]
            arms = plan.arms(group.count, number)
            order.shuffle(arms)
            for arm in arms:
                progress(f"round {number + 1} of {rounds}: {group.key} n={group.count} {arm}")
                results[group.key, group.count, arm].append(measure(group.key, plan, group.count, arm))
    return results


def ratios(results: Results, key: str, count: int, arm: str, clock: str) -> list[float]:
    """Time over the floor's by a clock (a field of :class:`Measured`), round by round."""
    pairs = zip(results[key, count, arm], results[key, count, "floor"], strict=False)
    return [getattr(mine, clock) / getattr(floor, clock) for mine, floor in pairs]


def summary(results: Results, key: str, plan: Plan, observed_mb: float) -> dict[str, Any]:
    """One model's figures and which goals they meet. Ratios are the worst over the corpus sizes."""
    sizes = sorted(plan.sizes)
    found: dict[str, Any] = {}
    for clock in CLOCKS:
        suffix = "" if clock == CLOCKS[0] else f"_{clock}"
        for method in METHODS:
            worst = max(statistics.median(ratios(results, key, n, method, clock)) for n in sizes)
            found[f"{method}_over_floor{suffix}"] = round(worst, 2)
    compared = [n for n in plan.ort_sizes if results[key, n, "ort-percentile"]]
    if compared:
        for name, arm in (("", "ort-percentile"), ("_same_types", "ort-percentile-same-types")):
            pairs = [(results[key, n, arm][0], results[key, n, "percentile"][0]) for n in compared]
            found[f"percentile_over_ort{name}"] = round(min(theirs.seconds / mine.seconds for theirs, mine in pairs), 1)
    peak = {(arm, n): _median_peak(results[key, n, arm]) for arm in ("floor", *METHODS) for n in sizes}
    growth = [peak[method, sizes[-1]] / peak[method, sizes[0]] for method in METHODS]
    found["rss_growth"] = round(max(growth, key=lambda ratio: abs(ratio - 1)), 3)
    found["rss_over_floor_mb"] = round(max(peak[method, n] - peak["floor", n] for method in METHODS for n in sizes), 1)
    found["observed_mb"] = round(observed_mb, 1)
    found["goals"] = {
        **{f"{method}_over_floor": found[f"{method}_over_floor"] <= most for method, most in GOALS.items()},
        "rss_growth": abs(found["rss_growth"] - 1) <= _FLAT,
        "rss_over_floor_mb": found["rss_over_floor_mb"] <= found["observed_mb"],
    }
    if key == "rec" and compared:
        found["goals"]["percentile_over_ort"] = found["percentile_over_ort"] >= _FASTER_THAN_ORT
    return found


def _median_peak(done: Sequence[Measured]) -> float:
    return statistics.median(one.peak_mb for one in done)


def show(results: Results, plans: dict[str, Plan], summaries: dict[str, dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Calibration: median (min..max)", caption=_CAPTION, caption_justify="left")
    for column in ("model", "n", "arm", "time s", "cpu s", "cpu / floor", "time / floor", "peak MB", "rounds"):
        table.add_column(column, justify="left" if column in {"model", "arm"} else "right")
    for key, plan in plans.items():
        for count in plan.sizes:
            for arm in ("floor", *METHODS, *ORT_METHODS):
                done = results[key, count, arm]
                if not done:
                    continue
                in_cpu, in_wall = (ratios(results, key, count, arm, clock) for clock in CLOCKS)
                table.add_row(
                    key, str(count), arm,
                    _spread([one.seconds for one in done]), _spread([one.cpu_seconds for one in done]),
                    _spread(in_cpu), _spread(in_wall), _spread([one.peak_mb for one in done], 1), str(len(done)),
                )  # fmt: skip
        table.add_section()
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(table)
    for key, found in summaries.items():
        missed = [name for name, met in found["goals"].items() if not met]
        console.print(f"{key}: {'goals missed: ' + ', '.join(missed) if missed else 'every goal met'}")


def _spread(values: Sequence[float], digits: int = 2) -> str:
    middle = f"{statistics.median(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f}..{max(values):.{digits}f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", default="vad,rec", help="of vad and rec (default: both)")
    parser.add_argument("--rounds", type=int, default=3, help="of our arms and the floor (default: 3)")
    parser.add_argument("--seed", type=int, default=1, help="draws samples and orders (default: 1)")
    parser.add_argument("--quick", action="store_true", help="one round, without ONNX Runtime's calibrators")
    options = parser.parse_args()
    keys = options.models.split(",")
    if unknown := set(keys) - set(SIZES):
        parser.error(f"no sizes for {', '.join(sorted(unknown))}; the models are {', '.join(SIZES)}")

    from harness.modelfile import prepare

    def progress(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="bench.") as scratch:
        plans, digests, observed_mb = {}, {}, {}
        for key in keys:
            progress(f"{key}: model and samples")
            entry = _entry(key)
            prepared = str(prepare(entry.onnx(), entry.model))
            corpus = draw(entry, max(SIZES[key]), Path(scratch, key), options.seed)
            plans[key] = Plan(prepared, str(corpus.folder), SIZES[key], () if options.quick else ORT_SIZES[key])
            digests[key] = corpus.digest
            first = fresh("calibration:observed", {"prepared": prepared, "corpus": str(corpus.folder), "count": 1})
            observed_mb[key] = first.result["bytes"] / 1e6
        results = run(plans, 1 if options.quick else options.rounds, options.seed, progress)
    found = {key: summary(results, key, plan, observed_mb[key]) for key, plan in plans.items()}
    show(results, plans, found)
    for key, digest in digests.items():
        found[key]["corpus"] = digest
    print(json.dumps({**found, "machine": machine()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
