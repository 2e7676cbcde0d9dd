"""The site: built as CI does, and what it must not do: fetch, lose a page, show a key that nobody explains."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest

pytest.importorskip("mkdocs", reason="tox run -e tests installs it")
pytest.importorskip("material", reason="tox run -e tests installs it")

from harness.cli import cli
from harness.commands.examples import EXAMPLES
from harness.gate.report import schema_text
from harness.results.record import KINDS
from harness.spec import config

ROOT = Path(__file__).parents[2]
NAMES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "mkdocs.yml", "docs", "harness")


def build(root, site):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(root)}
    return subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, timeout=180, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def checkout(tmp_path):
    """A copy that a test may spoil."""
    root = tmp_path / "checkout"
    root.mkdir()
    for name in NAMES:
        there = ROOT / name
        (shutil.copytree if there.is_dir() else shutil.copy)(there, root / name)
    shutil.copytree(ROOT / "results" / "reference", root / "results" / "reference")
    shutil.copy(ROOT / "results" / "README.md", root / "results")
    return root


def text_of(page):
    """What is read on a page."""

    class Text(HTMLParser):
        said = ""

        def handle_data(self, data):
            self.said += data

    parser = Text()
    parser.feed(page.read_text("utf-8"))
    return parser.said


def test_every_command_is_in_the_reference(site):
    sections = text_of(site / "reference/commands.html").split("Usage: ")[0].split("¶")
    for name, command in every(cli):
        (said,) = (text for head, text in itertools.pairwise(sections) if head.endswith(f"\nharness {name}"))
        for parameter in command.params:
            assert all(option in said for option in parameter.opts if option.startswith("--")), name
        assert all(line in said for line, _ in EXAMPLES.get(name, ())), name


def every(group, before=""):
    for name, command in group.commands.items():
        yield before + name, command
        if isinstance(command, click.Group):
            yield from every(command, f"{before}{name} ")


def test_every_key_is_in_the_reference(site):
    said = text_of(site / "reference/configuration.html")
    for struct in (config._Table, config._ModelTable, config._BoundsTable, config._LatencyOverride):
        assert all(re.search(rf"\b{name}\b", said) for name in struct.__struct_encode_fields__)
    assert "How many times faster than the float baseline" in said


def test_records_as_recorded(site):
    said = text_of(site / "reference/records.html")
    for words in ("values.buckets.*.sqnr_db", "values.session.word", "environment.cpu"):
        assert words in said


def test_every_kind_of_record_is_in_the_reference(site):
    """What nobody recorded on a GPU yet has no table of fields; what its values are is told all the same."""
    page = (site / "reference/records.html").read_text("utf-8")
    by_kind = page.partition("by kind")[2].partition("</table>")[0]
    assert {re.match(r"\w+", cell)[0] for cell in re.findall(r"<tr>\s*<td><code>(\w+)</code>", by_kind)} == KINDS


def test_every_field_of_a_gates_report_is_in_the_reference(site):
    said = text_of(site / "reference/gate-report.html")
    schema = json.loads(schema_text())
    assert all(f"\n{name}\n" in said for name in schema["properties"])
    assert all(f"findings[].{name}\n" in said for name in schema["$defs"]["finding"]["properties"])


def test_a_recorded_gate_is_on_the_site(site):
    said = (site / "reference/gate-8.5.3.1-8.6.0.html").read_text("utf-8")
    assert 'href="../reference/gate-8.5.3.1-8.6.0.html"' in (site / "guide/gate.html").read_text("utf-8")
    folded = said.partition("<summary>What passed</summary>")[2]
    assert "<td>" in folded.partition("</details>")[0]  # a table, and not its text


def test_nothing_is_fetched(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        found = re.findall(
            r"<(?:script|img|link|iframe)\b[^>]*(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)", page.read_text("utf-8")
        )
        assert not found, page


def test_links_out_of_the_documents_are_moved(site):
    page = (site / "guide/results.html").read_text("utf-8")
    assert 'href="../reference/records.html' in page
    assert (site / "reference/report.schema.json").exists()
    assert (site / "ci/nightly.yml").exists()


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("docs/tutorial.md", "](guide/gate.md)", "](guide/gates.md)", "guide/gates.md"),
        ("docs/tutorial.md", "own-model.md#a-task-score", "own-model.md#no-such-place", "no-such-place"),
        ("README.md", "](docs/tutorial.md)", "](docs/tutorials.md)", "tutorials.md"),
        ("mkdocs.yml", "      - Choose profiles: guide/profiles.md\n", "", "guide/profiles.md"),
        ("mkdocs.yml", "font: false", "font: {text: Roboto}", "fetched from elsewhere"),
        ("harness/spec/config.py", "    :param matrix: which", "    :param matrices: which", "no docstring says"),
    ],
    ids=["page", "anchor", "from-outside", "not-in-nav", "font", "undocumented-key"],
)  # fmt: skip
def test_what_is_wrong_fails_the_build(file, old, new, said, checkout, tmp_path):
    text = (checkout / file).read_text("utf-8")
    assert old in text
    (checkout / file).write_text(text.replace(old, new), "utf-8")
    done = build(checkout, tmp_path / "site")
    assert done.returncode != 0
    assert said in done.stdout + done.stderr
