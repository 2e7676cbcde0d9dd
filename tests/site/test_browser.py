"""The site in a real browser, opened from disk and from a web server."""

from __future__ import annotations

import functools
import http.server
import threading

import pytest

from harness.site.build import build_site
from tests.run_records import made, written
from tests.site.explained import searched, told
from tests.site.records import HOSTILE

DESKTOP, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 844}


class Visit:
    """A tab that notes what it should not have to: console messages, errors, requests beyond the page itself."""

    def __init__(self, browser, site, size=DESKTOP, scheme="light", base=""):
        self.base = base or site.first.parent.as_uri()
        self.page = browser.new_context(viewport=size, color_scheme=scheme).new_page()
        self.noted, self.requests = [], []
        self.page.on("console", lambda message: self.noted.append(message.text))
        self.page.on("pageerror", lambda error: self.noted.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.noted.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def open(self, name):
        self.requests.clear()
        self.page.goto(f"{self.base}/{name}")
        return self.page


@pytest.fixture
def visit(browser, site):
    visits = []

    def make(**options):
        visits.append(Visit(browser, site, **options))
        return visits[-1]

    yield make
    for one in visits:
        one.page.context.close()


def names(site):
    return sorted(path.name for path in site.first.parent.glob("*.html"))


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_every_page_loads_quietly_asks_for_nothing_else_and_is_no_wider_than_the_window(visit, site, size, scheme):
    tab = visit(size=size, scheme=scheme)
    kinds = {"index", "history", "model", "gate"}
    pages = [name for name in names(site) if name.split("-")[0].removesuffix(".html") in kinds]
    pages.append(next(name for name in reversed(names(site)) if name.startswith("run-")))
    for name in pages:
        page = tab.open(name)
        assert page.locator("h1").count() == 1
        assert len(tab.requests) == 1, tab.requests
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    assert tab.noted == []


def test_what_a_record_says_is_text(visit, site):
    tab = visit()
    page = tab.open("index.html")
    link = page.locator("#models a", has_text="<script>")
    assert link.text_content() == HOSTILE
    link.click()
    assert page.locator("h1").text_content() == HOSTILE
    assert page.title().startswith("<script>")
    assert page.locator("script").count() == 1
    assert page.locator("img").count() == 0
    assert "hit" not in page.evaluate("document.title.replace(/<.*>/, '')")
    tab.open(next(name for name in reversed(names(site)) if name.startswith("run-202611") and "T02" in name))
    assert page.locator("pre", has_text=f"BuildFailed: {HOSTILE}").count() == 1
    assert page.locator("pre", has_text=f"[W] {HOSTILE}").count() == 1, "what its worker printed"
    assert page.locator("img").count() == 0
    assert tab.noted == []


def test_a_script_that_got_in_would_not_run(visit, site):
    """The second lock: a page's policy names the one script that may run."""
    page = visit().open("index.html")
    page.evaluate("""() => {
        const script = document.createElement('script');
        script.textContent = 'window.ran = true';
        document.body.append(script);
        const image = document.createElement('div'); image.innerHTML = '<img src=x onerror="window.ran = true">';
        document.body.append(image);
    }""")
    page.wait_for_timeout(50)
    assert page.evaluate("window.ran === undefined")


def test_filters(visit):
    page = visit().open("index.html")
    shown = page.locator("#models tbody tr:visible")
    assert shown.count() == 3
    page.get_by_label("Model, runtime, host").fill("wave tensorrt")
    assert shown.count() == 1
    assert page.locator("form.filters output").text_content() == "1 of 3"
    page.get_by_label("Model, runtime, host").fill("")
    page.get_by_label("Verdict").select_option("below bounds")
    assert shown.locator("a").all_text_contents() == ["plc"]


def test_what_was_not_judged_can_be_asked_for(browser, tmp_path):
    runs = tmp_path / "runs"
    written(runs, "r", made("r", 0), made("r", 1, verdict="", model_name="plc", case="plc"))
    page = Visit(browser, build_site(runs, tmp_path / "out")).open("index.html")
    shown = page.locator("#models tbody tr:visible")
    page.get_by_label("Verdict").select_option(label="not judged")
    assert shown.locator("a").all_text_contents() == ["plc"]
    page.get_by_label("Verdict").select_option(label="all")
    assert shown.count() == 2
    for file in ("model-plc.html", "run-r.html"):
        page.goto((tmp_path / "out" / file).as_uri())
        rows = page.locator("form.filters + .wide tbody tr:visible")
        before = rows.count()
        page.locator("select[name=word]").select_option(label="not judged")
        assert rows.count() == 1
        page.locator("select[name=word]").select_option(label="all")
        assert rows.count() == before
    page.context.close()


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_what_explain_found(browser, tmp_path, size):
    why = {"why": HOSTILE, "notes": [HOSTILE * 5]}
    written(tmp_path / "runs", "r", searched(**why), told(100), told(1000, scale=10.0))
    tab = Visit(browser, build_site(tmp_path / "runs", tmp_path / "out"), size)
    page = tab.open("model-wave.html")
    assert [one.get_attribute("href") for one in page.locator("h1 + p a").all()] == ["#best", "#layers"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    wide = "[...document.querySelectorAll('table.cards td')].filter(td => td.scrollWidth > td.clientWidth)"
    assert page.evaluate(f"{wide}.map(td => td.textContent)") == []
    tried = page.locator("#best details table")
    tried.get_by_role("button", name="dB, search").click()
    names = tried.locator("tbody td:first-child").all_text_contents()
    assert names[:3] == [f"int8-{method}-ragged-single" for method in ("mse", "entropy", "auto")], "NaN is the least"
    page.locator("#layers summary", has_text="At length 100:").click()
    assert page.locator("#layers details table tbody tr:visible").count() == 20
    assert tab.noted == []
    page.context.close()


def test_historys_filter_hides_series_and_their_pictures(visit):
    page = visit().open("history.html")
    rows, pictures = page.locator("#series tbody tr:visible"), page.locator("figure:visible")
    assert (rows.count(), pictures.count()) == (2, 2)
    page.get_by_label("Model, case, runtime").fill("plc")
    assert rows.locator("a").all_text_contents() == ["plc"]
    assert [one.split()[0] for one in pictures.locator("h3").all_text_contents()] == ["plc"]
    page.get_by_label("Model, case, runtime").fill("")
    page.locator("select[name=word]").select_option("gain fell")
    assert rows.locator("a").all_text_contents() == ["wave"]
    assert [one.split()[0] for one in pictures.locator("h3").all_text_contents()] == ["wave"]


def test_a_models_cases_are_filtered(visit):
    page = visit().open("model-wave.html")
    rows = page.locator("#cases-s1 tbody tr:visible")
    assert rows.count() == 4
    page.get_by_label("Worst verdict").select_option("below bounds")
    assert rows.locator("td:first-child").all_text_contents() == ["minmax-ragged"]
    page.get_by_label("Worst verdict").select_option(label="all")
    assert rows.count() == 4
    page.get_by_label("Case, layout, verdict").fill("compared")
    assert rows.count() == 1


def test_filters_and_sorting_by_keyboard_alone(visit):
    page = visit().open("index.html")
    focused = "document.activeElement.name || document.activeElement.textContent.trim()"
    while page.evaluate(focused) != "text":
        page.keyboard.press("Tab")
    page.keyboard.type("plc")
    assert page.locator("#models tbody tr:visible").count() == 1
    for _ in "plc":
        page.keyboard.press("Backspace")
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "word"
    page.keyboard.press("b")
    assert page.locator("#models tbody tr:visible a").all_text_contents() == ["plc"], "below bounds"
    page.keyboard.press("Home")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate(focused) == "INT8 gain":
            break
    for key, order in (("Enter", "ascending"), ("Space", "descending")):
        page.keyboard.press(key)
        head = page.locator("#models th", has_text="INT8 gain")
        assert head.get_attribute("aria-sort") == order
        assert page.evaluate(focused) == "INT8 gain", "the focus stays"


def test_nothing_sticks_out_of_a_card_on_a_phone(visit, site):
    tab = visit(size=PHONE)
    for path in sorted(site.first.parent.glob("*.html")):
        page = tab.open(path.name)
        wide = "[...document.querySelectorAll('table.cards td')].filter(td => td.scrollWidth > td.clientWidth)"
        assert page.evaluate(f"{wide}.map(td => td.textContent)") == [], path.name


def test_tables_can_be_sorted_on_a_phone(visit):
    page = visit(size=PHONE).open("index.html")
    models = page.locator("#models tbody tr td:nth-child(2)")
    page.locator("#models th", has_text="Model").get_by_role("button").click()
    assert models.all_text_contents() == [HOSTILE, "plc", "wave"]
    page.locator("#models th", has_text="Model").get_by_role("button").click()
    assert models.all_text_contents() == ["wave", "plc", HOSTILE]


def test_tables_sort_by_numbers_up_and_down_with_what_is_not_known_last(visit):
    page = visit().open("index.html")
    models = page.locator("#models tbody tr td:nth-child(2)")
    assert models.all_text_contents() == [HOSTILE, "plc", "wave"], "the worst first"
    head = page.locator("#models th", has_text="INT8 gain")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert models.all_text_contents() == [HOSTILE, "plc", "wave"]
    head.get_by_role("button").click()
    assert models.all_text_contents() == ["wave", "plc", HOSTILE]
    head = page.locator("#models th", has_text="Trend")
    for _ in range(2):
        head.get_by_role("button").click()
        assert models.all_text_contents()[-1] == HOSTILE, "it has one run"


def test_every_link_leads_to_a_file_and_every_fragment_to_a_place(visit, site):
    page = visit().open("index.html")
    folder = site.first.parent
    for name in names(site):
        page.goto((folder / name).as_uri())
        links = page.eval_on_selector_all("a", "found => found.map(one => one.getAttribute('href'))")
        assert links
        for href in links:
            file, _, fragment = href.partition("#")
            assert not file or (folder / file).is_file(), (name, href)
            assert not fragment or page.locator(f"#{fragment}").count(), (name, href)


def test_a_mark_tells_its_numbers(visit):
    page = visit().open("model-wave.html")
    mark = page.locator("figure svg [role=graphics-symbol][aria-label*='int8 auto-ragged, 362']")
    mark.first.hover()
    assert page.locator("#tip").text_content() == "int8 auto-ragged, 362: 2.413 ms [2.365, 2.462]"


def test_dark_and_light_are_two_sets_of_colours_in_one_picture(visit):
    def colours(scheme):
        page = visit(scheme=scheme).open("model-wave.html")
        line = page.locator("figure svg .mark-line path").first
        return page.evaluate("getComputedStyle(document.body).backgroundColor"), line.evaluate(
            "one => getComputedStyle(one).stroke"
        )

    light, dark = colours("light"), colours("dark")
    assert light == ("rgb(255, 255, 255)", "rgb(0, 114, 178)")
    assert dark == ("rgb(20, 24, 29)", "rgb(108, 182, 255)")


def test_from_a_web_server(visit, site):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site.first.parent))
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tab = visit(base=f"http://127.0.0.1:{server.server_port}")
        page = tab.open("index.html")
        page.locator("#models a", has_text="wave").click()
        assert page.locator("figure svg").count() == 3
        server.shutdown()
    assert [url.rpartition("/")[2] for url in tab.requests] == ["index.html", "model-wave.html"]
    assert tab.noted == []


def test_pages_can_be_read_without_their_script(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(site.first.as_uri())
    assert page.locator("#models tbody tr").count() == 3
    assert not page.locator("form.filters").first.is_visible(), "filters that do nothing are not shown"
    context.close()
