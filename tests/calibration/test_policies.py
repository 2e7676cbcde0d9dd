from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.calibration.policies import Seen, apply, calibration_profile, in_layout, in_profile
from harness.corpus.samples import length_of, valid_length
from harness.errors import CalibrationFailed, LengthOutOfRange
from harness.spec.calibration import Policy
from harness.spec.model import Axis, Model
from harness.spec.shapes import Layout, Profile

MODEL = Model(
    key="m",
    axes=(Axis("x", 1), Axis("mask", 0)),
    axis_name="frames",
    minimum=1,
    maximum=60,
    opt=10,
    length_inputs=("n",),
    pad_values=(("x", -7.0),),
)
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=12)
OPTS = st.integers(1, 60)
FIXED = [policy for policy in Policy if policy is not Policy.RAGGED]


def sample(length, number=0, valid=None):
    """x float32 [2, L, 3], every value of its own; mask int64 [L]; n int32 [1]."""
    values = np.arange(2 * length * 3, dtype=np.float32).reshape(2, length, 3) + 1_000 * (number + 1)
    count = np.array([length if valid is None else valid], np.int32)
    return {"x": values, "mask": np.ones(length, np.int64), "n": count}


def applied(policy, samples, opt, model=MODEL):
    seen = Seen()
    return list(apply(model, samples, policy, Profile(1, opt, 60), seen)), seen


@given(LENGTHS, OPTS, st.sampled_from(list(Policy)))
def test_the_account_adds_up(lengths, opt, policy):
    samples = [sample(length, i) for i, length in enumerate(lengths)]
    batches, seen = applied(policy, samples, opt)
    assert seen.supplied == len(lengths)
    assert seen.lengths == lengths
    assert seen.elements == sum(lengths)
    assert seen.batches == len(batches)
    shown = sum(length_of(MODEL, batch) for batch in batches)
    account = seen.elements - seen.lost + seen.padded
    if policy is Policy.WINDOW:  # the last window is moved back: what it shows again is shown twice
        again = sum(-length % opt for length in lengths if length > opt)
        assert shown == account + again
        assert seen.lost == 0
    elif policy is Policy.REINTERPRET:  # what a shorter sample lacks is stale, and no padding
        stale = sum(max(0, opt - length) for length in lengths)
        assert shown == account + stale
        assert seen.padded == 0
    else:
        assert shown == account
    assert 0 <= seen.padded_fraction < 1
    assert 0 <= seen.lost_fraction <= 1


@given(LENGTHS, OPTS, st.sampled_from(FIXED))
def test_every_batch_has_exactly_opt_length(lengths, opt, policy):
    batches, seen = applied(policy, [sample(length) for length in lengths], opt)
    if policy is Policy.REINTERPRET:
        assert {batch["x"].shape for batch in batches} == {(2, opt, 3)}
    assert all(length_of(MODEL, batch) == opt for batch in batches)
    left_out = sum(length < opt for length in lengths) if policy is Policy.TRUNCATE else 0
    assert seen.left_out == left_out
    if policy is not Policy.WINDOW:
        assert len(batches) == len(lengths) - left_out


@given(LENGTHS)
def test_ragged_changes_nothing(lengths):
    samples = [sample(length, i) for i, length in enumerate(lengths)]
    batches, seen = applied(Policy.RAGGED, samples, 10)
    assert all(batch is given_ for batch, given_ in zip(batches, samples, strict=True))
    assert seen.padded == seen.lost == seen.left_out == 0


@given(st.integers(1, 60), st.integers(1, 60), OPTS, st.sampled_from([Policy.PAD, Policy.PER_PROFILE]))
def test_pad_keeps_what_is_valid_and_masks_the_rest(length, valid, opt, policy):
    valid = min(valid, length)
    given_ = sample(length, valid=valid)
    ((batch,), seen) = applied(policy, [given_], opt)
    kept = min(valid, opt)
    assert np.array_equal(batch["x"][:, :kept], given_["x"][:, :kept])
    assert (batch["x"][:, kept:] == -7).all()
    assert batch["mask"].tolist() == [1] * kept + [0] * (opt - kept)
    assert batch["mask"].dtype == np.int64
    assert batch["n"].tolist() == [kept]
    assert batch["n"].dtype == np.int32
    assert (seen.padded, seen.lost) == (opt - kept, length - kept)


