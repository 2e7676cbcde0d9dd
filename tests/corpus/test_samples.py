from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.corpus.samples import Corpus, cut, digest_of, length_of, pad, valid_length
from harness.errors import DataError
from harness.spec.model import Axis, Model

MODEL = Model(
    "m",
    (Axis("x", 1), Axis("mask", -1)),
    "frames",
    1,
    100,
    10,
    length_inputs=("n",),
    pad_values=(("x", -7.0),),
)
LENGTHS = st.integers(1, 40)


def sample(length, valid=None, start=0):
    return {
        "x": np.arange(start, start + 2 * length * 3, dtype=np.float32).reshape(2, length, 3),
        "mask": np.ones((1, length), np.int64),
        "n": np.array([length if valid is None else valid], np.int32),
        "speaker": np.array([1.5], np.float64),
    }


def same(a, b):
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and a[name].shape == b[name].shape and np.array_equal(a[name], b[name])
        for name in a
    )


@given(LENGTHS, st.data())
def test_a_cut_keeps_the_named_elements_and_counts_what_is_valid(length, data):
    valid = data.draw(st.integers(0, length))
    start = data.draw(st.integers(0, length - 1))
    stop = data.draw(st.integers(start + 1, length))
    whole = sample(length, valid)
    part = cut(MODEL, whole, start, stop)
    assert length_of(MODEL, part) == stop - start
    assert np.array_equal(part["x"], whole["x"][:, start:stop])
    assert part["x"].flags.c_contiguous
    assert valid_length(MODEL, part) == len(set(range(start, stop)) & set(range(valid)))
    assert part["n"].dtype == np.int32
    assert part["n"].shape == (1,)
    assert np.array_equal(part["speaker"], whole["speaker"])
    assert same(whole, sample(length, valid))


@given(LENGTHS, st.data())
def test_a_pad_adds_the_models_values_and_leaves_what_is_valid(length, data):
    valid = data.draw(st.integers(0, length))
    longer = data.draw(st.integers(length, 50))
    short = sample(length, valid)
    padded = pad(MODEL, short, longer)
    assert length_of(MODEL, padded) == longer
    assert valid_length(MODEL, padded) == valid
    assert (padded["x"][:, length:] == -7).all()
    assert not padded["mask"][:, length:].any()
    assert padded["mask"].dtype == np.int64
    assert same(cut(MODEL, padded, 0, length), short)
    assert same(short, sample(length, valid))


@given(LENGTHS, st.integers(1, 40))
def test_padding_to_less_changes_nothing(length, target):
    whole = sample(length)
    if target <= length:
        padded = pad(MODEL, whole, target)
        assert same(padded, whole)
        assert padded is not whole


def test_a_length_input_beyond_the_end_counts_no_more_than_there_is():
    assert valid_length(MODEL, sample(5, valid=9)) == 5
    assert cut(MODEL, sample(5, valid=9), 0, 3)["n"].tolist() == [3]


def test_without_a_length_input_everything_is_valid():
    plain = Model("m", (Axis("x", 1),), "frames", 1, 100, 10)
    assert valid_length(plain, sample(5, valid=2)) == 5
    assert pad(plain, sample(5), 8)["x"][0, 5:].any() == np.False_


def test_a_length_input_may_be_a_scalar():
    feeds = sample(5) | {"n": np.array(4, np.int64)}
    assert valid_length(MODEL, feeds) == 4
    shorter = cut(MODEL, feeds, 0, 2)["n"]
    assert (shorter.shape, shorter.dtype, int(shorter)) == ((), np.int64, 2)


def test_axes_that_disagree_are_listed():
    feeds = sample(5) | {"mask": np.ones((1, 6), np.int64)}
    with pytest.raises(DataError, match=re.escape("disagree: {'x:1': 5, 'mask:-1': 6}")):
        length_of(MODEL, feeds)


def test_a_missing_input_and_what_there_is_instead():
    with pytest.raises(DataError, match="no input 'mask'; it has n, speaker, x"):
        length_of(MODEL, {name: array for name, array in sample(5).items() if name != "mask"})
    with pytest.raises(DataError, match="it has nothing"):
        length_of(MODEL, {})


@pytest.mark.parametrize("array", [np.zeros(5, np.float32), np.array(1.0, np.float32)])
def test_an_input_with_too_few_dimensions(array):
    with pytest.raises(DataError, match="none numbered 1"):
        length_of(MODEL, sample(5) | {"x": array})


# -- digests ------------------------------------------------------------


def test_a_digest_depends_on_content_order_and_nothing_else():
    samples = [sample(5), sample(7, start=100)]
    digest = digest_of(samples)
    assert len(digest) == 64
    assert digest == digest_of(dict(reversed(feeds.items())) for feeds in samples)
    assert digest == digest_of({n: np.asfortranarray(a) for n, a in feeds.items()} for feeds in samples)
    assert digest != digest_of(samples[::-1])
    assert digest != digest_of(samples[:1])


@pytest.mark.parametrize(
    "other",
    [
        {"x": np.zeros((1, 4), np.float32)},
        {"x": np.zeros((2, 2), np.int32)},
        {"y": np.zeros((2, 2), np.float32)},
        {"x": np.zeros((2, 2), ">f4")},
        {"x": -np.zeros((2, 2), np.float32)},
        {"x": np.zeros((2, 2), np.float32), "z": np.zeros(0, np.float32)},
    ],
    ids=["shape", "dtype", "name", "byte order", "sign of zero", "one more input"],
)
def test_a_digest_sees_every_difference(other):
    assert digest_of([{"x": np.zeros((2, 2), np.float32)}]) != digest_of([other])


# -- corpora on disk ------------------------------------------------------------


