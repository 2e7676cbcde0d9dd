"""What a search of the workbench draws: once, and gone with the run where the source may give others next time."""

from __future__ import annotations

from dataclasses import replace

import onnx

from harness.corpus.catalogue import Entry
from harness.materials import Materials
from harness.mixed.run import Asked, bounds_of, search_corpus, search_model
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
    assert asked_for == [("calibration", 0), ("calibration", 1)]
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
