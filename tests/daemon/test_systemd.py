"""The systemd unit, and what the daemon tells the service manager."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import DEPLOY, checked, environment, poller
from tests.support.daemon import DaemonProcess
from tests.support.exporter import Exporter
from tests.support.process import require, wait_until
from tests.support.servers import Prometheus, Redis, scrape_config


def unit() -> dict[str, list[str]]:
    """Return the settings of the unit that count, each with all its values."""
    settings: dict[str, list[str]] = {}
    for line in (DEPLOY / "livestat-poller.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            settings.setdefault(name, []).append(value)
    return settings


@pytest.mark.parametrize("adapted", [False, True])
def test_systemd_accepts_the_unit(tmp_path: Path, adapted: bool) -> None:
    analyze = require("systemd-analyze")
    text = (DEPLOY / "livestat-poller.service").read_text()
    # It must name a program that is there.
    text = re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={sys.executable}", text)
    if adapted:
        text = re.sub(r"(?m)^#(\w+=)", r"\1", text)
    path = tmp_path / "livestat-poller.service"
    path.write_text(text)
    assert checked(analyze, "verify", "--man=no", path) == ""


def test_the_unit_is_sandboxed() -> None:
    analyze = require("systemd-analyze")
    path = DEPLOY / "livestat-poller.service"
    checked(analyze, "security", "--offline=true", "--threshold=20", path)


def test_the_unit_knows_how_the_poller_ends_and_reports() -> None:
    settings = unit()
    assert settings["Type"] == ["notify"]
    assert settings["RestartPreventExitStatus"] == ["2"]
    assert settings["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert int(settings["WatchdogSec"][0]) >= 3 * 5
    assert int(settings["TimeoutStopSec"][0]) > 5


def test_settings_that_cannot_work_end_with_the_status_that_is_not_restarted() -> None:
    done = poller("run", env=environment(poll__interval_s="-1"))
    assert str(done.returncode) in unit()["RestartPreventExitStatus"][0].split()


def test_a_secret_that_may_yet_come_ends_with_a_status_that_is_restarted(tmp_path: Path) -> None:
    done = poller("run", env=environment(redis__password_file=tmp_path / "none"))
    assert done.returncode == 3
    assert "3" not in unit()["RestartPreventExitStatus"][0].split()
    assert unit()["Restart"] == ["on-failure"]


def test_a_settings_file_that_has_gone_is_refused_at_a_reload(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[poll]\ninterval_s = 0.5\n")
    with Redis() as valkey, DaemonProcess(None, valkey.url, cwd=tmp_path) as daemon:
        assert f"settings: {path}" in daemon.log
        path.unlink()
        daemon.send(signal.SIGHUP)
        refused = f"settings: refused, the old ones go on: {path}: cannot be read"
        wait_until(lambda: refused in daemon.log, "the reload is refused")
        assert daemon.stop() == 0


@pytest.fixture(scope="module")
def prometheus() -> Iterator[Prometheus]:
    with (
        Exporter(kernels=2) as exporter,
        Prometheus(scrape_configs=[scrape_config(exporter.port)]) as server,
    ):
        yield server


def test_the_daemon_tells_systemd_ready_alive_and_stopping(prometheus: Prometheus) -> None:
    with Redis() as valkey, DaemonProcess(prometheus.url, valkey.url, poll__interval_s=1) as daemon:
        leads = "STATUS=leads, 2 active kernels"
        wait_until(lambda: leads in daemon.told(), "it says what it publishes", 60)
        told = daemon.told()
        assert told[0] == "READY=1"
        assert told.count("READY=1") == 1
        cycles = daemon.metric("cycles_total", result="success", reason="")
        assert abs(daemon.told().count("WATCHDOG=1") - cycles) <= 1
        assert daemon.stop() == 0
        assert daemon.told()[-1] == "STOPPING=1"
        assert daemon.told().count("STOPPING=1") == 1


def test_the_watchdog_is_fed_by_failed_cycles_too_and_not_by_a_stopped_process() -> None:
    with Redis() as valkey, DaemonProcess(None, valkey.url, poll__interval_s=0.5) as daemon:
        wait_until(lambda: daemon.told().count("WATCHDOG=1") >= 2, "two failed cycles")
        assert any(line.startswith("STATUS=") and "failed" in line for line in daemon.told())
        daemon.send(signal.SIGSTOP)
        state = Path(f"/proc/{daemon.process.pid}/stat")
        wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "it is stopped")
        before = len(daemon.told())
        with pytest.raises(TimeoutError):
            wait_until(lambda: len(daemon.told()) > before, "news of a stopped process", 1.5)
        daemon.send(signal.SIGCONT)
        assert daemon.stop() == 0


def test_a_service_manager_that_does_not_read_holds_nothing_up() -> None:
    with Redis() as valkey, DaemonProcess(None, valkey.url, poll__interval_s=0.2) as daemon:
        # Nobody reads the socket meanwhile: Linux keeps about ten messages of two lines.
        failed = {"result": "failed", "reason": "refused"}
        wait_until(lambda: daemon.metric("cycles_total", **failed) >= 20, "twenty cycles")
        assert daemon.stop() == 0


def test_a_service_manager_that_is_gone_is_no_matter() -> None:
    with Redis() as valkey, DaemonProcess(None, valkey.url, poll__interval_s=0.2) as daemon:
        (daemon.directory / "notify").unlink()
        failed = {"result": "failed", "reason": "refused"}
        wait_until(lambda: daemon.metric("cycles_total", **failed) >= 3, "three cycles")
        assert daemon.stop() == 0


def test_the_unit_starts_the_poller_with_arguments_that_it_knows(tmp_path: Path) -> None:
    arguments = unit()["ExecStart"][0].split()[1:]
    config = tmp_path / "config.toml"
    arguments = [str(config) if one.endswith(".toml") else one for one in arguments]
    done = poller(*arguments, env=environment())
    assert (done.returncode, done.stderr.strip()) == (
        2,
        f"settings: {config}: cannot be read: No such file or directory",
    )


def test_reloads_are_counted_and_lose_no_count(prometheus: Prometheus, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[poll]\ninterval_s = 0.5\n[leader]\nenabled = false\n")
    with Redis() as valkey, DaemonProcess(prometheus.url, valkey.url, config=path) as daemon:

        def reloads(result: str) -> float:
            with contextlib.suppress(OSError):  # the endpoints are opened anew
                return daemon.metric("config_reloads_total", result=result)
            return 0

        def successes() -> float:
            return daemon.metric("cycles_total", result="success", reason="")

        wait_until(lambda: successes() >= 2, "two cycles")
        path.write_text(path.read_text().replace("0.5", "0.25"))
        daemon.send(signal.SIGHUP)
        wait_until(lambda: reloads("taken") == 1, "new settings")
        wait_until(lambda: daemon.metric("interval_seconds") == 0.25, "the new interval")
        assert successes() >= 2
        path.write_text("[poll]\ninterval_s = -1\n")
        daemon.send(signal.SIGHUP)
        wait_until(lambda: reloads("refused") == 1, "bad settings are refused")
        before = successes()
        wait_until(lambda: successes() > before, "the old settings go on")
        assert daemon.metric("interval_seconds") == 0.25
        assert reloads("taken") == 1
