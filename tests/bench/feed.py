"""Samples into a running Prometheus, by its remote-write receiver.

So they lie in the head, as freshly scraped ones do, and the data can be prolonged while a run
takes its time. Ten thousand kernels are fed in seconds; as a text to backfill from they would
be gigabytes. Protobuf and snappy are written by hand: the form is small and never changes.
"""

from __future__ import annotations

import http.client
import itertools
import struct
from collections.abc import Iterator, Sequence

from tests.bench.kernels import Agent, Cluster, Series

SERIES_A_REQUEST = 1_000
SLICE_S = 1800
"""Longer stretches are written in slices: samples must not lie far behind the newest."""
_HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
_LABELS, _SAMPLES, _TIMESERIES = b"\x0a", b"\x12", b"\x0a"
_NAME, _VALUE = b"\x0a", b"\x12"
_SAMPLE_VALUE, _SAMPLE_TIME = b"\x09", b"\x10"
_LITERAL = b"\xfc"  # snappy: what follows is as it is; its length is in four bytes


def varint(number: int) -> bytes:
    """Return a protobuf variable-length integer."""
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def uncompressed(block: bytes) -> bytes:
    """Return a snappy block that holds `block` as one literal."""
    return varint(len(block)) + _LITERAL + struct.pack("<I", len(block) - 1) + block


def _with_length(tag: bytes, body: bytes) -> bytes:
    return tag + varint(len(body)) + body


class _Samples:
    """Packs an agent's samples at given scrapes; the times are encoded once for all series."""

    def __init__(self, agent: Agent, scrapes: Sequence[int]) -> None:
        self._rounds = [agent.round_at(scrape) for scrape in scrapes]
        tails = [_SAMPLE_TIME + varint(scrape) for scrape in scrapes]
        length = len(_SAMPLE_VALUE) + 8 + len(tails[0])
        head = _SAMPLES + varint(length) + _SAMPLE_VALUE
        self._form = struct.Struct("<" + f"{len(head)}sd{len(tails[0])}s" * len(scrapes))
        self._fields: list[bytes | float] = list(
            itertools.chain.from_iterable((head, 0.0, tail) for tail in tails)
        )

    def packed(self, series: Series) -> bytes:
        """Return the samples of one series."""
        self._fields[1::3] = series.values(self._rounds)
        return self._form.pack(*self._fields)


def _packed(series: Series, samples: _Samples) -> bytes:
    labels = b"".join(
        _with_length(
            _LABELS, _with_length(_NAME, name.encode()) + _with_length(_VALUE, value.encode())
        )
        for name, value in series.labels.items()
    )
    return _with_length(_TIMESERIES, labels + samples.packed(series))


def _all_packed(cluster: Cluster, after_ms: int, until_ms: int) -> Iterator[bytes]:
    for agent in cluster.agents:
        scrapes = agent.scrapes(after_ms, until_ms)
        if scrapes:
            samples = _Samples(agent, scrapes)
            yield from (_packed(one, samples) for one in agent.series())


def _requests(packed: Iterator[bytes]) -> Iterator[bytes]:
    while portion := b"".join(itertools.islice(packed, SERIES_A_REQUEST)):
        yield uncompressed(portion)


class Feed:
    """Keeps a cluster's samples in a Prometheus up to some time ahead of now."""

    def __init__(self, host: str, port: int, cluster: Cluster) -> None:
        self._host, self._port = host, port
        self._cluster = cluster
        self.until = 0.0

    def extend(self, start: float, end: float) -> None:
        """Write the samples between two Unix times; those that were written are left out."""
        after = self.until or start
        while after < end:
            until = min(end, after + SLICE_S)
            self._write(round(after * 1000), round(until * 1000))
            self.until = after = until

    def _write(self, after_ms: int, until_ms: int) -> None:
        """Write one slice: the next request is made while the server takes the last one."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=120)
        under_way = False
        for body in _requests(_all_packed(self._cluster, after_ms, until_ms)):
            if under_way:
                _check(connection)
            connection.request("POST", "/api/v1/write", body, _HEADERS)
            under_way = True
        if under_way:
            _check(connection)
        connection.close()


def _check(connection: http.client.HTTPConnection) -> None:
    answer = connection.getresponse()
    told = answer.read()
    if answer.status >= 300:
        raise RuntimeError(f"remote write: HTTP {answer.status}: {told[:200]!r}")
