"""What one scrape saw: of one agent, or of several that share an exporter."""

from __future__ import annotations

import pytest

from poller.rounds.scrape import Scrape


@pytest.mark.parametrize(
    ("agents", "shared"), [("", False), ("a", False), ("aa", False), ("ab", True), ("abb", True)]
)
def test_an_exporter_is_shared_by_agents_of_different_names(agents: str, shared: bool):
    scrape = Scrape()
    for agent in agents:
        scrape.counted_by(agent)
    assert scrape.shared is shared


def test_what_one_scrape_saw_is_its_own():
    Scrape().counts["durations"] = 1.0
    assert Scrape().counts == {}
