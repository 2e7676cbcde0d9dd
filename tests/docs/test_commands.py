"""Every command that the documents and the help show is run. What cannot be stands in ``not_run.py``, with the reason
and with what is checked in place of a run; that list is complete, and has nothing that is run.
"""

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
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from harness.calibration.artefacts import int8
from harness.cli import cli, main
from harness.commands.configured import configured_models
from harness.commands.examples import commands_of
from harness.corpus.registry import pick
from harness.explain.tables import Effort
from harness.modelfile import prepare
from harness.results.store import Store
from harness.runtimes.serve import RUNTIMES
from harness.spec.calibration import Dialect
from harness.spec.config import find_config
from harness.trtexec import FLAGS
from harness.workers import Environment
from harness.workers.environments import TOX
from tests.docs import not_run
from tests.run_records import made, written

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/README.md")]
DOCUMENTS += sorted(ROOT.glob("docs/**/*.md"))

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
_SHOWN_WITH_OUTPUT = re.compile(r"^(?:\$ |(?=export |docker run |python -m tox |pytest ))(.+)", re.MULTILINE)
_TINY = 'precisions = ["int8"]\ncompared = ["mse-pad"]\nsamples = 4\ntests = 1\ndraws = 2\nblocks = 2\n'
_TWO_LAUNCHES = "launches = 2\n"
"""Of a session; enough where no speed-up is asked for: too few to prove one on a noisy machine."""
_FEW_SAMPLES = ("--samples", "8")
_LITTLE = Effort(seconds=0.02, least=3)
"""Of timed runs for a layer table."""


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
        typed = [text.replace("\\\n", " ") for text in blocks(document, "sh")]
        seen = [text.replace("\\\n", " ") for text in blocks(document, "text")]
        for text in (*typed, *("\n".join(_SHOWN_WITH_OUTPUT.findall(text)) for text in seen)):
            for line in text.splitlines():
                for command in line.split("&&"):
                    words = shlex.split(command, comments=True)
                    if words:
                        yield Shown(str(document.relative_to(ROOT)), tuple(words))


def taught():
    """What help tells to type."""
    for command in commands_of():
        yield Shown("harness --help", tuple(shlex.split(command)))


def every():
    """Each command once, under the first document that shows it."""
    found = {}
    for shown in (*commands(), *taught()):
        found.setdefault(shown.words, shown)
    return [*found.values()]


def in_place_of_a_run(words):
    """A reason of :mod:`tests.docs.not_run`; empty where the command is run."""
    program, *arguments = words
    if program == "harness" and "--best" in words:
        return not_run.TIMES
    if program == "harness":
        return not_run.OF_HARNESS.get(arguments[0], not_run.ASKS if "--yes" in arguments and "prune" in words else "")
    if program == "pytest":
        if any("@gpu" in word or word == "old" for word in words):  # names of the guide's own configuration
            return not_run.HOSTS
        return "" if "--model" in words or "encoder" in words else not_run.LONG
    if program == "pip" or words[:3] in {("python", "-m", "pip"), ("python", "-m", "tox")}:
        return not_run.INSTALLS
    return not_run.THEIRS


def the_block(document, language, word):
    """The block of a document that holds a word."""
    (text,) = (text for text in blocks(ROOT / document, language) if word in text)
    return text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of somebody who follows the guide: a model, samples, and the files that the guide shows."""
    folder = tmp_path_factory.mktemp("guide")
    encoder(folder / "encoder.onnx")
    ranges = dict.fromkeys(("columns", "r1", "rows"), (-12.0, 12.0))
    shutil.copy(int8(prepare(folder / "encoder.onnx"), ranges, Dialect.S8S8), folder / "encoder.qat.onnx")
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
    (folder / "untimed.toml").write_text(_TINY + _TWO_LAUNCHES)
    (folder / "more.toml").write_text("launches = 12\n")
    shutil.copy(ROOT / "docs/ci/allow.toml", folder)
    for results in (folder / "results", folder / "other" / "results"):
        results.mkdir(parents=True)
        run = ROOT / "results/reference/h200-2026-11-23/first-latency-8.5.3.1.jsonl"
        shutil.copy(run, results / "20261123T054421Z-17f1c7.jsonl")
    case = {"case": "vad-tensorrt-8.6.0-fp16-single", "model_name": "vad", "runtime": "tensorrt-8.6.0"}
    written(folder / "recorded", "20261120T000000Z-aaaaaa", made("20261120T000000Z-aaaaaa", **case))
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


@pytest.mark.parametrize("shown", every(), ids=str)
def test_command(shown, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    program, *arguments = shown.words
    reason = in_place_of_a_run(shown.words)
    if program == "harness" and reason not in {"", not_run.ASKS}:
        check_read(arguments, monkeypatch, capsys)
    elif program == "harness":
        monkeypatch.setattr("harness.explain.tables.Effort", lambda: _LITTLE)
        check_harness(arguments, folder, capsys)
    elif reason == not_run.HOSTS:
        assert {word for word in arguments if word.startswith("--")} <= options_of_pytest()
    elif program == "pytest":
        check_pytest(arguments, folder, own=not reason)
    elif program == "pip" or shown.words[:3] == ("python", "-m", "pip"):
        check_pip(arguments[2:] if program == "python" else arguments)
    elif shown.words[:4] == ("python", "-m", "tox", "run"):
        check_tox(arguments[3:])
    elif program == ".ci/run":
        assert os.access(ROOT / program, os.X_OK)
    elif program == "docker":
        assert all((ROOT / word).is_file() for word in arguments if word.startswith("docs/"))
    else:  # somebody else's program: nothing of ours can make it wrong
        theirs = {"ruff", "mypy", ".", "export"}
        assert program in theirs or shown.words[:3] == ("python", "-m", "venv"), "add a check for it"


def test_what_is_not_run_is_listed():
    """Each with its reason: whoever shows a command that no test runs has to say so there."""
    reasons = {shlex.join(shown.words): in_place_of_a_run(shown.words) for shown in every()}
    listed = {shlex.join(shlex.split(line)): reason for reason, lines in not_run.NOT_RUN.items() for line in lines}
    assert listed == {command: reason for command, reason in reasons.items() if reason}


class Begun(BaseException):
    """In place of a run that would begin."""


def check_read(arguments, monkeypatch, capsys):
    """All that a command reads before it begins what takes long: of a gate up to its run, of others the options."""
    name, *words = arguments
    context = cli.commands[name].make_context(name, words, parent=cli.context_class(cli, **cli.context_settings))
    if name == "fetch":
        assert pick(configured_models(find_config()), context.params["keys"])
    if name != "gate":
        return

    def there(*_, **__):
        """What tox's environments would be on a machine with a GPU."""
        found = []
        for runtime in TOX:
            family = max((one for one in RUNTIMES if runtime.startswith(f"{one}-")), key=len)
            version = runtime.removeprefix(f"{family}-")
            found.append(Environment(runtime, f"/{runtime}/bin/python", family, version))
        return found

    def begun(self):
        raise Begun

    def of_interpreter(path):
        """An interpreter by its path has the newest ONNX Runtime."""
        return [replace(one, python=f"/{path}") for one in there() if one.name.startswith("onnxruntime-")][-1:]

    monkeypatch.setattr("harness.gate.asked.find_environments", there)
    monkeypatch.setattr("harness.gate.asked.of_interpreter", of_interpreter)
    monkeypatch.setattr(Store, "open_run", begun)
    with pytest.raises(Begun):
        assert main([*arguments, "--results", "recorded"]) is None, capsys.readouterr().err


