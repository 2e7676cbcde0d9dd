"""INT8 against FP32 at each length bucket's opt: random-order blocks, shown through pytest-benchmark.

The samples are measured first, interleaved with the baseline's, and then replayed into the ``benchmark`` fixture, so
its table, JSON and histogram show them exactly. Judging the ratio is the verdict engine's work; until it stands here
the record says ``unjudged``.
"""

import itertools

import pytest

from harness.corpus.content import Draw, make
from harness.measure.blocks import interleave, ratio
from harness.spec.shapes import length_buckets
from harness.workbench import bucket_name

_BUDGET_S = 1.5
_BURST_NS = 10_000_000


class ReplayClock:
    """A clock that stands still but for the durations it is told of, in seconds."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


CLOCK = ReplayClock()


@pytest.mark.cases(precisions=("int8",), default_calibration=True, one_layout=True)
@pytest.mark.parametrize("bucket", [0, 1, 2], ids=["short", "middle", "long"])
@pytest.mark.benchmark(timer=CLOCK)
def test_latency(case, bucket, bench, benchmark):
    entry = bench.entries[case.model]
    profiles = length_buckets(entry.model).profiles
    if bucket >= len(profiles):
        pytest.skip("the model has fewer length buckets")
    length = profiles[bucket].opt
    feeds = make(Draw(length), entry, None if entry.synthetic else bench.corpus(case.model, "test"))
    served = {"fp32": bench.reference(case), "int8": bench.served(case)}  # held: so long their engines stay loaded
    engines = {label: one.engine_for(length) for label, one in served.items()}
    typical = {label: min(engine.burst(feeds, warmup=2, repeats=2)) for label, engine in engines.items()}
    arms = {
        label: lambda engine=engine, label=label: engine.burst(
            feeds, warmup=1, repeats=max(2, min(20, _BURST_NS // typical[label]))
        )
        for label, engine in engines.items()
    }
    run = interleave(arms, blocks=bench.matrix.blocks, seed=bench.seed, budget_s=_BUDGET_S)
    gain = ratio(run, slow="fp32", fast="int8")

    samples = list(itertools.chain.from_iterable(run.samples_ns["int8"]))
    replay = iter(samples)

    def advance():
        CLOCK.now += next(replay) / 1e9

    benchmark.group = case.model
    benchmark.extra_info.update(length=length, fp32_over_int8=gain.median, blocks=gain.blocks)
    benchmark.pedantic(advance, rounds=len(samples), iterations=1)
    bench.record(
        "latency",
        case,
        "unjudged",
        buckets={
            bucket_name(length_buckets(entry.model), length): {
                "length": length,
                "ratio": gain.median,
                "ratio_low": gain.low,
                "ratio_high": gain.high,
                "blocks": gain.blocks,
            }
        },
        samples_ns=run.samples_ns,
        order_seed=run.seed,
    )
