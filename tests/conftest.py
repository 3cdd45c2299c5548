"""What holds for every test: nothing leaks in, none is skipped where none may be, turns."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from tests.commands.cluster import Place
from tests.support import command, daemon, live
from tests.support.process import Server, require
from tests.support.redis_server import Redis
from tests.support.scripted import ScriptedPrometheus
from tests.support.turns import Turns

# Hundreds of processes are started: where no bytecode is kept each compiles it all anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

PROCESSES_A_CORE = 4
"""Tests wait for ticks and servers most of the time."""
STARTERS = {
    require, command.poller, command.start_poller, live.LivePoller, daemon.DaemonProcess, Place
}  # fmt: skip
WAITING = 1
"""A process begins with a test only when it knows the next one."""
_AGENTS_TOGETHER = {"bursts": "1", "jitter": "1", "refused": "2", "lives": "2"}
_BESIDE_PROMETHEUS = ("test_every_query_of_the_poller", "test_what_prometheus_refuses")
BESIDE = "failed beside others, and passed alone"


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return how many processes `-n auto` stands for.

    What starts no server works all the time, and each process first imports all of the tests.
    """
    quick = config.option.markexpr == "not servers"
    return (1 if quick else PROCESSES_A_CORE) * len(os.sched_getaffinity(0))


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """Return what deals the tests out to the processes, in the order in which they were found."""
    return ByServers(config, log)


class ByServers(LoadScopeScheduling):
    """Deals tests out one by one, but those together that share servers which take long to make.

    xdist's own groups are marks that it adds to the ids of tests, which pytest 9.2 forbids.
    """

    def _split_scope(self, nodeid: str) -> str:
        module, _, test = nodeid.partition("::")
        parameters = test.partition("[")[2]
        if module.endswith("/test_installed.py"):
            return module
        if module.endswith("/test_real_agent.py"):
            # A live agent beside several others keeps worse time.
            return f"{module} {_AGENTS_TOGETHER.get(parameters.rstrip(']'), '')}"
        if module.endswith("/test_demo.py") and test.startswith(_BESIDE_PROMETHEUS):
            return module
        if module.endswith("/test_vectors.py"):
            return f"{module} {parameters}"
        if module.endswith("/test_readers.py"):
            return f"{module} {parameters.partition('-')[0]}"
        return nodeid

    def _reschedule(self, node: WorkerController) -> None:
        """Let one test wait at a process, not two: it may wait behind one that takes long."""
        if not self.workqueue or self._pending_of(self.assigned_work[node]) <= WAITING:
            super()._reschedule(node)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what starts real processes, and put it all in order.

    What takes longest begins. What starts nothing comes last: it needs the whole processor, and
    ends at once on all processes.
    """
    for item in items:
        if starts_processes(item.getparent(pytest.Module).obj):
            item.add_marker("servers")
    items.sort(key=_place)


def _place(item: pytest.Item) -> float:
    slow = item.get_closest_marker("slow")
    if slow is not None:
        return -float(slow.args[0])
    return 0.0 if item.get_closest_marker("servers") else 1.0


@cache
def starts_processes(module: ModuleType) -> bool:
    """Whether anything that starts a process is at hand in a module of tests."""
    return any(_is_starter(one) for one in vars(module).values())


def _is_starter(one: object) -> bool:
    if isinstance(one, type) and issubclass(one, Server):
        return True
    return isinstance(one, type | type(require)) and one in STARTERS


_to_hear_again: list[tuple[pytest.Item, list[pytest.TestReport]]] = []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Hear a test of real processes that failed beside others again, alone.

    What it says of times holds for a machine that has time for it. A test that fails alone fails.
    It is heard when its process has nothing else to do: all others stand still meanwhile.
    """
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        return None
    turns = Turns(run)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    with turns.beside():
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
    if item.get_closest_marker("servers") and any(report.failed for report in reports):
        _to_hear_again.append((item, reports))
    else:
        _tell(item, reports)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    while nextitem is None and _to_hear_again:
        _hear_again(turns, *_to_hear_again.pop())
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> pytest.TestReport | None:
    """Make the report of a failed test at a second try where CPython 3.11 fails at the first.

    To print a traceback it parses source, and so does any other thread that prints one at the
    same time: `ast.parse` then raises `SystemError` (python/cpython#106905).
    """
    try:
        return pytest.TestReport.from_item_and_call(item, call)
    except SystemError:
        return pytest.TestReport.from_item_and_call(item, call)


def _hear_again(turns: Turns, item: pytest.Item, first: list[pytest.TestReport]) -> None:
    item._initrequest()  # type: ignore[attr-defined]
    with turns.alone():
        reports = runtestprotocol(item, log=False, nextitem=None)
    if not any(report.failed for report in reports):
        why = next(str(report.longrepr) for report in first if report.failed)
        reports[-1].user_properties.append((BESIDE, why))
    _tell(item, reports)


def _tell(item: pytest.Item, reports: list[pytest.TestReport]) -> None:
    """Hand over the reports of a test, which xdist takes for those of its last one."""
    plugins = item.config.pluginmanager.get_plugins()
    worker: Any = next(plugin for plugin in plugins if hasattr(plugin, "item_index"))
    last, worker.item_index = worker.item_index, item.session.items.index(item)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    worker.item_index = last


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what failed beside others and passed alone, with what it said."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            told = dict(getattr(report, "user_properties", ()))
            if BESIDE in told:
                terminalreporter.section(f"{report.nodeid} {BESIDE}", "-", yellow=True)
                terminalreporter.write_line(told[BESIDE][-2000:])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run for a skipped test where POLLER_TEST_NO_SKIP is set: it has proved nothing."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")  # none in a worker
    skipped = len(reporter.stats.get("skipped", [])) if reporter else 0
    if skipped and os.environ.get("POLLER_TEST_NO_SKIP") == "1" and session.exitstatus == 0:
        reporter.write_line(f"{skipped} tests were skipped; none may be here", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("POLLER_") and "__" in name:
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def _redis_of_module() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture
def redis(_redis_of_module: Redis) -> Redis:
    """Return a real server, empty, that has counted nothing yet."""
    _redis_of_module.command("FLUSHALL")
    _redis_of_module.command("CONFIG", "RESETSTAT")
    return _redis_of_module


@pytest.fixture
def prometheus() -> Iterator[ScriptedPrometheus]:
    """Yield a Prometheus that answers what the test says; nothing at first."""
    with ScriptedPrometheus() as server:
        yield server
