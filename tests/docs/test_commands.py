"""Every command that the documents show is run, or its options are looked up where a run takes long."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from harness.cli import cli, main
from harness.commands.examples import commands_of
from harness.trtexec import FLAGS

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/README.md")]
DOCUMENTS += sorted(ROOT.glob("docs/**/*.md"))

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
_LOOKED_UP = {"fetch", "gate", "selftest"}  # of harness: take minutes, the first also a network
_TINY = 'precisions = ["int8"]\ncompared = ["mse-pad"]\nsamples = 4\ntests = 1\ndraws = 2\nblocks = 2\n'


@dataclass(frozen=True)
class Shown:
    """One command of a document."""

    document: str
    words: tuple[str, ...]

    def __str__(self):
        return f"{self.document}: {shlex.join(self.words)}"


def blocks(document, language):
    return [text for kind, text in _BLOCK.findall(document.read_text(encoding="utf-8")) if kind == language]


def commands():
    for document in DOCUMENTS:
        for text in blocks(document, "sh"):
            for line in text.replace("\\\n", " ").splitlines():
                for command in line.split("&&"):
                    words = shlex.split(command, comments=True)
                    if words:
                        yield Shown(str(document.relative_to(ROOT)), tuple(words))


def taught():
    """What help tells to type."""
    for command in commands_of():
        yield Shown("harness --help", tuple(shlex.split(command)))


def the_block(document, language, word):
    """The block of a document that holds a word."""
    (text,) = (text for text in blocks(ROOT / document, language) if word in text)
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of somebody who follows the guide: a model, samples, and the files that the guide shows."""
    folder = tmp_path_factory.mktemp("guide")
    encoder(folder / "encoder.onnx")
    (folder / "samples").mkdir()
    random = np.random.default_rng(1)
    for index, frames in enumerate((20, 400, 60, 30, 120, 90, 900, 1500, 250, 700)):
        feats = random.standard_normal((1, frames, 80)).astype(np.float32)
        np.savez(folder / "samples" / f"{index:05}.npz", feats=feats, feats_len=np.array([frames], np.int32))
    (folder / "loader.py").write_text(the_block("docs/guide/own-data.md", "python", "load_data"))
    (folder / "my_scores.py").write_text(the_block("docs/guide/own-model.md", "python", "same_class"))
    catalogue = f"catalogue = {str(ROOT / 'fixtures' / 'catalogue.py')!r}\n"
    (folder / "harness.toml").write_text(catalogue + the_block("docs/guide/own-model.md", "toml", "models"))
    (folder / "tiny.toml").write_text(_TINY)
    for results in (folder / "results", folder / "other" / "results"):
        results.mkdir(parents=True)
        run = ROOT / "results/reference/h200-2026-11-23/first-latency-8.5.3.1.jsonl"
        shutil.copy(run, results / "20261123T054421Z-17f1c7.jsonl")
    return folder


