"""Which corpora a run keeps for the next one, and what it says of its workers when it ends."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import onnx.parser
import pytest

from harness.corpus.own import own_entry
from harness.results.store import Store, read_run
from harness.workbench import Workbench

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1, T] x) => (float[1, T] y) { y = Relu(x) }"""
LOADER = """
import numpy as np
def load_data():
    for length in (5, 6, 7, 12, 13, 14):
        yield {{"x": np.full((1, length), {value}, np.float32)}}
"""


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setenv("TRT_INT8_HARNESS_CACHE", str(tmp_path / "cache"))
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "m.onnx")

    def start(data):
        entry = own_entry(tmp_path / "m.onnx", axes=["x:1=n"], range_="4:8:16", data=data)
        workers = SimpleNamespace(close=lambda: None, tails=dict)
        return Workbench({"m": entry}, {}, workers, None, SimpleNamespace(samples=4, tests=2), 0)

    return start


def corpora(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache" / "corpora").iterdir() if path.name != ".lock")


def test_a_loader_script_that_reads_other_data_gives_another_corpus_in_the_next_run(bench, tmp_path):
    path, seen = tmp_path / "loader.py", []
    path.write_text("import numpy as np\nfrom pathlib import Path\n" + LOADER.format(
        value=f"float(Path({str(tmp_path / 'value')!r}).read_text())"))  # fmt: skip
    for value in ("1.0", "2.0"):
        (tmp_path / "value").write_text(value)
        one = bench(path)
        for split in ("calibration", "test"):
            corpus = one.corpus("m", split)
            assert one.corpus("m", split) is corpus
            seen.append(float(corpus[0]["x"][0, 0]))
        one.close()
        assert corpora(tmp_path) == []
    assert seen == [1.0, 1.0, 2.0, 2.0]


def test_a_folders_corpora_are_kept(bench, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for length in (5, 6, 7, 12, 13, 14):
        np.savez(folder / f"{length}.npz", x=np.ones((1, length), np.float32))
    for _ in range(2):
        one = bench(folder)
        digests = [one.corpus("m", split).digest for split in ("calibration", "test")]
        one.close()
        assert len(corpora(tmp_path)) == 2
    assert len(set(digests)) == 2


def test_what_workers_printed_is_a_record_of_the_run_and_a_run_that_was_closed_does_without(bench, tmp_path):
    data, run = tmp_path / "data", Store(tmp_path / "results").open_run()
    data.mkdir()
    np.savez(data / "5.npz", x=np.ones((1, 5), np.float32))
    for _ in range(2):
        one = bench(data)
        one.run, one.workers.tails = run, lambda: {"tensorrt-8.6.0": "[W] <script>"}
        one.close()
        run.close()
    (kept,) = read_run(run.path)
    assert kept["kind"] == "run"
    assert kept["values"] == {"worker_logs": {"tensorrt-8.6.0": "[W] <script>"}}
    assert "case" not in kept
    assert kept["environment"]["host"]