@given(st.integers(1, 60), st.integers(0, 60), OPTS)
def test_truncate_cuts_and_leaves_short_ones_out(length, valid, opt):
    valid = min(valid, length)
    given_ = sample(length, valid=valid)
    batches, seen = applied(Policy.TRUNCATE, [given_], opt)
    if valid < opt:
        assert batches == []
        assert (seen.left_out, seen.lost, seen.lost_fraction) == (1, length, 1.0)
    else:
        assert np.array_equal(batches[0]["x"], given_["x"][:, :opt])
        assert batches[0]["n"].tolist() == [opt]


@given(st.integers(1, 60), st.integers(1, 60), OPTS)
def test_windows_cover_every_valid_element_in_order(length, valid, opt):
    valid = min(valid, length)
    given_ = sample(length, valid=valid)
    batches, seen = applied(Policy.WINDOW, [given_], opt)
    assert set(given_["x"][:, :valid].ravel()) <= set(np.concatenate([b["x"].ravel() for b in batches]))
    assert len(batches) == max(1, -(-valid // opt))
    assert seen.lost == length - valid
    if valid >= opt:
        starts = [int((b["x"][0, 0, 0] - given_["x"][0, 0, 0]) / 3) for b in batches]
        assert starts[0] == 0
        assert starts == sorted(set(starts))
        assert starts[-1] == valid - opt
        for start, batch in zip(starts, batches, strict=True):
            assert np.array_equal(batch["x"], given_["x"][:, start : start + opt])
            assert batch["n"].tolist() == [opt]
    else:
        assert seen.padded == opt - valid
        assert valid_length(MODEL, batches[0]) == valid


GOING_BY_VALID = [policy for policy in FIXED if policy is not Policy.REINTERPRET]


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60)), min_size=1, max_size=6),
    OPTS,
    st.sampled_from(GOING_BY_VALID),
)
def test_no_batch_is_nothing_but_padding_and_the_account_still_adds_up(shapes, opt, policy):
    valids = [min(valid, length) for length, valid in shapes]
    samples = [sample(length, i, valid) for i, ((length, _), valid) in enumerate(zip(shapes, valids, strict=True))]
    batches, seen = applied(policy, samples, opt)
    assert all(batch["n"][0] >= 1 for batch in batches)
    again = sum(-valid % opt for valid in valids if valid > opt) if policy is Policy.WINDOW else 0
    assert opt * len(batches) == seen.elements - seen.lost + seen.padded + again
    assert seen.padded == sum(int(opt - batch["n"][0]) for batch in batches)
    least = opt if policy is Policy.TRUNCATE else 1
    assert seen.left_out == sum(valid < least for valid in valids)


def test_what_a_sample_is_padded_with_is_no_window():
    batches, seen = applied(Policy.WINDOW, [sample(100, valid=30)], 20)
    assert [batch["n"].tolist() for batch in batches] == [[20], [20]]
    assert (seen.elements, seen.lost, seen.padded) == (100, 70, 0)


class DeviceBuffer:
    """The contract as TensorRT and Polygraphy have it: bytes are copied in, the buffer only ever grows, and
    opt-volume elements are read from its start, whatever was meant by them."""

    def __init__(self):
        self.memory = bytearray()

    def reads(self, array, shape):
        content = array.tobytes()
        needed = int(np.prod(shape)) * array.itemsize
        self.memory.extend(b"\0" * (max(needed, len(content)) - len(self.memory)))
        self.memory[: len(content)] = content
        return np.frombuffer(bytes(self.memory[:needed]), array.dtype).reshape(shape)


@given(LENGTHS, OPTS)
def test_reinterpret_is_what_a_bare_pointer_gives(lengths, opt):
    samples = [sample(length, i) for i, length in enumerate(lengths)]
    batches, _ = applied(Policy.REINTERPRET, samples, opt)
    x, mask = DeviceBuffer(), DeviceBuffer()
    for given_, batch in zip(samples, batches, strict=True):
        assert np.array_equal(batch["x"], x.reads(given_["x"], (2, opt, 3)))
        assert np.array_equal(batch["mask"], mask.reads(given_["mask"], (opt,)))
        assert np.array_equal(batch["n"], given_["n"])


