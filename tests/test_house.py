"""The house: which room may know which, read off the imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "poller"
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))
SHARED = {"model", "errors", "catalog", "numerals"}

FOREIGN = {
    "config": {"pydantic", "pydantic_settings"},
    "sections": {"pydantic"},
    "secret": {"pydantic"},
    "model": {"msgspec"},
    "kernel": {"msgspec"},
    "prometheus": {"aiohttp", "msgspec", "yarl"},
    "faults": {"aiohttp", "msgspec"},
    "encode": {"msgpack"},
    "valkey": {"redis"},
    "connect": {"redis"},
    "cluster": {"redis"},
    "store_faults": {"redis"},
    "schedule": {"apscheduler"},
    "telemetry": {"prometheus_client", "aiohttp"},
    "logs": {"pythonjsonlogger"},
    "cli": {"click"},
    "render": {"rich"},
    "table": {"rich"},
}
PURE = [
    "catalog",
    "numerals",
    "promql",
    "merge",
    "history",
    "encode",
    "withhold",
    "compare",
    "model",
    "errors",
]
MAY_SEE = {
    "merge": SHARED,
    "history": SHARED | {"kernel"},
    "kernel": SHARED,
    "questions": SHARED | {"promql"},
    "encode": SHARED,
    "promql": SHARED,
    "withhold": SHARED | {"kernel"},  # it judges what is kept of a kernel
    "compare": {"model"},
}


def imports(module: str) -> tuple[set[str], set[str]]:
    """Return (own modules, foreign top-level packages) that a module imports, anywhere in it."""
    own, foreign = set(), set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "poller":
                names = [f"poller.{alias.name}" for alias in node.names]
        for name in names:
            top, _, rest = name.partition(".")
            if top == "poller":
                own.add(rest.partition(".")[0])
            else:
                foreign.add(top)
    return own, foreign


def standard() -> frozenset[str]:
    import sys

    return sys.stdlib_module_names | {"__future__"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_uses_only_its_own_foreign_library(module: str):
    _, foreign = imports(module)
    assert foreign - standard() <= FOREIGN.get(module, set())


@pytest.mark.parametrize("module", sorted(MAY_SEE))
def test_a_stage_sees_shared_values_and_no_other_stage(module: str):
    own, _ = imports(module)
    assert own <= MAY_SEE[module] | SHARED


@pytest.mark.parametrize("module", PURE)
def test_a_pure_stage_does_no_input_or_output(module: str):
    _, foreign = imports(module)
    assert not foreign & {"asyncio", "socket", "os", "time", "logging", "pathlib", "ssl"}


def test_the_house_has_no_lumber_room():
    assert not {"utils", "helpers", "common", "misc"} & set(MODULES)
