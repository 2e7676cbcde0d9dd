"""Accuracy against FP32: pooled over a real corpus in every length bucket, and on examples that hypothesis draws.

A failing example is shrunk to the shortest length that fails and printed as a command that runs it again.
"""

import dataclasses
import math

import hypothesis
import pytest
from hypothesis import given, settings

from harness.corpus.content import make
from harness.corpus.strategies import draws
from harness.errors import WorkerDied, WorkerHung
from harness.materials import bucket_name
from harness.spec.shapes import length_buckets


class _Ended(BaseException):
    """Without a worker there is nothing to shrink: hypothesis passes on at once what is no Exception."""


@pytest.mark.cases(precisions=("int8", "fp16"))
def test_corpus(case, bench, plan):
    served = bench.served(case)
    found = bench.accuracy(case, served)
    reasons = [
        f"{bucket}: {reason}"
        for bucket, aggregate in found.items()
        for reason in bench.verdict(case.model, bucket, aggregate)
    ]
    missing = bench.buckets_without_samples(case.model)
    unbounded = [bucket for bucket in found if not bench.model(case.model).bounds_for(bucket)]
    bench.record(
        "accuracy",
        case,
        _verdict(found, reasons, missing, unbounded),
        without_samples=missing,
        unbounded=unbounded,
        buckets={bucket: dataclasses.asdict(aggregate.comparison) for bucket, aggregate in found.items()},
        reasons=reasons or ([f"no test sample in {', '.join(missing)}"] if missing else []),
        methods=[str(method) for method in bench.chosen_methods(case)],
        profiles=[dataclasses.astuple(profile) for profile in served.layout.profiles],
        axis=bench.model(case.model).axis_name,
        lengths={split: sorted(bench.corpus(case.model, split).lengths) for split in ("calibration", "test")},
    )
    if reasons and is_comparison(case, plan):
        pytest.xfail("a comparison arm, not asked for by name: " + "; ".join(reasons))
    if reasons:
        pytest.fail(f"{case}:\n" + "\n".join(reasons), pytrace=False)


@pytest.mark.cases(precisions=("int8",), default_calibration=True)
def test_drawn(case, bench, plan, request):
    served, reference = bench.served(case), bench.reference(case)
    entry, corpus = bench.entries[case.model], bench.corpus(case.model, "test")
    buckets = length_buckets(entry.model)
    seen, bounded = [], []

    def check(draw):
        feeds = make(draw, entry, None if entry.synthetic else corpus)
        try:
            outputs = reference.run(feeds), served.run(feeds)
        except (WorkerDied, WorkerHung) as error:
            raise _Ended from error
        comparison = bench.compare(case.model, *outputs)
        bucket = bucket_name(buckets, draw.length)
        bounded.append(bool(entry.model.bounds_for_draw(bucket)))
        seen.append({"bucket": bucket, **dataclasses.asdict(draw), **dataclasses.asdict(comparison)})
        reasons = bench.drawn_verdict(case.model, bucket, comparison)
        if reasons:  # hypothesis goes on to look for a shorter one
            pytest.fail(
                f"{case}: {'; '.join(reasons)} at length {draw.length} ({bucket})\n"
                f"  again: {plan.again(request.path, 'test_drawn', bench.placed(case), draw)}",
                pytrace=False,
            )

    def result(verdict):
        bench.record("drawn", case, verdict, examples=len(seen), worst=_worst(seen))

    try:
        if plan.draw is not None:
            check(plan.draw)
        else:
            examples = settings(
                max_examples=bench.matrix.draws,
                deadline=None,  # latency is not a property of one call
                database=None,
                suppress_health_check=list(hypothesis.HealthCheck),
                print_blob=False,
                report_multiple_bugs=False,
            )
            strategy = draws(served.layout, None if entry.synthetic else corpus, entry.model.gains)
            hypothesis.seed(bench.seed)(examples(given(strategy)(check)))()
    except _Ended as ended:
        raise ended.__cause__ from None
    except pytest.fail.Exception:
        result("below bounds")
        raise
    result("pass" if any(bounded) else "unjudged")


def _verdict(found, reasons, missing, unbounded):
    if reasons:
        return "below bounds"
    if missing:
        return "unknown"
    return "unbounded" if len(unbounded) == len(found) else "pass"


def is_comparison(case, plan):
    """Whether the case stands beside the default only to be compared with it."""
    default = f"{plan.matrix.methods[0]}-{plan.matrix.policies[0]}"
    return case.calibration is not None and not plan.chose_calibration and str(case.calibration) != default


def _worst(seen):
    """The example with the least SQNR; one without a number is worse than any."""
    return min(seen, key=lambda e: -math.inf if math.isnan(e["sqnr_db"]) else e["sqnr_db"], default=None)
