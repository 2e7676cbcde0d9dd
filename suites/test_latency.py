"""INT8 against the float baseline (FP32 on a CPU, FP16 on a GPU): at each length bucket's opt, and over the traffic.

One session a case measures all lengths: interleaved, in several launches of fresh processes, with a null control. Its
samples are then replayed into pytest-benchmark's fixture, so that its table, JSON and histogram show them exactly.
"""

import pytest

from harness.spec.shapes import bucket_names


class ReplayClock:
    """A clock that stands still but for the durations it is told of, in seconds."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def __repr__(self):
        return "replayed: device or processor time, see extra_info"


CLOCK = ReplayClock()


@pytest.mark.latency
@pytest.mark.cases(precisions=("int8",), default_calibration=True, one_layout=True)
@pytest.mark.parametrize("bucket", [0, 1, 2], ids=["short", "middle", "long"])
@pytest.mark.benchmark(timer=CLOCK)
def test_latency(case, bucket, bench, benchmark):
    names = bucket_names(bench.model(case.model))
    if bucket >= len(names):
        pytest.skip("the model has fewer length buckets")
    timed, name = bench.timed(case), names[bucket]
    samples = timed.samples(name)
    if samples:
        replay(benchmark, samples)
    cell = timed.cell(name)
    benchmark.group = case.model
    benchmark.extra_info.update(cell, clock=timed.outcome.clock, baseline=timed.baseline)
    bench.record(
        "latency",
        case,
        timed.verdict(name),
        settings=timed.settings(),
        buckets={name: cell},
        baseline=timed.baseline,
        samples_ns=timed.raw(name),
    )
    if problem := timed.problem(name):
        pytest.fail(f"{case}: {problem}", pytrace=False)


@pytest.mark.latency
@pytest.mark.cases(precisions=("int8",), default_calibration=True, one_layout=True)
def test_traffic(case, bench):
    timed = bench.timed(case)
    bench.record(
        "latency",
        case,
        timed.verdict(),
        settings=timed.settings(),
        baseline=timed.baseline,
        session=timed.session(),
    )
    if problem := timed.problem():
        pytest.fail(f"{case}: {problem}", pytrace=False)


def replay(benchmark, samples):
    durations = iter(samples)

    def advance():
        CLOCK.now += next(durations, 0) / 1e9  # --benchmark-cprofile asks for one more

    benchmark.pedantic(advance, rounds=len(samples), iterations=1)