def test_reinterpret_takes_the_array_apart_where_the_axis_is_not_outermost():
    """[2, 4, 1] read as [2, 3, 1]: the second row begins with the first one's end."""
    model = Model("m", (Axis("x", 1),), "frames", 1, 60, 3)
    x = np.array([[0, 1, 2, 3], [10, 11, 12, 13]], np.float32)[:, :, None]
    ((batch,), seen) = applied(Policy.REINTERPRET, [{"x": x}], 3, model)
    assert batch["x"][:, :, 0].tolist() == [[0, 1, 2], [3, 10, 11]]
    assert seen.lost == 1


def test_reinterpret_shows_the_tail_of_the_sample_before():
    model = Model("m", (Axis("x", 0),), "frames", 1, 60, 4)
    feeds = [{"x": np.arange(6, dtype=np.float32)}, {"x": np.array([70, 71], np.float32)}]
    batches, _ = applied(Policy.REINTERPRET, feeds, 4, model)
    assert [b["x"].tolist() for b in batches] == [[0, 1, 2, 3], [70, 71, 2, 3]]
    first, _ = applied(Policy.REINTERPRET, feeds[::-1], 4, model)
    assert first[0]["x"].tolist() == [70, 71, 0, 0]  # fresh memory


@given(LENGTHS, OPTS, st.sampled_from(list(Policy)))
def test_samples_are_left_as_they_were(lengths, opt, policy):
    samples = [sample(length, i) for i, length in enumerate(lengths)]
    applied(policy, samples, opt)
    for i, (length, given_) in enumerate(zip(lengths, samples, strict=True)):
        assert all(np.array_equal(given_[name], array) for name, array in sample(length, i).items())


def test_one_sample_is_drawn_at_a_time():
    drawn = []

    def stream():
        for number in range(5):
            drawn.append(number)
            yield sample(25, number)

    batches = apply(MODEL, stream(), Policy.WINDOW, Profile(1, 10, 60), Seen())
    next(batches)
    assert drawn == [0]


BUCKETS = Layout("b", (Profile(5, 8, 10), Profile(11, 15, 20), Profile(21, 30, 40)))


@pytest.mark.parametrize(("lengths", "index"), [([5, 6, 30], 0), ([6, 12, 30], 1), ([2, 3, 25], 2), ([5, 40], 2)])
def test_the_profile_that_holds_the_median_calibrates(lengths, index):
    assert calibration_profile(BUCKETS, lengths) == index
    assert calibration_profile(BUCKETS, lengths[::-1]) == index


@pytest.mark.parametrize("lengths", [[], [1, 2, 41]])
def test_no_sample_that_fits_is_refused_with_the_range(lengths):
    with pytest.raises(CalibrationFailed, match="no calibration sample") as caught:
        calibration_profile(BUCKETS, lengths)
    assert caught.value.where == "layout b (5..40)"


def test_a_sample_outside_the_layout_is_named():
    inside = in_layout(MODEL, [sample(5), sample(40), sample(41)], BUCKETS)
    assert [length_of(MODEL, next(inside)) for _ in range(2)] == [5, 40]
    with pytest.raises(LengthOutOfRange, match="nearest profile is 21-30-40") as caught:
        next(inside)
    assert "calibration sample 2" in caught.value.where


@given(st.lists(st.integers(5, 40)))
def test_the_profiles_of_a_layout_share_the_samples_out(lengths):
    samples = [sample(length) for length in lengths]
    parts = [[length_of(MODEL, f) for f in in_profile(MODEL, samples, p)] for p in BUCKETS.profiles]
    assert sorted(itertools.chain.from_iterable(parts)) == sorted(lengths)


@given(st.lists(LENGTHS, min_size=1, max_size=3), OPTS)
def test_counts_of_profiles_add_up_to_the_count_of_all(groups, opt):
    total = Seen()
    for group in groups:
        total = total.merged(applied(Policy.PAD, [sample(length) for length in group], opt)[1])
    everything = [sample(length) for group in groups for length in group]
    assert total == applied(Policy.PAD, everything, opt)[1]


def test_nothing_seen_has_no_share():
    assert Seen().padded_fraction == Seen().lost_fraction == 0.0