def check_harness(arguments, folder, capsys):
    if arguments[0] == "init":
        folder = a_new_project(folder)
        os.chdir(folder)
    if arguments[:2] == ["results", "prune"]:
        arguments = [word for word in arguments if word != "--yes"]  # the run that other commands want is old one day
    if arguments[:2] == ["calibrate", "vad"] and "--samples" not in arguments:  # it has any number of them
        arguments = [*arguments, *_FEW_SAMPLES]
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


def check_pytest(arguments, folder, *, own):
    words = [str(ROOT / word) if word.startswith(("suites/", "tests/")) else word for word in arguments]
    assert all(Path(word).exists() for word in words if word.startswith(str(ROOT)))
    # Own models are small: they run for real. What takes minutes is collected, which reads every option.
    asked = "--models" in words or any("speedup" in word for word in words)  # the configured model has a speed-up, too
    matrix = "tiny.toml" if asked else "untimed.toml"
    quick = ["--matrix", matrix, "--benchmark-disable"] if own else ["--collect-only"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, *quick]
    done = subprocess.run(
        [*command, "--results", str(folder / "results")],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    said = done.stdout + done.stderr
    if "--runtime" in words and "can neither run nor build" in said:
        pytest.skip("that runtime is installed, and there is no GPU for it")
    if "--require" in words and "--require: no runtime matches" in said:
        assert done.returncode == 4, said
        return
    if "--baseline" in words and "no runtime matches" in said:  # its options were read before that was found out
        assert done.returncode == 5, said
        return
    assert done.returncode == 0, said
    if own:
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
    known = {
        option for command in commands_there().values() for parameter in command.params for option in parameter.opts
    }
    known |= options_of_pytest()
    # Polygraphy's, trtexec's, pytest-benchmark's
    theirs = {"--data-loader-script", "--calibProfile"}
    theirs |= set(FLAGS) | {"--notest", "--dist"}  # trtexec's, tox's, pytest-xdist's
    theirs |= {f"--benchmark-{name}" for name in ("compare", "compare-fail", "histogram", "json")}
    for document in DOCUMENTS:
        for span in re.findall(r"`([^`\n]+)`", document.read_text(encoding="utf-8")):
            for option in re.findall(r"(?<![\w-])--[A-Za-z0-9-]+", span):
                assert option in known | theirs, f"{document.name}: {option}"


def test_commands_named_in_text():
    """Every ``harness COMMAND --option`` in backquotes is one, with its own options."""
    there, named = commands_there(), 0
    for document in DOCUMENTS:
        for span in re.findall(r"`harness ([^`\n]+)`", document.read_text(encoding="utf-8")):
            words = span.split()
            if words[0].startswith("-") or span in not_run.NOT_YET:
                continue
            named += 1
            for last in words[1].split("|") if words[0] == "results" and len(words) > 1 else [""]:
                name = f"{words[0]} {last}".strip()
                assert name in there, f"{document.name}: harness {span}"
                known = {option for parameter in there[name].params for option in parameter.opts}
                assert {word for word in words if word.startswith("-")} <= known, f"{document.name}: harness {span}"
    assert named > 40


def commands_there():
    """Name -> command, of groups, too."""
    found = dict(cli.commands)
    for name, group in cli.commands.items():
        found |= {f"{name} {last}": command for last, command in getattr(group, "commands", {}).items()}
    return found


def options_of_pytest():
    plugin = (ROOT / "harness" / "plugin_options.py").read_text(encoding="utf-8")
    return set(re.findall(r"\"(--[a-z-]+)\"", plugin))
