"""Samples into a running Prometheus, by its remote-write receiver.

So they lie in the head, as freshly scraped ones do, and the data can be prolonged while a run
takes its time. Ten thousand kernels are fed in seconds; as a text to backfill from they would
be gigabytes. Protobuf and snappy are written by hand: the form is small and never changes.
"""

from __future__ import annotations

import http.client
import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence

from tests.bench.kernels import STEP_S, Cluster, Series, scraped_ms

SERIES_A_REQUEST = 1_000
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
    """Packs samples at given times; the times are encoded once for all series."""

    def __init__(self, stamps: Sequence[int]) -> None:
        self._stamps = stamps
        tails = [_SAMPLE_TIME + varint(scraped_ms(stamp)) for stamp in stamps]
        length = len(_SAMPLE_VALUE) + 8 + len(tails[0])
        head = _SAMPLES + varint(length) + _SAMPLE_VALUE
        self._form = struct.Struct("<" + f"{len(head)}sd{len(tails[0])}s" * len(stamps))
        self._fields: list[bytes | float] = list(
            itertools.chain.from_iterable((head, 0.0, tail) for tail in tails)
        )

    def packed(self, series: Series) -> bytes:
        """Return the samples of one series."""
        self._fields[1::3] = series.values(self._stamps)
        return self._form.pack(*self._fields)


def _packed(series: Series, samples: _Samples) -> bytes:
    labels = b"".join(
        _with_length(
            _LABELS, _with_length(_NAME, name.encode()) + _with_length(_VALUE, value.encode())
        )
        for name, value in series.labels.items()
    )
    return _with_length(_TIMESERIES, labels + samples.packed(series))


def _requests(series: Iterable[Series], samples: _Samples) -> Iterator[bytes]:
    packed = (_packed(one, samples) for one in series)
    while portion := b"".join(itertools.islice(packed, SERIES_A_REQUEST)):
        yield uncompressed(portion)


class Feed:
    """Keeps a cluster's samples in a Prometheus up to some time ahead of now."""

    def __init__(self, host: str, port: int, cluster: Cluster) -> None:
        self._host, self._port = host, port
        self._cluster = cluster
        self._until: int | None = None

    def extend(self, start: float, end: float) -> None:
        """Write the samples between two Unix times; those that were written are left out."""
        first = -(-int(start) // STEP_S) * STEP_S if self._until is None else self._until + STEP_S
        stamps = range(first, int(end) + 1, STEP_S)
        if not stamps:
            return
        connection = http.client.HTTPConnection(self._host, self._port, timeout=60)
        for body in _requests(self._cluster.series(), _Samples(stamps)):
            connection.request("POST", "/api/v1/write", body, _HEADERS)
            answer = connection.getresponse()
            told = answer.read()
            if answer.status >= 300:
                raise RuntimeError(f"remote write: HTTP {answer.status}: {told[:200]!r}")
        connection.close()
        self._until = stamps[-1]
