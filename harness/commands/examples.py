"""What each command's help ends with: commands to copy. Tests run or look up every one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EXAMPLES", "FIRST_HOUR", "commands_of", "teach"]

FIRST_HOUR = """\
\b
The first hour, one line after the other:
  harness doctor
      what can run here, and what is in the way of the rest
  harness init encoder.onnx --data samples/
      a commented harness.toml, by asking the model's file
  pytest suites/ --models encoder
      builds, calibrates, checks and times it: is INT8 right, and faster?
  harness calibrate encoder --emit qdq-s8s8 -o encoder.int8.onnx
      ranges from samples of any length, as a file for TensorRT
  harness gate tensorrt-8.6 tensorrt-10.3 --models encoder
      may we move to the other version?
  harness results list
      what was measured so far
  harness report
      the same as pages: what is wrong first

Each command's help ends with examples: harness calibrate --help
"""

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "init": (
        ("harness init encoder.onnx --data samples/", "the range is that of your samples"),
        ("harness init encoder.onnx --yes --out project/harness.toml", "in a script: no questions; samples come later"),
        ("harness init encoder.onnx --range 16:300:2000 --axis feats:1=frames", "you know better than the file"),
    ),
    "calibrate": (
        ("harness calibrate vad --emit qdq-u8s8 -o vad.int8.onnx", "a model of the catalogue, with its own data"),
        (
            "harness calibrate encoder.onnx --axis feats:1=frames --range 16:2000 --data samples/ -o encoder.int8.onnx",
            "your own model and data, for TensorRT",
        ),
        (
            "harness calibrate vad --emit trt-cache --trt-version 8503 -o vad.cache",
            "a calibration cache for TensorRT 8.5.3",
        ),
    ),
    "lint": (
        ("harness lint encoder.onnx", "what will matter once it is quantized"),
        (
            "harness lint encoder.onnx --axis feats:1=frames --range 16:2000 --fail-on slow",
            "with lengths, in a script: code 1 where something is slow, or worse",
        ),
        ("harness lint vad --json", "for a program"),
    ),
    "mix": (
        ("harness mix vad --bound score=0.97", "which operators to leave in float, for x86"),
        ("harness mix vad --dialect s8s8 --bound score=0.97 -o vad.mixed.onnx", "for TensorRT, and the file"),
    ),
    "fetch": (
        ("harness fetch vad wave", "two models and their data"),
        ("harness fetch", "all of them, and what the harness's own tests need"),
    ),
    "models": (("harness models", "a table"), ("harness models --json", "for a program")),
    "environments": (
        ("harness environments", "what pytest suites/ --runtime can name"),
        ("harness environments --json", "for a program"),
    ),
    "doctor": (
        ("harness doctor", "what can run here, and what is in the way of the rest"),
        ("harness doctor --report", "to paste into an issue"),
    ),
    "trtexec": (
        ("harness trtexec wave-tensorrt-8.5.3.1-int8-mse-ragged-cache-single", "what this case does"),
        ("harness trtexec wave --trt-version 10.16 --precision fp16 --length 16000", "a model, at one length"),
    ),
    "explain": (
        ("harness explain vad", "INT8 beside FP32 at each bucket's opt, layer by layer"),
        (
            "harness explain encoder.onnx --axis feats:1=frames --range 16:2000 --data samples/ --length 300",
            "your own model, at one length",
        ),
        ("harness explain vad --precision fp32 --length 361 --json", "for a program"),
        ("harness explain vad --best --goal speedup=3", "which case to ship: a minute or two"),
    ),
    "gate": (
        ("harness gate tensorrt-8.6 tensorrt-10.3", "everything, on this machine's GPU"),
        (
            "harness gate tensorrt-8.6 tensorrt-10.3 --models wave --budget 1h --thorough --report gate.json",
            "one model, for a final decision",
        ),
        ("harness gate record:newest tensorrt-10.3 --summary gate.md", "against what a run recorded"),
    ),
    "selftest": (
        ("harness selftest", "five minutes: a first impression"),
        ("harness selftest --minutes 60 --noise", "an hour: which margins does this machine support?"),
    ),
    "report": (
        ("harness report", "pages in report/, of all that was measured"),
        ("harness report --since 30d --out public --png", "the last month, and each picture as a file"),
        ("harness report --markdown comment.md --url https://example.org/nightly", "for a pull request"),
    ),
    "results": (("harness results list", ""), ("harness results --results other/results list --json", "")),
    "results list": (
        ("harness results list --since 30d --model encoder", ""),
        ("harness results list --kind latency --runtime tensorrt-8.5 --json", ""),
    ),
    "results show": (
        ("harness results show 20261123T054421Z", "a run, by the beginning of its id"),
        ("harness results show 20261123T054421Z:1", "one record of it, in full"),
    ),
    "results compact": (("harness results compact", "before queries over many runs"),),
    "results export": (
        ("harness results export --format openmetrics -o harness.prom", "for Prometheus"),
        (
            "harness results export 20261123T054421Z --format pytest-benchmark -o latency.json",
            "for pytest-benchmark's compare",
        ),
    ),
    "results import": (("harness results import other/results", "runs of another machine"),),
    "results prune": (
        ("harness results prune --keep-last 100", "only says which"),
        ("harness results prune --older-than 90d --yes", "removes them"),
    ),
}
"""Command -> (what to type, what for)."""

_WIDTH = 74


def teach(group: click.Group) -> None:
    """Give every command of a group that has examples an end that shows them."""
    for name, command in _every(group):
        if name in EXAMPLES:
            command.epilog = _shown(EXAMPLES[name])


def commands_of() -> Iterator[str]:
    """Everything that help tells to type."""
    yield from (line.strip() for line in FIRST_HOUR.splitlines() if line.startswith(("  harness ", "  pytest ")))
    for examples in EXAMPLES.values():
        yield from (command for command, _ in examples)


def _every(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        yield before + name, command
        if isinstance(command, click.Group):
            yield from _every(command, f"{before}{name} ")


def _shown(examples: tuple[tuple[str, str], ...]) -> str:
    lines = ["\b", "Examples:" if len(examples) > 1 else "Example:"]
    for command, what in examples:
        lines += _folded(command)
        lines += [f"      {what}"] if what else []
    return "\n".join(lines)


def _folded(command: str) -> list[str]:
    """Over several lines, as a shell takes them, where one would be too long."""
    lines, line = [], " "
    for word in re.findall(r"(?:-\S+ (?!-))?\S+", command):  # an option and its value stay in one line
        if len(line) + len(word) > _WIDTH:
            lines.append(f"{line} \\")
            line = "         "
        line += f" {word}"
    return [*lines, line]
