"""The page in a real browser overstates nothing, and loses none of a person's work and choices."""

import re

import pytest

from page.small_bundles import FEATURES, people, small_bundle
from page.visiting import choose, downloaded, goes_to
from privet.page import serving

pytestmark = pytest.mark.slow  # browsers take their time

UNPROTECTED = "The rules leave nothing to change: this record is not protected."
RTL = "\u05d0\u05d1\u05d2"


def keep(page, *entries):
    """Leave entries untouched, by what a person types."""
    for entry in entries:
        page.fill("#keep-name", entry)
        page.press("#keep-name", "Enter")
        assert page.inner_text("#keep-problem") == ""


def settled(page):
    page.locator("#status", has_text="At budget").wait_for(state="attached")


def test_who_cannot_be_protected_is_told_so(visit, address, tmp_path):
    (tmp_path / "mine.txt").write_text("1:0.2 2:1.0\n5:0.4 6:0.6 7:1.0 8:0.2\n\n")
    page = visit(address)
    choose(page, tmp_path / "mine.txt")
    page.get_by_label("Only change or remove entries that are there").check()
    settled(page)
    assert UNPROTECTED not in page.inner_text("#decided")
    assert page.text_content("#unsure") == "which entries are gone, or have another score"
    page.get_by_text("Leave entries untouched").click()
    keep(page, "entry 1")
    settled(page)
    page.click("#chances-title")
    page.get_by_label("Leave entry 2 untouched").click()
    page.locator("#decided", has_text=UNPROTECTED).wait_for()
    assert page.evaluate("document.activeElement.id") == "changes-title"
    assert page.inner_text("#after-release") == ""
    assert not page.locator("#other-chances").is_visible()
    downloaded(page, "#download")
    page.locator("#saved", has_text="In 2 records nothing could change: not protected.").wait_for()
    page.get_by_label("Only add new entries").check()
    page.locator("#decided", has_text="Under your key").wait_for()
    assert page.locator("#other-chances").is_visible()
    assert page.text_content("#unsure") == "which of its entries are yours"


def test_another_record_in_view_stops_no_work_and_loses_none(visit, address, tmp_path):
    (tmp_path / "many.txt").write_text(people(1500))
    page = visit(address)
    choose(page, tmp_path / "many.txt")
    with page.expect_download():
        page.click("#download")
        page.click("#next")
        goes_to(page, 2)
        page.click("#all-classes")
    page.locator("#saved", has_text="Saved 1,500 records").wait_for()
    page.click("#next")
    goes_to(page, 3)
    settled(page)
    page.evaluate("document.getElementById('progress').value = 0")
    downloaded(page, "#report-text")
    assert page.evaluate("document.getElementById('progress').value") == 0  # nothing done again


def test_long_work_stops_when_asked_and_when_choices_change(visit, address, tmp_path):
    (tmp_path / "many.txt").write_text(people(4000))
    page = visit(address)
    choose(page, tmp_path / "many.txt")
    stopped = page.locator("#saved", has_text="Stopped; nothing was saved")
    page.click("#download")
    page.focus("#cancel")
    page.keyboard.press("Enter")
    stopped.wait_for()
    assert page.get_attribute("#download", "aria-disabled") == "false"
    assert not page.locator("#progress").is_visible()
    assert page.evaluate("document.activeElement.id") == "download"
    page.click("#download")
    page.locator("#cancel").wait_for()
    assert not stopped.is_visible()
    page.locator("#budget").fill("5")
    stopped.wait_for()
    page.locator("#status", has_text="At budget 5").wait_for(state="attached")
    assert stopped.is_visible()


def test_a_second_version_is_warned_of(visit, address, source):
    page = visit(address)
    choose(page, source)
    warning = "a second version of these records"

    def said():
        page.evaluate("document.getElementById('saved').textContent = ''")
        downloaded(page, "#download")
        page.locator("#saved", has_text="Saved 6 records").wait_for()
        return page.inner_text("#saved")

    assert warning not in said()
    assert warning not in said()
    page.locator("#budget").fill("5")
    assert warning in said()
    source.rename(source.with_name("copy.txt"))
    choose(page, source.with_name("copy.txt"))
    assert warning not in said()
    page.get_by_label("Only add new entries").check()
    assert warning in said()