@given(lengths=st.lists(LENGTHS, min_size=1, max_size=6))
def test_what_was_written_is_read(lengths, tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora") / "c"
    samples = [sample(length, start=i) for i, length in enumerate(lengths)]
    written = Corpus.write(folder, MODEL, iter(samples), "drawn, seed 0")
    assert (written.digest, written.lengths) == (digest_of(samples), tuple(lengths))
    opened = Corpus.open(folder)
    assert opened == written
    assert len(opened) == len(lengths)
    for _ in range(2):  # it can be read again
        assert all(same(a, b) for a, b in zip(opened, samples, strict=True))
    assert digest_of(opened) == opened.digest


def corpora_in(folder):
    return [path.name for path in folder.iterdir() if path.name != ".lock"]


WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from harness.corpus.samples import Corpus, digest_of
from harness.spec.model import Axis, Model

model = Model("m", (Axis("x", 0),), "n", 1, 99, 9)
samples = [{"x": np.full(3 + i, i, np.float32)} for i in range(20)]
folder = Path(sys.argv[1])
for _ in range(10):
    written = Corpus.write(folder, model, samples, "drawn")
    assert digest_of(written) == written.digest
"""


def test_processes_that_write_one_corpus_at_a_time_do_not_take_it_from_each_other(tmp_path):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "c")]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [(writer.communicate()[1], writer.returncode) for writer in writers] == [("", 0)] * 3
    assert corpora_in(tmp_path) == ["c"]


def test_the_same_samples_leave_the_folder_that_is_there(tmp_path):
    first = Corpus.write(tmp_path / "c", MODEL, [sample(5)], "first")
    stamp = (tmp_path / "c" / "00000.npz").stat().st_ino
    assert Corpus.write(tmp_path / "c", MODEL, [sample(5)], "second") == first
    assert (tmp_path / "c" / "00000.npz").stat().st_ino == stamp


def test_a_corpus_replaces_the_one_before(tmp_path):
    Corpus.write(tmp_path / "c", MODEL, [sample(5)] * 3, "first")
    Corpus.write(tmp_path / "c", MODEL, [sample(6)], "second")
    found = Corpus.open(tmp_path / "c")
    assert (found.lengths, found.origin) == ((6,), "second")
    assert corpora_in(tmp_path) == ["c"]


def test_an_empty_corpus_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="an empty corpus") as caught:
        Corpus.write(tmp_path / "c", MODEL, [], "voices")
    assert caught.value.where == "voices"
    assert corpora_in(tmp_path) == []


def test_a_source_that_fails_half_way_leaves_nothing_but_what_was_there(tmp_path):
    before = Corpus.write(tmp_path / "c", MODEL, [sample(5)], "first")

    def stream():
        yield sample(6)
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="went away"):
        Corpus.write(tmp_path / "c", MODEL, stream(), "second")
    assert Corpus.open(tmp_path / "c") == before
    assert corpora_in(tmp_path) == ["c"]


def test_samples_are_written_as_they_come(tmp_path):
    alive = []

    def stream():
        for number in range(4):
            alive.append(len(list(tmp_path.glob("c.*/*.npz"))))
            yield sample(5, start=number)

    Corpus.write(tmp_path / "c", MODEL, stream(), "drawn")
    assert alive == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "00001.npz").unlink(),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text("[]"),
        lambda folder: (folder / "manifest.json").write_text(json.dumps({"digest": "ab", "lengths": [5]})),
    ],
    ids=[
        "sample gone",
        "manifest gone",
        "manifest cut",
        "manifest of another kind",
        "manifest of another version",
    ],
)
def test_what_is_not_whole_is_no_corpus(tmp_path, damage):
    Corpus.write(tmp_path / "c", MODEL, [sample(5), sample(6)], "drawn")
    damage(tmp_path / "c")
    assert Corpus.open(tmp_path / "c") is None


def test_a_folder_that_is_not_there_is_no_corpus(tmp_path):
    assert Corpus.open(tmp_path / "none") is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"not a zip at all"])
def test_a_damaged_sample_is_named(tmp_path, content):
    corpus = Corpus.write(tmp_path / "c", MODEL, [sample(5), sample(6)], "drawn")
    (tmp_path / "c" / "00001.npz").write_bytes(content)
    assert same(corpus[0], sample(5))
    with pytest.raises(DataError) as caught:
        list(corpus)
    assert caught.value.where.endswith("00001.npz")
    assert "made anew" in caught.value.todo


def test_a_sample_cut_off_by_a_full_disk_is_named(tmp_path):
    corpus = Corpus.write(tmp_path / "c", MODEL, [sample(5)], "drawn")
    file = tmp_path / "c" / "00000.npz"
    whole = file.read_bytes()
    for size in range(0, len(whole), 97):
        file.write_bytes(whole[:size])
        with pytest.raises(DataError):
            corpus[0]


def test_a_flipped_bit_is_found_or_no_matter(tmp_path):
    corpus = Corpus.write(tmp_path / "c", MODEL, [sample(5)], "drawn")
    file = tmp_path / "c" / "00000.npz"
    whole = file.read_bytes()
    refused = 0
    for position in range(0, len(whole), 11):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << (position % 8)
        file.write_bytes(damaged)
        try:
            corpus[0]
        except DataError:
            refused += 1
    assert refused > len(whole) / 11 / 3  # the rest is in timestamps and padding


def test_a_pickled_object_is_not_loaded(tmp_path):
    corpus = Corpus.write(tmp_path / "c", MODEL, [sample(5)], "drawn")
    np.savez(tmp_path / "c" / "00000.npz", x=np.array([{"an": "object"}], object))
    with pytest.raises(DataError, match="pickle"):
        corpus[0]
