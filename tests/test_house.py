"""The house: which room may know which, read off the imports."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "poller"
MODULES = sorted(
    path.relative_to(PACKAGE).with_suffix("").as_posix()
    for path in PACKAGE.rglob("*.py")
    if path.name != "__init__.py"
)
GROUND = {"errors", "values", "clock"}
SETTINGS = {"config", "settings", "environment", "relations", "credentials"}
ASKS = GROUND | {"format", "prometheus"}
BELOW = {
    "format": GROUND,
    "prometheus": GROUND | {"format"},
    "store": GROUND | {"format"},
    "rounds": ASKS,
    "history": GROUND | {"format", "rounds"},
    "batch": ASKS | {"rounds", "history"},
    "backfill": ASKS | {"store", "rounds", "history"},
    "poll": ASKS | SETTINGS | {"store", "rounds", "history", "batch", "backfill"},
}
BELOW["daemon"] = BELOW["commands"] = BELOW["poll"] | {"poll"}
BELOW["demo"] = BELOW["daemon"] | {"daemon", "commands"}
"""What each room may know beside itself; nothing knows `cli`, `options` and `output` above them."""
FOREIGN = {
    "config": {"pydantic", "pydantic_settings"},
    "settings": {"pydantic"},
    "credentials": {"pydantic"},
    "cli": {"click"},
    "options": {"click"},
    "output": {"click"},
    "format/encode": {"msgpack"},
    "values": {"msgspec"},
    "prometheus/answers": {"msgspec"},
    "prometheus/client": {"msgspec"},
    "prometheus/errors": {"aiohttp", "msgspec"},
    "prometheus/transport": {"aiohttp", "yarl"},
    "store/keys": {"redis"},
    "store/writes": {"redis"},
    "store/connections": {"redis"},
    "store/cluster_client": {"redis"},
    "store/errors": {"redis"},
    "rounds/arrivals": {"msgspec"},
    "rounds/counters": {"msgspec"},
    "rounds/exporter": {"msgspec"},
    "rounds/scrape": {"msgspec"},
    "history/state": {"msgspec"},
    "commands/show": {"msgspec"},
    "daemon/schedule": {"apscheduler"},
    "daemon/metrics": {"prometheus_client"},
    "daemon/http": {"aiohttp"},
    "daemon/logs": {"pythonjsonlogger"},
    "commands/printing": {"rich"},
    "commands/live_table": {"rich"},
    "demo/promapi": {"aiohttp"},
    "demo/servers": {"aiohttp", "fakeredis"},
}
PURE = [
    "errors",
    "values",
    "environment",
    "format/catalog",
    "format/encode",
    "format/numbers",
    "prometheus/answers",
    "prometheus/batch_queries",
    "prometheus/lookup_queries",
    "prometheus/round_queries",
    "prometheus/selectors",
    "rounds/arrivals",
    "rounds/counters",
    "rounds/durations",
    "rounds/exporter",
    "rounds/rates",
    "rounds/rounds",
    "rounds/scrape",
    "history/feeding",
    "history/history",
    "history/living",
    "history/measure",
    "history/recall",
    "history/standing",
    "history/state",
    "batch/capacities",
    "batch/duplicates",
    "batch/merge",
    "batch/plan",
    "batch/plan_queries",
    "batch/trail",
    "backfill/replay",
    "poll/withhold",
    "daemon/chart",
    "daemon/page",
    "daemon/status",
    "daemon/withheld_since",
    "daemon/words",
    "commands/differences",
    "commands/freshness",
    "commands/key_rows",
    "commands/settings_report",
    "demo/queries",
]
STAGE_ROOMS = {"rounds", "history", "batch", "backfill", "poll"}
SEES_STAGES: dict[str, set[str]] = {
    "rounds/arrivals": set(),
    "rounds/counters": {"rounds/scrape"},
    "rounds/durations": {"rounds/scrape"},
    "rounds/exporter": {"rounds/arrivals", "rounds/durations", "rounds/scrape"},
    "rounds/rates": set(),
    "rounds/rounds": {"rounds/arrivals", "rounds/counters", "rounds/exporter", "rounds/scrape"},
    "rounds/scrape": set(),
    "history/feeding": {
        "rounds/rounds",
        "history/history",
        "history/measure",
        "history/recall",
        "history/state",
    },
    "history/history": {
        "rounds/rounds",
        "history/living",
        "history/recall",
        "history/standing",
        "history/state",
    },
    "history/living": {"rounds/rounds"},
    "history/measure": {"rounds/arrivals", "rounds/rates", "rounds/rounds", "history/state"},
    "history/recall": {"rounds/rates", "history/state"},
    "history/standing": {"history/state"},
    "history/state": set(),
    "batch/capacities": {"history/state"},
    "batch/duplicates": set(),
    "batch/merge": set(),
    "batch/plan": {"rounds/rates", "rounds/rounds", "history/state", "batch/capacities"},
    "batch/plan_queries": {"history/state", "batch/capacities", "batch/merge", "batch/plan"},
    "batch/trail": set(),
    "backfill/replay": {"rounds/arrivals", "history/measure"},
    "poll/withhold": {"history/state"},
}
"""The pure stages of a poll, and the other stages that each may know."""


def imports(module: str) -> tuple[set[str], set[str]]:
    """Return (own modules as paths, foreign top-level packages) that a module imports."""
    own, foreign = set(), set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if _is_module(name) else node.module for name in whole]
        for name in names:
            top, _, rest = name.partition(".")
            if top == "poller":
                own.add(rest.replace(".", "/"))
            else:
                foreign.add(top)
    return own - {""}, foreign


def _is_module(dotted: str) -> bool:
    return dotted.removeprefix("poller.").replace(".", "/") in MODULES


def room(module: str) -> str:
    """Return the folder of a module; a module at the top is a room of its own."""
    return module.partition("/")[0]


@pytest.mark.parametrize("module", MODULES)
def test_a_module_uses_only_its_own_foreign_library(module: str):
    _, foreign = imports(module)
    assert foreign - sys.stdlib_module_names <= FOREIGN.get(module, set())


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) in BELOW])
def test_a_room_knows_only_what_lies_below_it(module: str):
    own, _ = imports(module)
    assert {room(name) for name in own} <= BELOW[room(module)] | {room(module)}


@pytest.mark.parametrize("module", sorted(SEES_STAGES))
def test_a_pure_stage_sees_values_and_no_other_stage(module: str):
    own, _ = imports(module)
    assert {name for name in own if room(name) in STAGE_ROOMS} <= SEES_STAGES[module]


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_does_no_input_or_output(module: str):
    _, foreign = imports(module)
    assert not foreign & {"asyncio", "socket", "os", "time", "logging", "pathlib", "ssl"}


def test_the_house_has_no_lumber_room():
    assert not {"utils", "helpers", "common", "misc"} & {Path(name).name for name in MODULES}


@pytest.mark.parametrize("command", ["check", "compare", "once", "show", "watch", "deploy_files"])
def test_a_command_has_a_module_of_its_name(command: str):
    assert f"commands/{command}" in MODULES


def test_a_class_name_is_one_thing():
    """But for the demonstration, which has a cluster, metrics and series of its own."""
    places: dict[str, list[str]] = {}
    for module in MODULES:
        for node in ast.parse((PACKAGE / f"{module}.py").read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module)
    several = {
        name: found
        for name, found in places.items()
        if len([module for module in found if room(module) != "demo"]) > 1
    }
    assert several == {}


def test_the_readme_names_every_room():
    readme = (PACKAGE.parent / "README.md").read_text("utf-8")
    table = readme.partition("| room | what it knows |")[2].partition("\n\n")[0]
    rooms = {f"{room(name)}/" if "/" in name else name for name in MODULES} - {"__main__"}
    assert rooms | {"deploy/"} == set(re.findall(r"`([\w/]+)`", table))