def test_a_file_that_was_edited_can_be_chosen_again(visit, address, source):
    page = visit(address)
    for count in (2, 4):
        source.write_text(people(count))
        with page.expect_file_chooser() as waiting:
            page.click("#file")
        waiting.value.set_files(source)
        page.locator("#records", has_text=str(count)).wait_for(state="attached")


NAMES = {
    9: "entry 10",
    10: " entry 11 ",
    11: "",
    12: "<img src=x onerror=alert(1)>",
    13: RTL,
    14: "\U0001f600" * 70,
    15: "\u200d \u200c",
    16: "\u0646\u200c\u0647",
    18: "a\nb\u202e",
}


def test_odd_names_are_shown_whole_and_looked_up_as_typed(visit, tmp_path):
    names = tuple(NAMES.get(number, f"app {number}") for number in range(FEATURES))
    path = small_bundle(tmp_path / "odd", feature_names=names, class_names=(RTL, *"bcdefghijkl"))
    (tmp_path / "mine.txt").write_text(" ".join(f"{number}:1.0" for number in NAMES) + "\n")
    with serving(path) as address:
        page = visit(address)
        choose(page, tmp_path / "mine.txt")
        page.get_by_text("Leave entries untouched").click()
        listed = page.locator("#entries li > label > span").all_text_contents()
        shown = [line.removesuffix(" 1").strip("\u2068\u2069") for line in listed]
        assert shown[:2] == ["entry 10", "entry 11"]
        assert shown[2:6] == ["entry 11", NAMES[12], RTL, "\U0001f600" * 59 + "\u2026"]
        assert shown[6:] == ["entry 15", NAMES[16], "a\ufffdb\ufffd"]
        assert f"\u2068{RTL}\u2069 1" in listed
        keep(page, "entry 10", "entry 11", "app 20", "21")
        for nobody in ("entry 9", " "):
            page.fill("#keep-name", nobody)
            page.press("#keep-name", "Enter")
            assert "no entry of this name" in page.inner_text("#keep-problem")
        assert page.inner_text("#kept-count") == "(4 so far)"
        kept = page.locator("#entries li:has(:checked)").all_text_contents()
        assert [re.sub("[\u2068\u2069]", "", line) for line in kept] == [
            "app 20 not there", "app 21 not there", "entry 10 1", "entry 11 1"
        ]  # fmt: skip


CARDS = [
    ({}, "its maker does not state", None),
    (
        {"attack_accuracy_by_budget": {"3": 0.2}, "definitions": {"passed": True, "failed": []}},
        "has the figures",
        "All bounds met",
    ),
    ({"definitions": {"passed": True, "failed": ["r", "x"]}}, "state", "missed: its size (r)"),
    ({"definitions": {"passed": False, "failed": "?"}}, "state", "Bounds missed"),
    ({"definitions": [1]}, "state", None),
]


@pytest.mark.parametrize(("card", "measured", "checked"), CARDS)
def test_what_the_maker_states_is_told_and_no_more(visit, tmp_path, card, measured, checked):
    with serving(small_bundle(tmp_path / "carded", card=card)) as address:
        page = visit(address)
        assert measured in page.inner_text("#measured")
        about = page.text_content("#about")
        assert ("Checked by its maker" in about) == (checked is not None)
        assert (checked or "") in about


def test_the_goal_of_a_bundle_without_a_prior_is_no_claim_about_people(visit, address, source):
    page = visit(address)
    choose(page, source)
    assert "verybody" not in page.inner_text("#chart thead")
    said = page.text_content("#status")
    figures = page.locator("#figures dd").all_inner_texts()
    name = page.inner_text("#verdict strong")
    assert said == (
        f"At budget 3 the model gives {name} {figures[0]} now, {figures[1]} after protection on "
        f"average."
    )


def test_work_in_a_hidden_tab_waits_for_no_frame_and_no_timer(visit, address, tmp_path):
    (tmp_path / "many.txt").write_text(people(300))
    page = visit(address)
    choose(page, tmp_path / "many.txt")
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {value: true});"
        "window.setTimeout = window.requestAnimationFrame = () => 0"
    )
    downloaded(page, "#download")
    page.locator("#saved", has_text="Saved 300 records").wait_for()