def encoder(path):
    """Frame features to class probabilities: feats float32 [1, frames, 80], feats_len int32 [1]."""
    random = np.random.default_rng(0)
    weights = {"w1": (32, 80, 3), "w2": (32, 32, 3), "w3": (32, 29)}
    tensors = {name: 0.1 * random.standard_normal(shape) for name, shape in weights.items()} | {"zero": np.zeros(1)}
    make = helper.make_node
    graph = helper.make_graph(
        [
            make("Transpose", ["feats"], ["columns"], perm=[0, 2, 1]),
            make("Conv", ["columns", "w1"], ["c1"], kernel_shape=[3], pads=[1, 1]),
            make("Relu", ["c1"], ["r1"]),
            make("Conv", ["r1", "w2"], ["c2"], kernel_shape=[3], pads=[1, 1]),
            make("Transpose", ["c2"], ["rows"], perm=[0, 2, 1]),
            make("MatMul", ["rows", "w3"], ["logits"]),
            make("Softmax", ["logits"], ["softmax"], axis=-1),
            make("Cast", ["feats_len"], ["length"], to=onnx.TensorProto.FLOAT),
            make("Mul", ["length", "zero"], ["nothing"]),
            make("Add", ["softmax", "nothing"], ["probs"]),
        ],
        "encoder",
        [
            helper.make_tensor_value_info("feats", onnx.TensorProto.FLOAT, [1, "frames", 80]),
            helper.make_tensor_value_info("feats_len", onnx.TensorProto.INT32, [1]),
        ],
        [helper.make_tensor_value_info("probs", onnx.TensorProto.FLOAT, [1, "frames", 29])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.mark.parametrize("shown", [*commands(), *dict.fromkeys(taught())], ids=str)
def test_command(shown, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    program, *arguments = shown.words
    if program == "harness":
        check_harness(arguments, folder, capsys)
    elif program == "pytest":
        check_pytest(arguments, folder)
    elif program == "pip" or shown.words[:3] == ("python", "-m", "pip"):
        check_pip(arguments[2:] if program == "python" else arguments)
    elif shown.words[:4] == ("python", "-m", "tox", "run"):
        check_tox(arguments[3:])
    elif program == ".ci/run":
        assert os.access(ROOT / program, os.X_OK)
    else:  # somebody else's program: nothing of ours can make it wrong
        assert program in {"ruff", "mypy", "."} or shown.words[:3] == ("python", "-m", "venv"), "add a check for it"


def check_harness(arguments, folder, capsys):
    if arguments[0] in _LOOKED_UP:
        known = {option for parameter in cli.commands[arguments[0]].params for option in parameter.opts}
        assert {word for word in arguments[1:] if word.startswith("-")} <= known
        return
    if arguments[0] == "init":
        folder = a_new_project(folder)
        os.chdir(folder)
    if arguments[:2] == ["results", "prune"]:
        arguments = [word for word in arguments if word != "--yes"]  # the run that other commands want is old one day
    before = set(folder.iterdir())
    code = main(arguments)
    out, err = capsys.readouterr()
    assert code == 0, err
    if "-o" in arguments:
        written = [line.removeprefix("wrote ") for line in out.splitlines() if line.startswith("wrote ")]
        assert written
        new = {path for path in folder.iterdir() if path.name != "__pycache__"} - before  # the loader script's
        assert {folder / name for name in written} >= new


def a_new_project(folder):
    """Nothing but a model and its samples, and a folder for another configuration."""
    new = Path(tempfile.mkdtemp(dir=folder))
    shutil.copy(folder / "encoder.onnx", new)
    shutil.copytree(folder / "samples", new / "samples")
    (new / "project").mkdir()
    return new


def check_pytest(arguments, folder):
    words = [str(ROOT / word) if word.startswith(("suites/", "tests/")) else word for word in arguments]
    assert all(Path(word).exists() for word in words if word.startswith(str(ROOT)))
    # Own models are small: they run for real. What takes minutes is collected, which reads every option.
    quick = ["--matrix", "tiny.toml", "--benchmark-disable"] if "--model" in words else ["--collect-only"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, *quick]
    done = subprocess.run(
        [*command, "--results", str(folder / "results")],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    said = done.stdout + done.stderr
    if "--runtime" in words and "can neither run nor build" in said:
        pytest.skip("that runtime is installed, and there is no GPU for it")
    if "--baseline" in words and "no runtime matches" in said:  # its options were read before that was found out
        assert done.returncode == 5, said
        return
    assert done.returncode == 0, said
    if "--model" in words:
        assert "records:" in said
    else:
        assert "::" in said, "nothing was collected"


def check_pip(words):
    assert words[0] == "install"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for word in words[1:]:
        extras = re.fullmatch(r"\.\[(.+)\]", word)
        assert word in {"-e", "tox", "ruff", "mypy"} or extras
        assert not extras or set(extras[1].split(",")) <= set(project["optional-dependencies"])


def check_tox(words):
    config = configparser.ConfigParser()
    config.read(ROOT / "tox.ini")
    assert words[0] == "-e"
    assert f"testenv:{words[1]}" in config.sections()
    rest = words[words.index("--") + 1 :] if "--" in words else []
    if words[1] != "bench":
        assert not rest, "add a check for what follows --"
        return
    assert (ROOT / "benchmarks" / f"{rest[0]}.py").is_file()
    for option in (word for word in rest if word.startswith("--")):
        assert option in benchmark_help(rest[0])


@cache
def benchmark_help(name):
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), name, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
    return done.stdout


def test_there_are_commands():
    programs = {shown.words[0] for shown in commands()}
    assert {"harness", "pytest", "pip", "python"} <= programs


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links(document):
    """Links between documents lead somewhere."""
    for target in _LINK.findall(document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_python(document):
    """Python blocks are Python."""
    for text in blocks(document, "python"):
        compile(text, str(document), "exec")


def test_options_named_in_text():
    """Every ``--option`` in backquotes exists somewhere."""
    every = [
        *cli.commands.values(),
        *(sub for command in cli.commands.values() for sub in getattr(command, "commands", {}).values()),
    ]
    known = {option for command in every for parameter in command.params for option in parameter.opts}
    plugin = (ROOT / "harness" / "plugin_options.py").read_text(encoding="utf-8")
    known |= set(re.findall(r"\"(--[a-z-]+)\"", plugin))
    # Polygraphy's, trtexec's, pytest-benchmark's
    theirs = {"--data-loader-script", "--calibProfile"}
    theirs |= set(FLAGS) | {"--notest"}  # trtexec's, tox's
    theirs |= {f"--benchmark-{name}" for name in ("compare", "compare-fail", "histogram", "json")}
    for document in DOCUMENTS:
        for span in re.findall(r"`([^`\n]+)`", document.read_text(encoding="utf-8")):
            for option in re.findall(r"(?<![\w-])--[A-Za-z0-9-]+", span):
                assert option in known | theirs, f"{document.name}: {option}"
