"""The command and what it writes, without a browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from urllib.parse import unquote

import pytest

from harness.cli import main
from harness.errors import EnvironmentMissing, ResultsError, UsageError
from harness.site.build import Summary, build_site
from harness.site.pages import file_name
from tests.run_records import made, written
from tests.site.records import HOSTILE, bucket, case_of, nights, traffic

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return nights(tmp_path_factory.mktemp("few"), 2)


def said(capsys, *words):
    code = main(["report", *map(str, words)])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_the_command_says_where_the_first_page_is(few, tmp_path, capsys):
    out = tmp_path / "public"
    code, stdout, stderr = said(capsys, "--results", few, "--out", out)
    assert code == 0
    assert stdout.strip() == str(out / "index.html")
    assert "9 pages" in stderr
    assert not (out / "plots").exists()


def test_an_older_report_is_replaced_and_anything_else_is_left_alone(few, tmp_path, capsys):
    out = tmp_path / "public"
    assert said(capsys, "--results", few, "--out", out)[0] == 0
    (out / "model-gone.html").write_text("of an older report")
    assert said(capsys, "--results", few, "--out", out)[0] == 0
    assert not (out / "model-gone.html").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "index.html").write_text("my own")
    code, _, stderr = said(capsys, "--results", few, "--out", mine)
    assert code == UsageError.exit_code
    assert "there is something else" in stderr
    assert [path.name for path in mine.iterdir()] == ["index.html"]


def test_since_leaves_out_what_is_older(few, tmp_path):
    (tmp_path / "out").mkdir()
    main(["report", "--results", str(few), "--out", str(tmp_path / "out"), "--since", "2026-11-21T00:30"])
    pages = {path.name for path in (tmp_path / "out").glob("*.html")}
    assert pages == {
        "index.html", "history.html", *(file_name(kind, "20261102T060000Z-abcdef") for kind in ("gate", "run")),
    }  # fmt: skip


def test_no_folder_and_an_empty_one(tmp_path, capsys):
    with pytest.raises(ResultsError, match="no such folder"):
        build_site(tmp_path / "none", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert said(capsys, "--results", tmp_path / "empty", "--out", tmp_path / "out")[0] == 0
    assert "No records of cases here" in (tmp_path / "out" / "index.html").read_text()


def test_bad_lines_are_said(tmp_path, capsys):
    written(tmp_path / "runs", "r", made("r"), b"bad\n")
    code, _, stderr = said(capsys, "--results", tmp_path / "runs", "--out", tmp_path / "out")
    assert code == 0
    assert "r.jsonl: 1 line(s) are no records and left out" in stderr


def test_pictures_are_files_of_their_own_in_real_colours(site):
    svgs = sorted((site.first.parent / "plots").glob("*.svg"))
    pngs = sorted((site.first.parent / "plots").glob("*.png"))
    assert {path.stem for path in svgs} == {path.stem for path in pngs} >= {"gains", "model-wave-1-latency"}
    for path in svgs:
        text = path.read_text()
        assert "var(" not in text, path.name
        assert ET.fromstring(text).tag == f"{SVG}svg"
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pngs)


def test_nothing_in_a_page_comes_from_elsewhere_and_pictures_hold_no_active_content(site):
    for path in site.first.parent.glob("*.html"):
        text = path.read_text()
        assert not re.search(r"""(src|href)=["']?(https?:)?//""", text), path.name
        assert HOSTILE not in text
        for picture in re.findall(r"<svg .*?</svg>", text, re.DOTALL):
            root = ET.fromstring(picture.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
                                 if "xmlns" not in picture else picture)  # fmt: skip
            tags = {one.tag.removeprefix(SVG) for one in root.iter()}
            assert tags <= {
                "svg",
                "g",
                "path",
                "line",
                "rect",
                "text",
                "tspan",
                "polyline",
                "circle",
                "defs",
                "clipPath",
            }
            names = {name for one in root.iter() for name in one.attrib}
            assert not any(name.startswith("on") or name.endswith("href") for name in names)


def test_samples_of_a_gate_are_beside_its_page(site):
    (path,) = site.first.parent.glob("gate-*-samples.json")
    (one,) = json.loads(path.read_text())
    assert one["pair"] == "wave-int8-auto-ragged-single"
    assert one["session"]["samples_ns"][0]["null control"]["short"] == [[41000, 42000], [40500]]
    assert f'href="{path.name}"' in path.with_name(path.name.replace("-samples.json", ".html")).read_text()


def pictures(text):
    return re.findall(r"!\[.*?\]\((.*?)\)", text)


def test_markdown_has_two_pictures_and_no_markup_of_a_record(site):
    folder = site.first.parent.parent
    text = (folder / "comment.md").read_text()
    gate = file_name("gate", "20261130T060000Z-abcdef").removesuffix(".html")
    assert pictures(text) == [f"out/plots/{gate}-forest.png", "out/plots/gains.png"]
    links = re.findall(r"\]\((.*?)\)", text)
    assert len(links) == 4
    assert all((folder / one).is_file() for one in links)
    assert "**regression**" in text
    assert "<script" not in text
    assert "| ✗ below bounds | plc |" in text


