"""Start, run, stop, reload: which tick starts a cycle; what a failure does, to the lease too."""

from __future__ import annotations

import asyncio
import gc
import logging
import platform
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial

from poller import __version__
from poller.config import Config, changed
from poller.credentials import without_password
from poller.daemon.conditions import Conditions
from poller.daemon.http import Endpoints, Listener
from poller.daemon.leadership import Leadership
from poller.daemon.metrics import Telemetry
from poller.daemon.report import Report
from poller.daemon.schedule import Ticker
from poller.daemon.status import KernelFacts, Status
from poller.daemon.systemd import notify
from poller.daemon.threads import AbandonedThreads
from poller.errors import ClockError, ConfigError, CycleError, EmptyAnswer, LeaseLost, PartialAnswer
from poller.history.history import History
from poller.poll import assembly
from poller.poll.cycle import Cycle
from poller.poll.outcome import Outcome
from poller.rounds.rounds import Rounds
from poller.store.lease import Lease

log = logging.getLogger("poller")

_TICKS = 3
"""Kernels that were scraped in mid-batch at so many ticks before are remembered."""


@dataclass(slots=True)
class _Run:
    """What belongs to one set of settings: made anew when they are read again."""

    config: Config
    cycle: Cycle
    lease: Lease | None


class Daemon:
    """Polls until told to stop. `reload` reads the settings anew, or raises `ConfigError`.

    `origin` tells where the settings come from. `look_up` answers the page's question after
    one kernel.
    """

    def __init__(
        self,
        config: Config,
        reload: Callable[[], Config],
        origin: str = "the defaults",
        look_up: Callable[[Config, str], Awaitable[KernelFacts]] | None = None,
    ) -> None:
        self.telemetry = Telemetry()
        self.conditions = Conditions()
        self.report = Report(self.telemetry, self.conditions)
        self.leadership = Leadership(self.telemetry, self.report)
        self._config = config
        self._reload = reload
        self._origin = origin
        self._look_up = look_up
        self._history: History | None = None
        self._rounds: Rounds | None = None
        self._stop = asyncio.Event()
        self._again = asyncio.Event()
        self._tick = asyncio.Event()
        self._running = False
        self._between_ticks = False
        self._mixed: deque[frozenset[str]] = deque(maxlen=_TICKS)
        self._listens_on = ""

    def stop(self) -> None:
        """Ask for the end, as SIGTERM does; `run` returns when the last cycle has ended."""
        self._stop.set()

    async def run(self) -> None:
        """Start, poll, and return after a stop was asked for and the last cycle has ended."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(AbandonedThreads())
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._again.set)
        self._tell_start()
        gc.freeze()  # what was imported stays; the collector need not look through it every time
        try:
            while not self._stop.is_set():
                await self._run_with(self._config)
        finally:
            notify("STOPPING=1")
            log.info("stopped")

    def _tell_start(self) -> None:
        """Log what runs here, with which settings, between whom."""
        config = self._config
        python = platform.python_version()
        log.info(
            "start: livestat-poller %s, Python %s, settings: %s", __version__, python, self._origin
        )
        log.info(
            "start: from %s to %s%s, a cycle every %g s",
            ", ".join(without_password(url) for url in config.prometheus.urls),
            without_password(config.redis.url.get_secret_value()),
            f" under the prefix {config.redis.key_prefix}" if config.redis.key_prefix else "",
            config.poll.interval_s,
        )

    async def _run_with(self, config: Config) -> None:
        """Poll with one set of settings until they change or the end is asked for."""
        hooks = assembly.Hooks(self.telemetry.on_query, self.telemetry.on_warning)
        self.telemetry.interval.set(config.poll.interval_s)
        look_up = partial(self._look_up, config) if self._look_up is not None else None
        endpoints = Endpoints(self.telemetry, lambda: self._status(config), look_up)
        listener = Listener(endpoints, config.http, self.conditions, self._listens_on)
        choice = assembly.Choice(hooks=hooks)
        async with assembly.cycle(config, choice, self._history, self._rounds) as cycle:
            self._history, self._rounds = cycle.history, cycle.observer.rounds
            cycle.read_keys_again()  # these may be other keys than before
            run = _Run(config, cycle, assembly.lease(config, cycle.store, self.leadership.token))
            await listener.open()
            ticker = Ticker(config.poll.interval_s, self._on_tick, self._on_clock_step)
            ticker.start()
            standing_by = asyncio.create_task(
                self.leadership.ask_again(config.poll.interval_s, self._ask_for_lease)
            )
            notify("READY=1")
            try:
                await self._poll_on_ticks(run)
            finally:
                ticker.stop()
                standing_by.cancel()
                await asyncio.gather(standing_by, return_exceptions=True)
                if run.lease is not None and self._stop.is_set():
                    await self.leadership.hand_over(run.lease)
                await listener.close()
                self._listens_on = listener.told

    def _status(self, config: Config) -> Status:
        """Return what is told now on the page and in JSON."""
        leadership, report = self.leadership, self.report
        facts = report.facts.status(leadership.role, config.poll.interval_s)
        return replace(
            facts,
            holder=None if report.failing else leadership.holder,  # it may be another by now
            why_not_ready=report.why_not_ready(config.http.unready_after, leadership.stands_by),
            troubles=self.conditions.troubles(facts.now),
        )

    async def _poll_on_ticks(self, run: _Run) -> None:
        while True:
            await self._next_event()
            if self._stop.is_set():
                return
            if self._again.is_set() and self._reloaded():
                return
            if self._tick.is_set():
                self._tick.clear()
                await self._drained(run)

    async def _next_event(self) -> None:
        events = (self._tick, self._stop, self._again)
        waiting = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()

    def _reloaded(self) -> bool:
        """Read the settings anew; whether they are good. Bad ones are refused, the old go on."""
        self._again.clear()
        try:
            config = self._reload()
            assembly.check(config)
        except Exception as error:
            self.telemetry.reloads.labels("refused").inc()
            log.error("settings: refused, the old ones go on: %s", _why_refused(error))
            return False
        if _seen_by(self._config) != _seen_by(config):
            self._history = self._rounds = None
        keys = changed(self._config, config)
        self._config = config
        self.telemetry.reloads.labels("taken").inc()
        log.info("settings: read again; changed: %s", ", ".join(keys) or "nothing")
        return True

    def _on_tick(self, missed: int) -> None:
        if missed:
            interval_s = self._config.poll.interval_s
            log.warning(
                "clock: this process stood still for about %.0f s and missed %d cycles; look at "
                "the host's load, or who stopped it",
                (missed + 1) * interval_s,
                missed,
            )
        if self._running and not self._between_ticks and not self.leadership.stands_by:
            missed += 1
        else:
            self._tick.set()
        if missed:
            self.telemetry.missed.inc(missed)

    def _on_clock_step(self, seconds: float) -> None:
        self.telemetry.steps.inc()
        log.warning("clock: the wall clock was set by %+.1f s; polling goes on in step", seconds)

    async def _drained(self, run: _Run) -> None:
        """Run one cycle; when a stop comes it may finish within its grace, or is cancelled."""
        cycle = asyncio.create_task(self._one_cycle(run))
        stop = asyncio.create_task(self._stop.wait())
        self._running = True
        try:
            await asyncio.wait({cycle, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not cycle.done():
                await asyncio.wait({cycle}, timeout=run.config.poll.stop_grace_s)
        finally:
            self._running = False
            stop.cancel()
            cycle.cancel()
            await asyncio.gather(cycle, return_exceptions=True)

    async def _one_cycle(self, run: _Run) -> None:
        """Run one cycle. The whole failure policy: nothing is written, and it is told once."""
        deadline_s = float(run.config.poll.deadline_s)
        started = time.perf_counter()
        outcome = Outcome()
        goes_on = False
        try:
            async with asyncio.timeout(deadline_s):
                led = await self._lead(run, outcome)
        except TimeoutError:
            self.telemetry.overrun.inc()
            self.report.overran(outcome, deadline_s)
        except LeaseLost as error:
            if run.lease is not None:
                run.lease.forget()  # the server knows better than our clock
            self.report.failed(error, outcome)
        except CycleError as error:
            if isinstance(error, PartialAnswer | EmptyAnswer | ClockError) and run.lease:
                await self.leadership.keep(run.lease)  # another poller would see the same
            self.report.failed(error, outcome)
        except Exception as error:  # a bug of ours must not end the polling
            if not self.conditions.is_bad("cycle"):
                log.exception("cycle: unexpected %s", type(error).__name__)
            self.report.failed(CycleError("internal", type(error).__name__), outcome)
        else:
            if led:
                self.report.succeeded(outcome)
                goes_on = self._meets_scrapes(outcome) or outcome.goes_on
        if self.report.failing:
            gc.collect()  # errors hold the answers that they met, and each other in a circle
        if goes_on:
            self._tick.set()
        # If it is, the next one begins between two ticks: it may meet one, which is not missed.
        self._between_ticks = self._tick.is_set()
        self.report.ended(outcome, time.perf_counter() - started)
        notify("WATCHDOG=1", f"STATUS={self.report.status(self.leadership.stands_by)}")

    def _meets_scrapes(self, outcome: Outcome) -> bool:
        """Whether kernels were scraped in mid-batch at this tick as at one of the last ones.

        Ticks and scrapes are in step then, and the next tick would meet the same.
        """
        if self._between_ticks:
            return False
        again = any(not before.isdisjoint(outcome.mixed) for before in self._mixed)
        self._mixed.append(outcome.mixed)
        return again

    async def _lead(self, run: _Run, outcome: Outcome) -> bool:
        """Poll if the lease is ours or can be had, else stand by; whether we polled."""
        outcome.asks_lease = True
        if not await self.leadership.leads(run.cycle, run.lease):
            return False
        outcome.asks_lease = False
        await run.cycle.poll(run.lease, outcome=outcome)
        return True

    def _ask_for_lease(self) -> None:
        if not self._running:
            self._tick.set()


def _why_refused(error: Exception) -> str:
    """Return it in one line; the text of what nobody foresaw may repeat a secret."""
    kind = type(error).__name__
    unforeseen = f"unexpected {kind}; livestat-poller check shows where it comes from"
    return str(error) if isinstance(error, ConfigError) else unforeseen


def _seen_by(config: Config) -> tuple[object, ...]:
    """Return what decides which kernels and metrics are seen.

    Where it changes, what is kept says nothing of what is read from then on: other metrics'
    statistics were not kept, and kernels of another shard or another Prometheus would be taken for
    new, since their exporters were read a moment ago.
    """
    prometheus = config.prometheus
    return config.catalog(), config.shard, prometheus.urls, prometheus.params, prometheus.headers
