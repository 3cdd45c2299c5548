"""The README's table of metrics against the registry: nothing missing, nothing too much."""

from __future__ import annotations

import re
from pathlib import Path

from poller.daemon.metrics import Telemetry
from poller.poll.outcome import Outcome
from poller.rounds.exporter import ExporterState

README = Path(__file__).parents[2] / "README.md"
PREFIX = "livestat_poller_"
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \|(.*?)\| (.+) \|$")

Metric = tuple[str, frozenset[str]]


def in_readme() -> dict[str, Metric]:
    """Return {name: (type, labels)} of the table in the section `Metrics`."""
    section = README.read_text("utf-8").partition("\n## Metrics\n")[2].partition("\n## ")[0]
    rows = [ROW.match(line) for line in section.splitlines() if line.startswith("| `")]
    assert all(rows), "every row has a name, a type, labels and a meaning"
    return {row[1]: (row[2], frozenset(re.findall(r"`(\w+)`", row[3]))) for row in rows if row}


def in_registry() -> dict[str, Metric]:
    """Return the same of all that a registry shows that knows of an agent."""
    metrics = {}
    telemetry = Telemetry()
    agent = ExporterState("a:1", "i-1", "durations", 7.0, 5.0, 1.0, 2.0, False, False, None)
    telemetry.saw(Outcome(exporters=(agent,)), [])
    for family in telemetry.registry.collect():
        if not family.name.startswith(PREFIX):
            continue
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = frozenset(label for sample in family.samples for label in sample.labels)
        metrics[name] = (family.type, labels - {"le"})
    return metrics


def test_every_series_is_there_from_the_start() -> None:
    """But those of agents, of which there is none."""
    families = Telemetry().registry.collect()
    bare = [family.name for family in families if not family.samples]
    assert [name for name in bare if not name.startswith(f"{PREFIX}agent_")] == []


def test_the_table_of_metrics_tells_what_the_registry_shows() -> None:
    assert in_readme() == in_registry()
