"""What a search of the workbench draws: once, and gone with the run where the source may give others next time."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest

from harness.corpus.catalogue import Entry
from harness.corpus.samples import Corpus, digest_of
from harness.errors import DataError
from harness.materials import Materials
from harness.mixed.corpus import unseen
from harness.mixed.run import Asked, bounds_of, search_corpus, search_model
from harness.mixed.shown import sentences
from harness.paths import cache_dir
from harness.spec.calibration import Dialect
from harness.spec.matrix import Matrix
from harness.spec.model import Bounds

from .conftest import MODEL, branchy, draws


def materials(tmp_path, *, lasting):
    """The small model, and the seeds that its samples were asked for by."""
    asked_for = []

    def samples(split, seed):
        asked_for.append((split, seed))
        return (one for number in range(100 * seed, 100 * seed + 60) for one in draws(number, 2))

    path = tmp_path / "branchy.onnx"
    onnx.save(branchy(), path)
    model = replace(MODEL, bounds=(("*", Bounds(sqnr_db=20)),))
    entry = Entry(model, lambda: path, samples, "1", lasting=lasting)
    return Materials({"branchy": entry}, replace(Matrix(), samples=8), seed=0), asked_for


def folders():
    return [one for one in cache_dir("corpora").iterdir() if one.is_dir()]


def test_samples_that_do_not_last_are_drawn_once_and_leave_nothing(tmp_path, own_cache):
    made, asked_for = materials(tmp_path, lasting=False)
    found = search_model(made, Asked("branchy", Dialect.U8S8, bounds_of(made, "branchy"), each=4, budget_s=10))
    assert found.plan.evidence["met"]
    assert asked_for == [("calibration", 0), ("calibration", 1), ("calibration", 2)]
    made.close()
    assert not folders()


def test_samples_that_last_are_kept_for_the_next_search(tmp_path, own_cache):
    made, asked_for = materials(tmp_path, lasting=True)
    asked = Asked("branchy", Dialect.S8S8, bounds_of(made, "branchy"), each=4)
    first = search_corpus(made, asked)
    made.close()
    again, since = materials(tmp_path, lasting=True)
    assert search_corpus(again, asked).digest == first.digest
    assert (len(asked_for), since) == (2, [])
    assert len(folders()) == 2


def test_the_chosen_file_is_looked_at_on_samples_that_it_was_not_chosen_by(tmp_path, own_cache):
    made, _ = materials(tmp_path, lasting=True)
    asked = Asked("branchy", Dialect.S8S8, bounds_of(made, "branchy"), each=4, budget_s=10)
    found = search_model(made, asked)
    confirmed = found.plan.evidence["confirmed"]
    assert confirmed["missed"] == 0
    assert set(confirmed["samples"]) == set(confirmed["buckets"]) == {"short", "middle", "long"}
    searched = search_corpus(made, asked)
    (folder,) = (one for one in folders() if "-confirm-" in one.name)
    other = Corpus.open(folder)
    digests = [{digest_of([one[index]]) for index in range(len(one))} for one in (searched, other)]
    assert not digests[0] & digests[1]
    assert sum(confirmed["samples"].values()) == len(other)
    lines = list(sentences(found))
    assert "on samples that it was not chosen by:" in lines
    assert sum("dB (asked 20)" in line for line in lines) == 3


def test_where_no_sample_is_left_nothing_is_confirmed(tmp_path, own_cache):
    made, _ = materials(tmp_path, lasting=True)
    asked = Asked("branchy", Dialect.S8S8, bounds_of(made, "branchy"), each=4, budget_s=10)
    searched = search_corpus(made, asked)
    calibration = made.corpus("branchy", "calibration")
    few = [one[index] for one in (calibration, searched) for index in range(len(one))]
    entry = replace(made.entries["branchy"], samples=lambda *_: iter(few))
    with pytest.raises(DataError, match="no sample is left"):
        unseen(entry, calibration, (3, 3, 3), 2, searched)
