"""Real Prometheus and VictoriaMetrics servers, empty, scraping, or over recorded samples."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .openmetrics import Series, line_of, number, samples_of
from .process import HOST, PATIENCE_S, Server, StartFailedError, require, wait_until

# The environment's HTTP proxy must not see loopback traffic.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
PROMETHEUS_VARIABLE = "POLLER_TEST_PROMETHEUS_BINARY"
VICTORIA_VARIABLE = "POLLER_TEST_VICTORIA_BINARY"
_IMPORT_LINES = 20_000

Row = tuple[dict[str, str], float]


def scrape_config(
    *ports: int, job: str = "agents", interval_s: float = 1.0, **more: object
) -> dict[str, object]:
    """Return one scrape job of the exporters on `ports`; `more` are other fields of it."""
    interval = f"{round(interval_s * 1000)}ms"
    return {
        "job_name": job,
        "scrape_interval": interval,
        "scrape_timeout": interval,
        "static_configs": [{"targets": [f"{HOST}:{port}" for port in ports]}],
        **more,
    }


class MetricServer(Server):
    """What Prometheus and VictoriaMetrics share: the query API."""

    _ready_path = "/-/ready"

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    def query(self, text: str, time: float | None = None) -> list[Row]:
        """Ask one instant query of a vector; return labels and value of each row."""
        fields = {"query": text} | ({} if time is None else {"time": f"{time:.3f}"})
        answer = json.loads(self._fetch(f"/api/v1/query?{urllib.parse.urlencode(fields)}"))
        return [(row["metric"], float(row["value"][1])) for row in answer["data"]["result"]]

    def wait_for(self, text: str, rows: int = 1, timeout_s: float = PATIENCE_S) -> list[Row]:
        """Wait until a query gives at least as many rows now; return them."""
        wait_until(lambda: len(self.query(text)) >= rows, f"{rows} rows of {text}", timeout_s, 0.1)
        return self.query(text)

    def _fetch(self, path: str, body: bytes | None = None) -> bytes:
        with _opener.open(f"{self.url}{path}", data=body, timeout=30) as answer:
            return bytes(answer.read())

    def _is_ready(self) -> bool:
        try:
            self._fetch(self._ready_path)
        except urllib.error.HTTPError as exc:
            exc.close()
            return False
        except OSError:
            return False
        return True


class Prometheus(MetricServer):
    """A Prometheus over `samples`, an OpenMetrics file, that scrapes `scrape_configs`.

    A new target is first scraped 5 s after the start: its discovery is throttled so.
    """

    name = "prometheus"

    def __init__(
        self,
        *,
        samples: Path | None = None,
        scrape_configs: Sequence[Mapping[str, object]] = (),
        arguments: Sequence[str] = (),
    ) -> None:
        self._binary = require(os.environ.get(PROMETHEUS_VARIABLE, "prometheus"))
        super().__init__()
        self._arguments = arguments
        self.data_path = self.directory / "data"
        self.config_path = self.directory / "prometheus.yml"
        settings = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "scrape_configs": list(scrape_configs),
        }
        self.config_path.write_text(json.dumps(settings, indent=1))  # JSON is YAML
        if samples is not None:
            self._create_blocks(samples)

    def _create_blocks(self, samples: Path) -> None:
        verb = ["tsdb", "create-blocks-from", "openmetrics"]
        command = [require("promtool"), *verb, str(samples), str(self.data_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            self.close()
            raise StartFailedError(f"promtool refused {samples}: {done.stderr}{done.stdout}")

    def _command(self) -> list[str]:
        return [
            self._binary,
            f"--config.file={self.config_path}",
            f"--storage.tsdb.path={self.data_path}",
            "--storage.tsdb.retention.time=100y",
            f"--web.listen-address={self.host}:{self.port}",
            *self._arguments,
        ]


class VictoriaMetrics(MetricServer):
    """A VictoriaMetrics that holds `samples`, an OpenMetrics file, and shows them at once."""

    name = "victoria-metrics"
    _ready_path = "/health"

    def __init__(self, *, samples: Path | None = None, arguments: Sequence[str] = ()) -> None:
        self._binary = require(os.environ.get(VICTORIA_VARIABLE, "victoria-metrics"))
        super().__init__()
        self._samples = samples
        self._arguments = arguments

    def start(self) -> None:
        """Start; the first time, import the samples too."""
        super().start()
        if self._samples is not None:
            samples, self._samples = self._samples, None
            self.import_series(samples_of(samples))

    def import_series(self, series: Sequence[Series], at_once: bool = True) -> None:
        """Import series and make them visible, if not `at_once`, then when the server will."""
        for body in _import_bodies(series):
            self._fetch("/api/v1/import/prometheus", body)
        if at_once:
            self._fetch("/internal/force_flush")

    def _command(self) -> list[str]:
        return [
            self._binary,
            f"-httpListenAddr={self.host}:{self.port}",
            f"-storageDataPath={self.directory / 'data'}",
            "-retentionPeriod=100y",
            # The newest 30 s are hidden and answers are cached by default: a test that imports
            # and asks in one breath must see neither.
            "-search.latencyOffset=0s",
            "-search.disableCache",
            "-memory.allowedBytes=256MB",
            *self._arguments,
        ]


def _import_bodies(series: Sequence[Series]) -> Iterator[bytes]:
    """Yield request bodies in Prometheus text, whose times are milliseconds."""
    lines: list[str] = []
    for labels, samples in series:
        prefix = line_of(labels)
        lines += [f"{prefix} {number(value)} {round(time * 1000)}" for time, value in samples]
        if len(lines) >= _IMPORT_LINES:
            yield "\n".join(lines).encode() + b"\n"
            lines = []
    if lines:
        yield "\n".join(lines).encode() + b"\n"
