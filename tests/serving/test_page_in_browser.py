"""The page in a real browser, driven by Playwright. Skipped, with the reason, where one of the two is not installed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import find_browser
from endpoints import THAI, answerer, served, tiny
from lingraft.engines.base import EngineModel
from lingraft.evaluation.thumbs import read_thumbs
from lingraft.serving.document import DocumentService
from lingraft.serving.page import Page
from lingraft.serving.systems import ServedSystem
from lingraft.serving.translation import TranslationService
from lingraft.serving.translator import Translator
from page_systems import INFO, Says
from processes import HANGING
from translation_endpoints import Rule, translations

EXECUTABLE = find_browser()
pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium or Chrome on the path: install chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")

HOSTILE = "<img src=x onerror='window.ran=1'> <script>window.ran=1</script> [x](javascript:ran) </p>&amp; last"
SLOW = {"offline": False, "latency": 200, "downloadThroughput": -1, "uploadThroughput": -1}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server of a graft with a hostile tongue, its base, and a graft with a chain of thought."""
    chained = answerer()
    says = {"mine": Says(lambda text: HOSTILE), "base": Says(lambda text: HOSTILE.replace("last", text.upper()))}
    loaded = tiny()
    systems = [
        ServedSystem("mine", loaded, None, INFO),
        ServedSystem("chained", loaded, chained.markers, INFO),
        ServedSystem("base", loaded, None, None),
    ]
    beside = {**says, "chained": chained}
    rules = {"mine": translations(Rule()), "chained": translations(Rule(lambda text: f"{text} {text}"))}
    parts = (loaded, None, None, EngineModel.of(loaded))
    rules["base"] = TranslationService(Translator(*parts, decoder=Rule(lambda text: f"{text}?")))
    further = {name: (texts, DocumentService(texts.translator, texts)) for name, texts in rules.items()}
    options = {"page": Page(systems, 24), "translations": rules["mine"], "translations_beside": further}
    with served(says["mine"], beside=beside, **options) as (url, _):
        yield f"{url}/"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=EXECUTABLE, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def opened(chromium: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page, freshly opened; `problems` of it, and requests to others than its server, fail the test."""
    context = chromium.new_context(**getattr(request, "param", {}))
    page = context.new_page()
    # Late answers of the server: what a test reads too early is then wrong each time, not once in a while.
    context.new_cdp_session(page).send("Network.emulateNetworkConditions", SLOW)
    page.set_default_timeout(1000 * HANGING)
    problems: list[str] = []
    refused = "status of 400"  # the browser's own note of what the page shows

    def note(said: Any) -> None:
        if said.type in ("error", "warning") and refused not in said.text:
            problems.append(said.text)

    page.on("console", note)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda asked: None if asked.url.startswith((address, "blob:")) else problems.append(asked.url))
    page.goto(address)
    page.wait_for_selector("#systems input")
    yield page
    assert problems == []
    assert page.evaluate("window.ran") is None
    context.close()


def send(page: Any, text: str) -> None:
    """Ask by the keyboard, and wait for all answers."""
    page.fill("#question", text)
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".answer .icon:not([disabled])")
    page.wait_for_selector("#stop", state="hidden")


def only(page: Any, *names: str) -> None:
    for label in page.locator("#systems label").all():
        label.locator("input").set_checked(label.inner_text().strip() in names)


def test_nothing_can_be_sent_before_the_page_knows_whom_it_asks(opened: Any, address: str) -> None:
    held = list[Any]()
    opened.route("**/page/systems", lambda route: held.append(route))
    opened.goto(address)
    opened.wait_for_function("window.performance.getEntriesByName(location.href + 'page/desk.js').length")
    assert opened.is_disabled("#send")
    assert opened.is_disabled("#translate")
    while not held:
        opened.wait_for_timeout(10)
    held[0].continue_()
    opened.wait_for_selector("#send:enabled")


def test_what_a_model_writes_is_text_and_differences_are_marked(opened: Any) -> None:
    only(opened, "base", "mine")
    send(opened, "two <b>")
    answers = opened.locator(".answer")
    assert answers.locator("h3").all_inner_texts() == ["base", "mine"]
    assert answers.locator(".text").all_text_contents() == [HOSTILE.replace("last", "TWO <B>"), HOSTILE]
    assert opened.locator(".turn").locator("img, script, a, b").count() == 0
    assert opened.locator(".asked").text_content() == "two <b>"
    marked = [one.locator("mark").all_text_contents() for one in answers.all()]
    assert marked == [["TWO", "<", "B", ">"], ["last"]]
    opened.uncheck("#mark")
    assert opened.locator("mark").count() == 0
    assert "3 tokens" in answers.first.locator(".figures").inner_text()
    assert answers.first.get_attribute("aria-busy") == "false"
    assert "complete" in opened.locator("#said").text_content()


def test_the_chain_is_folded_open_beside_the_answer(opened: Any) -> None:
    only(opened, "chained")
    send(opened, THAI)
    assert opened.locator(".chain").evaluate("one => one.open && !one.hidden")
    heads = opened.locator(".chain b").all_inner_texts()
    assert heads[:2] == ["The question in English", "The answer in English"]
    assert opened.locator(".answer .text").text_content()


def test_all_of_it_works_by_the_keyboard(opened: Any) -> None:
    assert opened.evaluate("document.activeElement.id") == "question"
    opened.focus("#tab-chat")
    for key, tab in (
        ("ArrowRight", "desk"),
        ("End", "ratings"),
        ("ArrowRight", "chat"),
        ("ArrowLeft", "ratings"),
        ("Home", "chat"),
    ):
        opened.keyboard.press(key)
        assert opened.evaluate("document.activeElement.id") == f"tab-{tab}"
        assert opened.locator("[role=tabpanel]:visible").get_attribute("id") == tab
        assert opened.locator("[role=tab][tabindex='-1']").count() == 2
    only(opened, "base", "mine")
    send(opened, "two")
    names = []
    opened.focus("#tab-chat")
    while (name := opened.evaluate("document.activeElement.getAttribute('aria-label') || ''")) != "Bad answer: mine":
        names.append(name)
        assert len(names) < 20
        opened.keyboard.press("Tab")
        assert opened.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert names[-3:] == ["Good answer: base", "Bad answer: base", "Good answer: mine"]
    opened.keyboard.press("Space")
    assert opened.locator(".down[aria-pressed=true]").count() == 1


def test_thumbs_become_a_sheet(opened: Any, tmp_path: Path) -> None:
    only(opened, "base", "mine")
    opened.check("#blind")
    send(opened, "two")
    assert opened.locator(".answer h3").all_inner_texts() == ["Answer A", "Answer B"]
    assert opened.locator(".figures").all_inner_texts() == ["", ""]
    for answer in opened.locator(".answer").all():
        answer.locator(".up" if answer.locator(".text").text_content() == HOSTILE else ".down").click()
    opened.uncheck("#blind")  # names, and another conversation
    send(opened, "two")
    assert opened.locator(".answer [aria-pressed=true]").count() == 2  # they were rated before
    send(opened, "three")
    for thumb in opened.locator(".turn:last-child .up").all():
        thumb.click()
    send(opened, "four")
    opened.locator(".turn:last-child .up").first.click()  # the other one has no thumb
    opened.click("#tab-ratings")
    assert "2 comparisons from 3 questions" in opened.locator("#rated").inner_text()
    opened.click("#download")
    assert "name" in opened.locator("#rated").inner_text()
    opened.fill("#rater", "Anna B.")
    with opened.expect_download() as saved:
        opened.click("#download")
    assert saved.value.suggested_filename == "ratings-Anna-B-.json"
    saved.value.save_as(tmp_path / "a.json")
    key, (filled,) = read_thumbs([tmp_path / "a.json"])
    assert key.systems == ("base", "mine")
    assert sorted(filled.ratings.values()) == [0, 1]  # a tie, and mine is better
    rows = json.loads((tmp_path / "a.json").read_text("utf-8"))["ratings"]
    assert [one["blind"] for one in rows] == [True, False]
    opened.reload()
    assert opened.locator("#rated-count").text_content() == "3"


def test_a_document_is_translated_part_by_part(opened: Any, tmp_path: Path) -> None:
    only(opened, "base", "mine")
    opened.click("#tab-desk")
    assert opened.input_value("#from") == "de"
    assert opened.input_value("#to") == "en"
    file = {"name": "brief.md", "mimeType": "text/markdown", "buffer": b"# Vertrag\n\n42\n\nGuten Tag.\n"}
    opened.set_input_files("#file", file)
    opened.wait_for_selector("#document:not([hidden])")
    assert opened.is_checked("#as-document")
    opened.fill("#terms", "Vertrag = contract")
    opened.keyboard.press("Control+Enter")
    opened.wait_for_selector(".answer .save:visible >> nth=1")
    base, mine = opened.locator("#translations .answer").all()
    asked = "# VERTRAG"
    assert mine.locator(".text").text_content() == f"{HOSTILE}\n\n42\n\n{HOSTILE}"
    assert asked in base.locator(".text").text_content()
    assert "VERTRAG = CONTRACT" in base.locator(".text").text_content()  # the request, which it repeats
    assert "Missing of the glossary: contract" in mine.locator(".note").inner_text()
    with opened.expect_download() as saved:
        mine.locator(".save").click()
    assert saved.value.suggested_filename == "brief.en.mine.md"
    saved.value.save_as(tmp_path / "a.md")
    assert (tmp_path / "a.md").read_text("utf-8") == f"{HOSTILE}\n\n42\n\n{HOSTILE}\n"
    opened.fill("#terms", "no term")
    opened.click("#translate")
    opened.wait_for_selector("#desk-problem:has-text('glossary, line 1')")


def test_a_document_is_translated_by_each_that_is_chosen(opened: Any, tmp_path: Path) -> None:
    opened.click("#tab-desk")
    page = b"<h1>Vertrag</h1>\n"
    opened.set_input_files("#file", {"name": "seite.html", "mimeType": "text/html", "buffer": page})
    only(opened, "mine", "chained", "base")
    opened.click("#translate")
    opened.wait_for_selector("#translations .answer:nth-child(1) .save:visible")
    opened.wait_for_selector("#translations .answer:nth-child(2) .save:visible")
    opened.wait_for_selector("#translations .answer:nth-child(3) .save:visible")
    assert opened.locator("#translations h3").all_inner_texts() == ["base", "mine", "chained"]
    made = {"base": b"Vertrag?", "mine": b"VERTRAG", "chained": b"Vertrag Vertrag"}
    for place, (name, text) in enumerate(made.items()):
        with opened.expect_download() as saved:
            opened.locator("#translations .save").nth(place).click()
        assert saved.value.suggested_filename == f"seite.en.{name}.html"
        saved.value.save_as(tmp_path / name)
        assert (tmp_path / name).read_bytes() == b"<h1>%b</h1>\n" % text
    only(opened)
    opened.click("#translate")
    opened.wait_for_selector("#desk-problem:has-text('Choose who is to translate the document.')")


def test_a_document_with_a_structure_is_translated_by_the_server(opened: Any, tmp_path: Path) -> None:
    opened.click("#tab-desk")
    only(opened, "mine")
    page = b"<h1>Vertrag</h1>\n<p>Er gilt.</p>\n"
    opened.set_input_files("#file", {"name": "seite.html", "mimeType": "text/html", "buffer": page})
    opened.wait_for_selector("#document:not([hidden])")
    assert "seite.html. Translated with its structure." in opened.locator("#document-name").inner_text()
    assert opened.is_disabled("#source")
    opened.keyboard.press("Enter")  # the button has the focus
    opened.wait_for_selector("#translations .save:visible")
    assert "2 segments" in opened.locator("#translations .figures").inner_text()
    with opened.expect_download() as saved:
        opened.click("#translations .save")
    assert saved.value.suggested_filename == "seite.en.mine.html"
    saved.value.save_as(tmp_path / "seite.html")
    assert (tmp_path / "seite.html").read_bytes() == b"<h1>VERTRAG</h1>\n<p>ER GILT.</p>\n"
    opened.fill("#terms", "no term")
    opened.click("#translate")
    opened.wait_for_selector("#translations .problem:has-text('glossary, line 1')")
    opened.click("#close-document")
    assert opened.is_enabled("#source")


def test_files_that_are_no_text_are_refused(opened: Any) -> None:
    opened.click("#tab-desk")
    for name, data, message in (("a.xyz", b"PK", "of no format"), ("a.txt", b"\xff\xfe", "not UTF-8")):
        opened.set_input_files("#file", {"name": name, "mimeType": "text/plain", "buffer": data})
        opened.wait_for_selector(f"#desk-problem:has-text('{message}')")
    only(opened, "mine")
    opened.set_input_files("#file", {"name": "a.docx", "mimeType": "text/plain", "buffer": b"PK"})
    opened.wait_for_selector("#document:not([hidden])")
    opened.click("#translate")
    opened.wait_for_selector("#translations .problem:has-text('the file')")
    opened.select_option("#from", "fr")
    assert "mine and chained were not trained" in opened.locator("#untrained").inner_text()


@pytest.mark.parametrize("opened", [PHONE, {**PHONE, "color_scheme": "dark"}], indirect=True, ids=["light", "dark"])
def test_it_fits_a_phone_in_both_colours(opened: Any, request: pytest.FixtureRequest) -> None:
    send(opened, "a " + 60 * "long")
    for tab in ("chat", "desk", "ratings"):
        opened.click(f"#tab-{tab}")
        assert opened.evaluate("document.documentElement.scrollWidth") <= 390, tab
    paper, ink = (
        sum(map(int, opened.evaluate(f"getComputedStyle(document.body).{one}.match(/\\d+/g)")))
        for one in ("backgroundColor", "color")
    )
    assert (paper < ink) == ("dark" in request.node.callspec.id)
