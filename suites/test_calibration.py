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


@pytest.mark.cases(precisions=("int8",), default_calibration=True, one_layout=True, calibrated=True)
def test_compared(case, bench):
    """Each compared method and policy: consumed equals supplied, ranges are usable, accuracy per bucket is recorded."""
    for calibration in bench.matrix.comparisons():
        arm = dataclasses.replace(case, calibration=calibration)
        with bench.at(arm):
            _compared(bench, arm)


def _compared(bench, arm):
    missing = bench.profiles_without_samples(arm)
    if missing:
        reasons = [f"{arm.calibration}: no calibration sample in {', '.join(missing)}"]
        bench.record("calibration", arm, "left out", reasons=reasons)
        return
    calibration = arm.calibration
    found = bench.calibrated(arm.model, calibration, bench.layout(arm), bench.dialect(arm))
    supplied = len(bench.corpus(arm.model, "calibration"))
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


@pytest.mark.cases(precisions=("int8",), default_calibration=True, one_layout=True, calibrated=True)
def test_reinterpret_is_wrong(case, bench):
    """Handing TensorRT arrays of other lengths: what it reads is not the data, and the ranges show it.

    Not every cut is wrong: a prefix is what ``truncate`` gives as well. Wrong is what no cut and no pad would give,
    and the same check finds none of it in what ``pad`` makes of the same samples.
    """
    model, layout = bench.model(case.model), bench.layout(case)
    corpus = bench.corpus(case.model, "calibration")
    profile = layout.profiles[policies.calibration_profile(layout, corpus.lengths)]
    other = [feeds for feeds in corpus if length_of(model, feeds) != profile.opt]
    if not other:
        pytest.skip("every calibration sample has the opt length: nothing is reinterpreted")
    seen = policies.Seen()
    found = _kinds(model, other, policies.apply(model, other, Policy.REINTERPRET, profile, seen), profile.opt)
    planted = _around(bench.entries[case.model], corpus, other, profile)
    wrong = _kinds(
        model, planted, policies.apply(model, planted, Policy.REINTERPRET, profile, policies.Seen()), profile.opt
    )
    right = _kinds(model, planted, policies.apply(model, planted, Policy.PAD, profile, policies.Seen()), profile.opt)

    lost_range = _planted(case, bench, profile)
    bench.record(
        "calibration",
        dataclasses.replace(case, calibration=Calibration(Method("minmax"), Policy.REINTERPRET)),
        "shown wrong",
        samples=len(other),
        tail_never_read=found["tail never read"],
        restrided=found["re-strided"],
        stale=found["stale"],
        lost_fraction=seen.lost_fraction,
        planted_range_factor=lost_range,
    )
    assert not right["re-strided"], "the check takes a cut for something else"
    assert not right["stale"], "the check takes padding for something else"
    if profile.opt > model.minimum:
        assert wrong["re-strided"] or wrong["stale"], "every batch was a faithful cut or pad of its sample"


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


def _around(entry, corpus, samples, profile):
    """The samples between one of opt's length, which fills the buffer that TensorRT reads, and one that is shorter."""
    content = None if entry.synthetic else corpus
    short = (entry.model.minimum + profile.opt) // 2
    return [make(Draw(profile.opt), entry, content), *samples, make(Draw(short), entry, content)]


def _kinds(model, samples, batches, opt):
    """How many batches differ from their samples, and in which way.

    ``tail never read``: a longer sample's beginning only; ``re-strided``: the elements stand in other places;
    ``stale``: beyond a shorter sample's end stands what was there before, and not padding.
    """
    counts = dict.fromkeys(("tail never read", "re-strided", "stale"), 0)
    for feeds, batch in zip(samples, batches, strict=True):
        length = length_of(model, feeds)
        counts["tail never read"] += length > opt
        if not _same(model, cut(model, batch, 0, min(length, opt)), cut(model, feeds, 0, min(length, opt))):
            counts["re-strided"] += 1
        elif length < opt and not _same(model, batch, pad(model, feeds, opt)):
            counts["stale"] += 1
    return counts


def _same(model, left, right):
    return all(np.array_equal(left[axis.input], right[axis.input]) for axis in model.axes)


def _largest(statistic):
    return max(-statistic.minimum, statistic.maximum)
