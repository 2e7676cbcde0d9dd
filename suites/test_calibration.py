"""Shape policies and methods side by side; what is supplied is consumed; the pointer contract's hazard is shown."""

import dataclasses

import numpy as np
import onnx
import pytest

from harness.calibration import policies
from harness.calibration.observe import Extremes, observe
from harness.calibration.qdq import tensors_to_observe
from harness.corpus.content import Draw, make
from harness.corpus.samples import cut, length_of, pad
from harness.modelfile import weighted_nodes
from harness.spec.calibration import Calibration, Dialect, Method, Policy


@pytest.mark.cases(precisions=("int8",), default_calibration=True, one_layout=True)
def test_compared(case, bench):
    """Each compared method and policy: consumed equals supplied, ranges are usable, accuracy per bucket is recorded."""
    default = str(case.calibration)
    for calibration in bench.matrix.comparisons():
        if str(calibration) == default:
            continue
        arm = dataclasses.replace(case, calibration=calibration)
        found = bench.calibrated(case.model, calibration, bench.layout(arm), bench.dialect(arm))
        supplied = len(bench.corpus(case.model, "calibration"))
        assert found.seen.supplied == supplied, f"{calibration}: {found.seen.supplied} of {supplied} samples came"
        assert found.consumed == found.seen.batches, f"{calibration}: {found.consumed} of {found.seen.batches} consumed"
        accuracy = bench.accuracy(arm, bench.served(arm))
        assert all(aggregate.comparison.finite for aggregate in accuracy.values()), (
            f"{calibration}: NaN or infinite outputs"
        )
        bench.record(
            "calibration",
            arm,
            "compared",
            supplied=found.seen.supplied,
            batches=found.seen.batches,
            consumed=found.consumed,
            left_out=found.seen.left_out,
            padded_fraction=found.seen.padded_fraction,
            lost_fraction=found.seen.lost_fraction,
            buckets={bucket: dataclasses.asdict(aggregate.comparison) for bucket, aggregate in accuracy.items()},
        )


@pytest.mark.cases(precisions=("int8",), default_calibration=True, one_layout=True)
def test_reinterpret_is_wrong(case, bench):
    """Handing TensorRT arrays of other lengths: what it reads is not the data, and the ranges show it."""
    model, layout = bench.model(case.model), bench.layout(case)
    corpus = bench.corpus(case.model, "calibration")
    profile = layout.profiles[policies.calibration_profile(layout, corpus.lengths)]
    other = [feeds for feeds in corpus if length_of(model, feeds) != profile.opt]
    if not other:
        pytest.skip("every calibration sample has the opt length: nothing is reinterpreted")
    seen = policies.Seen()
    batches = list(policies.apply(model, other, Policy.REINTERPRET, profile, seen))
    wrong = sum(not _is_the_data(model, feeds, batch, profile.opt) for feeds, batch in zip(other, batches, strict=True))

    lost_range = _planted(case, bench, profile)
    bench.record(
        "calibration",
        dataclasses.replace(case, calibration=Calibration(Method("minmax"), Policy.REINTERPRET)),
        "shown wrong",
        samples=len(other),
        wrong_batches=wrong,
        lost_fraction=seen.lost_fraction,
        planted_range_factor=lost_range,
    )
    assert wrong, "every batch was a faithful cut of its sample"


def _planted(case, bench, profile):
    """A clip whose part beyond opt is 9 times louder: a contiguous prefix never shows it, other layouts are re-strided.

    Returns the smallest factor between a range as reinterpreted and the true one; None where the input is no float.
    """
    model, entry = bench.model(case.model), bench.entries[case.model]
    name, axis = model.axes[0].input, model.axes[0].dim
    length = min(4 * profile.opt, model.maximum)
    corpus = None if entry.synthetic else bench.corpus(case.model, "calibration")
    feeds = make(Draw(length), entry, corpus)
    if length == profile.opt or not np.issubdtype(feeds[name].dtype, np.floating):
        return None
    loudness = np.where(np.arange(length) < profile.opt, 1 / 9, 1.0).astype(feeds[name].dtype)
    shape = [1] * feeds[name].ndim
    shape[axis] = length
    feeds[name] = feeds[name] * loudness.reshape(shape)
    (batch,) = policies.apply(model, [feeds], Policy.REINTERPRET, profile, policies.Seen())

    proto = onnx.load(bench.prepared(case.model))
    tensors = tensors_to_observe(proto, weighted_nodes(proto), Dialect.S8S8)
    true = observe(proto, tensors, [feeds], statistic=Extremes).tensors
    read = observe(proto, tensors, [batch], statistic=Extremes).tensors
    factors = [_largest(read[name]) / _largest(true[name]) for name in tensors if _largest(true[name])]
    if np.array_equal(batch[name], cut(model, feeds, 0, profile.opt)[name]):
        assert min(factors) < 0.5, f"the loud part was never read, yet no range fell: {factors}"
    else:
        assert feeds[name].shape[:axis] != (1,) * axis, "an outermost axis was not read as a prefix"
    return min(factors)


def _is_the_data(model, feeds, batch, opt):
    """Whether a batch is the sample itself, cut or padded to opt as it should be, in every varying input."""
    right = cut(model, feeds, 0, opt) if length_of(model, feeds) >= opt else pad(model, feeds, opt)
    whole = length_of(model, feeds) <= opt  # a cut loses the tail: that is not the data either
    return whole and all(np.array_equal(batch[axis.input], right[axis.input]) for axis in model.axes)


def _largest(statistic):
    return max(-statistic.minimum, statistic.maximum)
