"""The options of the pytest plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

__all__ = ["GATE", "add_options"]

_TEXTS = {
    "--baseline": ("ENV|record:RUN", "the environment to move from, or a run that recorded it"),
    "--candidate": ("ENV", "the environment to move to: runs test_upgrade; other suites run where --runtime is given"),
    "--budget": ("20m", "of latency sessions, all together (default: 20m)"),
    "--allow-file": ("FILE", "[[allow]] tables with a date, under review"),
    "--gate-report": ("FILE", "the report as JSON"),
    "--gate-summary": (
        "FILE",
        "as Markdown (default: GITHUB_STEP_SUMMARY where that is set, else RUN.gate.md in --results)",
    ),
}
GATE = (*_TEXTS, "--thorough", "--allow")
"""Options that are for a gate alone."""


def add_options(parser: pytest.Parser) -> None:
    """All of them, in three groups."""
    group = parser.getgroup("harness", "INT8 models with variable-length inputs")
    many: dict[str, Any] = {"action": "append", "default": [], "metavar": "WORD[,WORD]"}
    group.addoption("--runtime", help="environments: a family, a name's start, or a pattern", **many)
    group.addoption("--models", help="catalogue keys (default: all)", **many)
    group.addoption("--methods", help="auto, minmax, percentile[99.9], entropy, mse", **many)
    group.addoption("--policies", help="ragged, pad, truncate, window, per_profile, reinterpret", **many)
    group.addoption(
        "--layouts", action="append", default=[], metavar="LAYOUT",
        help="single, buckets3, geometricN, or MIN-OPT-MAX,MIN-OPT-MAX; give the option once a layout",
    )  # fmt: skip
    group.addoption("--routes", help="cache, qdq, calibrator, qdq_strong: how ranges reach TensorRT", **many)
    group.addoption("--precision", help="fp32, fp16, int8", **many)
    group.addoption("--matrix", default="", metavar="quick|full|FILE", help="which cells to run (default: quick)")
    group.addoption("--seed", type=int, default=0, help="draws corpora, orders and examples (default: 0)")
    group.addoption(
        "--samples", default="", metavar="N|all",
        help="calibration samples a model, picked over all there are (default: the matrix's)",
    )  # fmt: skip
    group.addoption("--results", default="", metavar="DIR", help="where records go (default: results/)")
    group.addoption("--python", dest="pythons", action="append", default=[], help="an interpreter with a runtime")
    group.addoption(
        "--require", help="environments that must be found; without them the run fails instead of skipping", **many
    )
    group.addoption(
        "--spread", action="store_true",
        help="share the cases of a runtime out over the hosts that have it, instead of running all of them on each; "
        "with -n N (pytest-xdist) in N processes side by side, times in turns",
    )  # fmt: skip
    group.addoption(
        "--draw", default="", metavar="LENGTH,INDEX,OFFSET,GAIN",
        help="run test_accuracy on this one example, as a failure prints it",
    )  # fmt: skip
    own = parser.getgroup("harness: a model of your own")
    own.addoption(
        "--model", default="", metavar="FILE.onnx", help="an FP32 ONNX file, or one with Q/DQ, which then runs as it is"
    )
    own.addoption(
        "--float", dest="float_file", default="", metavar="FILE.onnx",
        help="where --model has Q/DQ: the FP32 model that it is held against (default: its graph without them)",
    )  # fmt: skip
    own.addoption("--axis", action="append", default=[], metavar="INPUT:DIM=NAME", help="what varies")
    own.addoption("--range", dest="length_range", default="", metavar="MIN:MAX|MIN:OPT:MAX", help="its lengths")
    own.addoption("--data", default="", metavar="DIR|LOADER.py", help=".npz files, or a Polygraphy data loader")
    own.addoption("--length-input", action="append", default=[], metavar="INPUT=NAME", help="holds the valid length")
    own.addoption("--pad", action="append", default=[], metavar="INPUT=VALUE", help="value beyond the end")
    own.addoption("--constant", action="append", default=[], metavar="INPUT=VALUE|FILE.npy", help="never varies")
    own.addoption("--score", default="", metavar="MODULE:FUNCTION", help="task score of one sample")
    own.addoption("--output", default="", metavar="NAME", help="the output that is compared")
    own.addoption(
        "--bound", action="append", default=[], metavar="[BUCKET:]NAME=NUMBER",
        help="fail beyond it: sqnr_db=15, short:score=0.9, cosine, worst; drawn:cosine=0.4 for drawn examples; "
        "speedup=1.3, long:speedup=1.5, traffic:speedup=1.4: how many times faster INT8 has to be",
    )  # fmt: skip
    gate = parser.getgroup("harness: may we move to another version?")
    for name, (metavar, text) in _TEXTS.items():
        gate.addoption(name, default="", metavar=metavar, help=text)
    gate.addoption("--thorough", action="store_true", help="8 builds of each engine and side, for a final decision")
    gate.addoption("--allow", action="append", default=[], metavar="CASE=REASON", help="does not block, for today")
