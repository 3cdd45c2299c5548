"""The page as text: what it says in each state, and that nothing foreign gets through."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from poller.daemon import chart, page
from poller.daemon.words import ago, lasting, number, seconds, text
from tests.support import statuses
from tests.support.statuses import EVIL, NOW, PARTS

VOID = {"meta", "input", "rect"}


class Outline(HTMLParser):
    """Tags with their attributes and visible text; every tag must be closed in order."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(document)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words.append(data)

    @property
    def said(self) -> str:
        return " ".join(self.words)


EVERY = {
    "full": statuses.full(),
    "large": statuses.large(),
    "failing": statuses.failing(),
    "standing by": statuses.standing_by(),
    "starting": statuses.starting(),
    "hostile": statuses.hostile(),
}


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("answer", [None, EVIL, statuses.facts(EVIL)])
def test_the_document_is_whole_and_holds_nothing_that_runs_or_loads(
    name: str, answer: page.Answer | None
) -> None:
    outline = Outline(page.render(EVERY[name], EVIL if answer else None, answer))
    assert not {tag for tag, _ in outline.tags} & {"script", "link", "img", "iframe", "object"}
    for tag, attributes in outline.tags:
        assert not [one for one in attributes if one.startswith("on") or one == "style"], tag
        assert "src" not in attributes
        assert (attributes.get("href") or "/").startswith("/")
    assert [tag for tag, _ in outline.tags].count("style") == 1


def test_what_comes_from_outside_is_told_and_never_markup() -> None:
    document = page.render(statuses.hostile(), EVIL, statuses.facts(EVIL))
    assert "<script" not in document
    assert "\u202e" not in document
    assert "\x00" not in document
    said = Outline(document).said
    assert said.count("<script>alert(1)</script>") >= 8
    (field,) = [attributes for tag, attributes in Outline(document).tags if tag == "input"]
    assert (field["value"] or "").startswith("<script>alert(1)</script>\"'&")


def test_the_policy_names_the_only_style_there_is() -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", page.render(statuses.full()), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in page.POLICY
    assert page.POLICY.startswith("default-src 'none'")
    assert "unsafe" not in page.POLICY
    assert "@import" not in style
    assert "url(" not in style


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("full", ["Leads and publishes", "For 2 h 5 min, since", "2 stalled, 1 still", "i-gpu-02"]),
        ("failing", ["Leads and fails", "the last good cycle was 1 min 5 s ago", "raise prom"]),
        ("standing by", ["Stands by", "poller-a:4711:8f3a9c writes the keys"]),
        ("starting", ["Starts", "no cycle has ended yet"]),
    ],
)
def test_the_page_says_what_the_poller_does(name: str, words: list[str]) -> None:
    said = Outline(page.render(EVERY[name])).said
    for one in words:
        assert one in said


def test_who_writes_no_key_does_not_publish() -> None:
    cycles = tuple(replace(one, written=0) for one in statuses.full().cycles)
    status = replace(statuses.full(), written=0, withheld={"stalled": 10}, cycles=cycles)
    assert "Leads and writes no key" in Outline(page.render(status)).said


def test_a_cycle_in_which_no_agent_measured_is_in_order() -> None:
    said = Outline(page.render(replace(statuses.full(), written=0))).said
    assert "Leads and publishes" in said


def test_who_stands_by_and_reaches_nobody_does_not_say_who_writes() -> None:
    status = replace(statuses.standing_by(), fails_since=NOW - 60, why_not_ready="it fails")
    said = Outline(page.render(status)).said
    assert "Stands by and fails" in said
    assert "Not ready: it fails" in said
    assert "writes the keys" not in said


def test_a_large_cluster_names_what_is_wrong_first_and_not_every_kernel() -> None:
    said = Outline(page.render(statuses.large())).said
    assert said.index("i-node-077") < said.index("i-node-000")
    assert "Agents (150)" in said
    assert "and 130 more" in said
    assert len(page.render(statuses.large())) < 200_000


def test_the_page_refreshes_itself_but_not_under_somebody_who_types() -> None:
    def refreshes(document: str) -> list[str | None]:
        tags = [attributes for tag, attributes in Outline(document).tags if tag == "meta"]
        return [one["content"] for one in tags if one.get("http-equiv") == "refresh"]

    status = statuses.full()
    assert refreshes(page.render(status)) == ["5"]
    assert refreshes(page.render(replace(status, interval_s=0.2))) == ["5"]
    assert refreshes(page.render(replace(status, interval_s=600.0))) == ["60"]
    assert refreshes(page.render(status, "")) == []


def test_a_kernel_is_shown_from_both_sides_with_differences_marked() -> None:
    outline = Outline(page.render(statuses.full(), "x", statuses.facts()))
    assert "key written 2.4 s ago, TTL 86398 s" in outline.said
    differing = [one for tag, one in outline.tags if tag == "tr" and one.get("class") == "differs"]
    assert len(differing) == 2
    assert outline.words.count("mem") == 1  # a metric's name stands once


def test_what_is_not_known_of_an_agent_is_a_dash() -> None:
    agents = (statuses.AgentStatus("i-new", 3),)
    said = Outline(page.render(replace(statuses.full(), agents=agents))).said
    assert said.count("–") == 4


def test_a_bar_is_as_high_as_its_cycle_took_and_failures_are_marked() -> None:
    records = [statuses.record(1), statuses.record(0, "failed")]
    bars = re.findall(r"<g>.*?</g>", chart.svg(records))
    heights = [sum(map(float, re.findall(r'height="([\d.]+)"/', bar))) for bar in bars]
    assert heights[1] == pytest.approx(100 + 4, abs=0.1)
    assert heights[0] == pytest.approx(100 * records[0].seconds / 4.11, abs=0.1)
    assert ["p-failed" in bar for bar in bars] == [False, True]
    assert "failed: timeout" in bars[1]


def test_the_medians_are_of_good_cycles_and_every_part_has_a_colour() -> None:
    records = [statuses.record(0), statuses.record(0, "failed"), statuses.record(0)]
    typical = chart.typical(records)
    assert typical["query"] == pytest.approx(PARTS["query"])
    style = page.render(statuses.full())
    assert all(f".p-{part}{{" in style for part in (*chart.PARTS, chart.OTHER, "failed"))


def test_a_chart_of_nothing_is_none() -> None:
    assert chart.told([]) == "No cycle yet"
    assert "<svg" not in page.render(replace(statuses.starting(), cycles=()))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0 s"), (59.6, "1 min"), (3600, "1 h"), (3665, "1 h 1 min"), (90_061, "1 d 1 h"),
     (86_405, "1 d"), (-3, "0 s")],
)  # fmt: skip
def test_a_duration_is_told_in_its_two_largest_units(value: float, shown: str) -> None:
    assert lasting(value) == shown


def test_words_of_numbers() -> None:
    assert (number(1234567), number(None)) == ("1\u202f234\u202f567", "–")
    assert [seconds(one) for one in (0.0123, 1.5, 12.34)] == ["12 ms", "1.50 s", "12.3 s"]
    assert (ago(None, NOW), ago(NOW - 2, NOW)) == ("–", "2 s ago")
    assert text("a\nb<") == "a b&lt;"