def test_markdown_writes_its_pictures_and_no_others(few, tmp_path, capsys):
    file, out = tmp_path / "sub" / "c.md", tmp_path / "the site"
    code, _, stderr = said(capsys, "--results", few, "--out", out, "--markdown", file)
    assert code == 0
    assert "2 pictures" in stderr
    found = [(file.parent / unquote(one)).resolve() for one in pictures(file.read_text())]
    assert sorted(found) == sorted((out / "plots").iterdir())
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in found)


def test_markdown_of_a_site_that_is_served_names_it(few, tmp_path, capsys):
    words = ["--results", few, "--out", tmp_path / "out", "--url", "https://example.org/n/"]
    assert said(capsys, *words)[0] == UsageError.exit_code
    assert said(capsys, *words, "--markdown", tmp_path / "out" / "c.md")[0] == 0
    text = (tmp_path / "out" / "c.md").read_text()
    assert "(https://example.org/n/plots/gains.png)" in text
    assert "(https://example.org/n/index.html)" in text


def test_markdown_without_a_gate_shows_a_models_times(tmp_path):
    timed = case_of("wave")
    written(tmp_path / "runs", "r", traffic("r", 0, timed, 2.0), bucket("r", 0, timed, "short", 2.0))
    build_site(tmp_path / "runs", tmp_path / "out", summary=Summary(tmp_path / "c.md"))
    assert pictures((tmp_path / "c.md").read_text()) == ["out/plots/gains.png", "out/plots/model-wave-1-latency.png"]


def test_names_of_files():
    assert file_name("model", "wave_len-2") == "model-wave_len-2.html"
    assert file_name("model", "Wave").casefold() != file_name("model", "wave").casefold()
    twice = file_name("model", "a b").removeprefix("model-").removesuffix(".html")
    assert file_name("model", twice) != file_name("model", "a b")
    assert file_name("model", "\ud800") != file_name("model", "\ud801")
    assert file_name("history", "a-b", "c") != file_name("history", "a", "b-c")
    odd = [file_name("model", name) for name in ("../a", "..-a", "a/b", "a b", "", "ä" * 300, "\ud800")]
    assert len(set(odd)) == len(odd)
    assert all(re.fullmatch(r"model-[A-Za-z0-9_-]{,100}\.html", name) for name in odd)


def test_a_half_of_a_surrogate_pair_does_not_end_the_report(tmp_path):
    line = json.dumps(made("r", case="x\ud800", model_name="x\ud800")).encode() + b"\n"
    written(tmp_path / "runs", "r", line)
    build_site(tmp_path / "runs", tmp_path / "out")
    assert list((tmp_path / "out").glob("model-x*.html"))


@pytest.mark.parametrize("sign", ["\x1b", "\ufffe", "\udc80"])
def test_what_xml_forbids_is_replaced_in_pictures(tmp_path, sign):
    """In a process of its own: what draws would end it."""
    case = case_of(f"a{sign}b", f"t{sign}")
    names = {"fields": case["fields"], "case": case["case"]}
    lines = [traffic("r", 0, names, 2.0), bucket("r", 0, names, "short", 2.0), bucket("r", 0, names, "long", 0.5)]
    written(tmp_path / "runs", "r", *(json.dumps(one).encode() + b"\n" for one in lines))
    code = "import sys; from harness.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["report", "--results", tmp_path / "runs", "--out", tmp_path / "out", "--png", "--svg"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out" / "plots").glob("*.png"))) == 2
    text = (tmp_path / "out" / "plots" / "gains.svg").read_text()
    assert re.search("a[\ufffd?]+b t[\ufffd?]+", text)
    assert ET.fromstring(text).tag == f"{SVG}svg"


def test_a_gate_that_was_ended_before_its_last_record(tmp_path):
    from tests.site.records import gate

    first = next(iter(gate("g", 0)))
    written(tmp_path / "runs", "g", first)
    build_site(tmp_path / "runs", tmp_path / "out")
    text = (tmp_path / "out" / "gate-g.html").read_text()
    assert "tensorrt-8.5.3.1 → tensorrt-8.6.0" in text
    assert "regression" in text


@pytest.mark.parametrize("name", ["jinja2", "ruptures", "vl_convert"])
def test_without_the_extra_nothing_is_begun(few, tmp_path, capsys, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    code, _, stderr = said(capsys, "--results", few, "--out", tmp_path / "out")
    assert code == EnvironmentMissing.exit_code
    assert f"{name} is not installed" in stderr
    assert "[report]" in stderr
    assert not (tmp_path / "out").exists()


def test_plain_commands_do_not_import_what_draws():
    """--help stays quick, and the extras stay extras."""
    heavy = ("jinja2", "vl_convert", "ruptures", "duckdb")
    code = f"import sys, harness.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
