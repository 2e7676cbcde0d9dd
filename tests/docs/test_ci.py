"""The recipes of docs/ci: syntax by published schemas, scripts by running them, tables by one another."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli import cli
from harness.gate import allowed
from harness.spec.patterns import fits
from harness.workers.environments import TOX

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "docs" / "ci"
GITHUB = ("nightly.yml", "upgrade-gate.yml", "containers.yml")
REPORT = ROOT / "results/reference/h200-2026-11-23/first-latency-8.5.3.1.jsonl"
RECORDER = """#!{python}
import json, os, pathlib, sys
name = pathlib.Path(sys.argv[0]).name
with open("calls.jsonl", "a") as file:
    file.write(json.dumps([name, *sys.argv[1:]]) + "\\n")
for word in sys.argv[1:]:
    if os.environ.get("WRITES") and word.startswith(("--report=", "--summary=")):
        pathlib.Path(word.partition("=")[2]).write_text("written\\n")
sys.exit(int(os.environ.get("CODE", "0")))
"""


def read(name):
    return pytest.importorskip("ruamel.yaml", reason="check-jsonschema brings it").YAML(typ="safe").load(RECIPES / name)


def checked(schema, file):
    """``check-jsonschema`` with one of the schemas that it carries: nothing is fetched."""
    pytest.importorskip("check_jsonschema", reason="tox run -e tests installs it")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def read_by_zizmor(*files):
    program = shutil.which("zizmor", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if program is None:
        pytest.skip("zizmor is not installed; tox run -e tests installs it")
    command = [program, "--offline", "--no-progress", "--strict-collection", "--format", "json"]
    command += ["--config", str(RECIPES / "zizmor.yml"), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    return {found["ident"] for found in json.loads(done.stdout)}


# -- syntax -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        *(("vendor.github-workflows", name) for name in GITHUB),
        *(("custom.github-workflows-require-timeout", name) for name in GITHUB),
        ("vendor.gitlab-ci", "gitlab-ci.yml"),
    ],
)
def test_schema(schema, name):
    done = checked(schema, RECIPES / name)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("schema", "name", "right", "wrong"),
    [
        ("vendor.github-workflows", "nightly.yml", "runs-on:", "run-on:"),
        ("vendor.gitlab-ci", "gitlab-ci.yml", "exit_codes: [4]", "exit_codes: four"),
    ],
)
def test_schema_finds_a_slip(tmp_path, schema, name, right, wrong):
    text = (RECIPES / name).read_text("utf-8")
    assert right in text
    (tmp_path / name).write_text(text.replace(right, wrong, 1), "utf-8")
    assert checked(schema, tmp_path / name).returncode == 1


def test_github_recipes_are_safe():
    """Inputs pasted into scripts, wide permissions, kept credentials, caches that others can poison."""
    assert read_by_zizmor(*(RECIPES / name for name in GITHUB)) == set()


def test_an_input_inside_a_script_is_found(tmp_path):
    text = (RECIPES / "upgrade-gate.yml").read_text("utf-8")
    pasted = text.replace("run: docs/ci/upgrade-gate.sh", "run: harness gate ${{ inputs.baseline }} x")
    assert pasted != text
    (tmp_path / "upgrade-gate.yml").write_text(pasted, "utf-8")
    assert "template-injection" in read_by_zizmor(tmp_path / "upgrade-gate.yml")


@pytest.mark.parametrize("name", GITHUB)
def test_scripts_hold_no_expressions(name):
    steps = [step for job in read(name)["jobs"].values() for step in job["steps"] if "run" in step]
    assert steps
    assert not [step["run"] for step in steps if "${{" in step["run"]]


# -- what the recipes name is there -----------------------------------------------------------------------------------


def lines_of(name):
    """What each job of a recipe runs."""
    recipe = read(name)
    if name in GITHUB:
        return [step["run"] for job in recipe["jobs"].values() for step in job["steps"] if "run" in step]
    return [line for job in recipe.values() if isinstance(job, dict) for line in job.get("script", [])]


@pytest.mark.parametrize("name", [*GITHUB, "gitlab-ci.yml"])
def test_scripts_are_there(name):
    words = [word for line in lines_of(name) for word in shlex.split(line)]
    assert words
    for word in words:
        assert os.access(ROOT / word, os.X_OK), word


def test_runtimes_are_what_is_installed():
    """Names of runtimes and the tox environments beside them speak of the same versions."""
    nightly, gate, gitlab = read("nightly.yml"), read("upgrade-gate.yml"), read("gitlab-ci.yml")
    job, inputs = nightly["jobs"]["suites"]["env"], gate["on"]["workflow_dispatch"]["inputs"]
    variables = gitlab["variables"]
    pairs = [
        (job["ENVIRONMENTS"], job["RUNTIMES"].split(",")),
        (inputs["environments"]["default"], [inputs["baseline"]["default"], inputs["candidate"]["default"]]),
        (variables["ENVIRONMENTS"]["value"], [variables["BASELINE"]["value"], variables["CANDIDATE"]["value"]]),
        (variables["ENVIRONMENTS"]["value"], gitlab["nightly"]["variables"]["RUNTIMES"].split(",")),
    ]
    for environments, runtimes in pairs:
        installed = [name for name, tox in TOX.items() if tox in environments.split(",")]
        assert len(installed) == len(environments.split(","))
        assert [[name for name in installed if fits(name, word)] for word in runtimes] == [[one] for one in installed]


def test_containers_are_those_of_the_table():
    """One line a version, the same in both recipes and in the table that has the sources."""
    table = re.findall(
        r"^\| `(\S+-py3)` \| `([\d.]+)` \| .*\S.* \|$", (RECIPES / "README.md").read_text("utf-8"), re.MULTILINE
    )
    github = read("containers.yml")["jobs"]["suites"]["strategy"]["matrix"]["include"]
    gitlab = read("gitlab-ci.yml")["nightly in containers"]["parallel"]["matrix"]
    assert len(table) > 3
    assert [(one["tag"], one["expected"]) for one in github] == table
    assert [(one["TAG"], one["EXPECTED"]) for one in gitlab] == table


def test_allow_file(tmp_path):
    """As it lies there it allows nothing; what it shows is an entry, and so is what the guide shows."""
    file = RECIPES / "allow.toml"
    assert allowed.read(file) == []
    shown = file.read_text("utf-8").partition("[[allow]]")
    guide = re.search(r"```toml\n(\[\[allow\]\].*?)```", (ROOT / "docs/guide/gate.md").read_text("utf-8"), re.DOTALL)
    for text in ((shown[1] + shown[2]).replace("\n# ", "\n"), guide[1]):
        (tmp_path / "allow.toml").write_text(text, "utf-8")
        (entry,) = allowed.read(tmp_path / "allow.toml")
        assert entry.case == "vad-int8-*"
        assert entry.reason


# -- scripts, run -----------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path):
    """A checkout with the scripts, and programs in .venv that write down how they are called."""
    (tmp_path / "docs" / "ci").mkdir(parents=True)
    for script in RECIPES.glob("*.sh"):
        shutil.copy(script, tmp_path / "docs" / "ci")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for program in ("harness", "pytest", "python"):
        put(tmp_path / ".venv" / "bin" / program, RECORDER.format(python=sys.executable))
    return tmp_path


def put(file, text):
    file.write_text(text, "utf-8")
    file.chmod(0o755)


def started(checkout, script, *words, path="", **variables):
    environ = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    environ["PATH"] = f"{path}{os.pathsep}{environ['PATH']}" if path else environ["PATH"]
    command = ["bash", f"docs/ci/{script}", *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=checkout, env=environ | variables
    )


def calls(checkout):
    file = checkout / "calls.jsonl"
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def parsed(checkout):
    """What ``harness gate`` makes of the one call."""
    ((program, command, *words),) = calls(checkout)
    assert (program, command) == ("harness", "gate")
    return (
        cli.commands["gate"].make_context("gate", words, parent=cli.context_class(cli, **cli.context_settings)).params
    )


SIDES = {"BASELINE": "tensorrt-8.6", "CANDIDATE": "tensorrt-10.3"}


@pytest.mark.parametrize(
    ("code", "writes", "verdict"),
    [
        (0, "1", "pass"),
        (1, "1", "regression"),
        (1, "", "broken"),
        (2, "", "usage"),
        (3, "1", "inconclusive"),
        (4, "1", "invalid"),
        (5, "", "environment"),
        (130, "", "broken"),
    ],
)
def test_gate_tells_its_exit_codes_apart(checkout, code, writes, verdict):
    done = started(checkout, "upgrade-gate.sh", **SIDES, CODE=str(code), WRITES=writes)
    assert done.returncode == code, done.stderr
    assert f"gate: {verdict}: " in done.stdout


def test_gate_on_github_writes_its_page(checkout):
    on = {"GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": "output", "GITHUB_STEP_SUMMARY": "summary"}
    done = started(checkout, "upgrade-gate.sh", **SIDES, **on, CODE="3", WRITES="1")
    assert "::warning title=upgrade gate: inconclusive::" in done.stdout
    assert (checkout / "output").read_text() == "verdict=inconclusive\n"
    assert (checkout / "summary").read_text() == "written\n"


def test_an_old_report_is_not_taken_for_a_new_one(checkout):
    (checkout / "out").mkdir()
    (checkout / "out" / "gate.json").write_text("yesterday's")
    assert "gate: broken: " in started(checkout, "upgrade-gate.sh", **SIDES, CODE="1").stdout


def test_gate_passes_everything_on(checkout):
    options = {"MODELS": "vad,wave", "MATRIX": "full", "BUDGET": "1h", "THOROUGH": "true", "ALLOW_FILE": "a b.toml"}
    assert started(checkout, "upgrade-gate.sh", **SIDES, **options).returncode == 0
    found = parsed(checkout)
    assert (found["baseline"], found["candidate"]) == ("tensorrt-8.6", "tensorrt-10.3")
    assert (found["models"], found["matrix_text"], found["budget"]) == (("vad,wave",), "full", "1h")
    assert found["thorough"]
    assert found["allow_file"] == Path("a b.toml")
    assert (found["report"], found["summary"]) == (Path("out/gate.json"), Path("out/gate.md"))


def test_gate_leaves_out_what_is_empty(checkout):
    empty = dict.fromkeys(("MODELS", "MATRIX", "BUDGET", "ALLOW_FILE"), "") | {"THOROUGH": "false"}
    started(checkout, "upgrade-gate.sh", **SIDES, **empty)
    found = parsed(checkout)
    assert (found["models"], found["matrix_text"], found["budget"], found["allow_file"]) == ((), "", "20m", None)
    assert not found["thorough"]


@pytest.mark.parametrize("text", ["$(touch pwned)", '"; touch pwned; "', "--allow=*=anything", "a b"])
def test_what_is_typed_is_no_script(checkout, text):
    started(checkout, "upgrade-gate.sh", BASELINE=text, CANDIDATE=text, MODELS=text)
    found = parsed(checkout)
    assert (found["baseline"], found["candidate"], found["models"]) == (text, text, (text,))
    assert found["allow"] == ()
    assert not (checkout / "pwned").exists()


def test_gate_without_a_side_is_usage(checkout):
    assert started(checkout, "upgrade-gate.sh", BASELINE="tensorrt-8.6").returncode == 2
    assert not calls(checkout)


def test_nightly(checkout):
    """Real ``harness``; tests that fail; the record is kept and exported all the same."""
    real = "from harness.cli import main; import sys; sys.exit(main(sys.argv[1:]))"
    put(checkout / ".venv/bin/harness", f"#!/bin/sh\nexec '{sys.executable}' -c '{real}' \"$@\"\n")
    run = "20261123T054421Z-17f1c7.jsonl"
    recorded = (
        f"import shutil\npathlib.Path('out/results').mkdir()\nshutil.copy({str(REPORT)!r}, 'out/results/{run}')\n"
    )
    put(
        checkout / ".venv/bin/pytest",
        RECORDER.format(python=sys.executable).replace("sys.exit(", recorded + "sys.exit("),
    )
    (checkout / "out").mkdir()
    done = started(
        checkout, "nightly.sh", RUNTIMES="onnxruntime", PYTHONS=sys.executable, CODE="1", PYTHONPATH=str(ROOT),
        TRT_INT8_HARNESS_CACHE=str(checkout / "cache"),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert (checkout / "results" / run).exists()
    assert "harness_" in (checkout / "out/harness.prom").read_text("utf-8")
    assert "onnxruntime" in (checkout / "out/doctor.txt").read_text("utf-8")
    assert "conv1d" in (checkout / "out/report/index.html").read_text("utf-8")
    assert (checkout / "out/report/plots/gains.png").exists()
    ((_, *words),) = calls(checkout)
    collected = [*words, "--collect-only", "-q", "-p", "no:cacheprovider"]
    moved = [
        str(ROOT / word) if word == "suites/" else word.replace("=out/", f"={checkout}/out/") for word in collected
    ]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", *moved]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=checkout, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "::" in done.stdout


def test_install(checkout):
    assert started(checkout, "install.sh", ENVIRONMENTS="trt86,trt103").returncode == 0
    pip, tox = calls(checkout)
    assert pip[1:4] == ["-m", "pip", "install"]
    assert ".[report,suites]" in pip
    assert tox[1:] == ["-m", "tox", "run", "-e", "trt86,trt103", "--notest"]
    config = configparser.ConfigParser()
    config.read(ROOT / "tox.ini")
    assert {"testenv:trt86", "testenv:trt103"} <= set(config.sections())
    assert (checkout / "out").is_dir()


@pytest.fixture
def image(checkout):
    """A container's python3, in which pip and uv are only written down, with a TensorRT 10.7.0."""
    (checkout / "image").mkdir()
    put(checkout / "image" / "tensorrt.py", "__version__ = '10.7.0.23'\n")
    pass_on = f"if [ \"$1\" = - ]; then PYTHONPATH='{checkout}/image' exec '{sys.executable}' \"$@\"; fi\n"
    put(checkout / "image" / "python3", f"#!/bin/sh\n{pass_on}exec '{checkout}/.venv/bin/python' \"$@\"\n")
    return str(checkout / "image")


def test_container(checkout, image):
    done = started(
        checkout, "container.sh", "sh", "-c", 'echo "[$PYTHONS] [$CANDIDATE]"', path=image, EXPECTED="10.7.0"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"[{image}/python3] [{image}/python3]"
    assert [words[1:3] for words in calls(checkout)] == [["-m", "pip"], ["-m", "uv"], ["-m", "pip"]]


@pytest.mark.parametrize("expected", ["10.3.0", "10.7.1", "10.7.0.2"])
def test_a_tag_that_holds_another_version_ends_the_job(checkout, image, expected):
    done = started(checkout, "container.sh", "touch", "ran", path=image, EXPECTED=expected)
    assert done.returncode == 1
    assert f"said to hold TensorRT {expected} and holds 10.7.0.23" in done.stderr
    assert not calls(checkout)
    assert not (checkout / "ran").exists()
