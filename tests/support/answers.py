"""Ready-made answers of a Prometheus, good and faulty."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

JSON = "application/json"

Row = tuple[Mapping[str, str], float | str]
Track = tuple[Mapping[str, str], Sequence[tuple[float, float | str]]]


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer.

    It is sent after `delay_s`, or never with `hangs`. `cut_after_bytes` drops the connection in
    mid-body. `compressed` is gzip, as Prometheus does for whom asks for it.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    hangs: bool = False
    cut_after_bytes: int | None = None
    compressed: bool = False

    def slow(self, delay_s: float) -> Answer:
        """Return the same, later."""
        return replace(self, delay_s=delay_s)

    def cut(self, after_bytes: int) -> Answer:
        """Return the same, with the connection dropped in mid-body."""
        return replace(self, cut_after_bytes=after_bytes)

    def gzip(self) -> Answer:
        """Return the same, compressed."""
        return replace(self, compressed=True)


def _document(document: Mapping[str, object], status: int = 200) -> Answer:
    return Answer(status=status, body=json.dumps(document).encode())


def data(
    kind: str,
    result: object,
    *,
    warnings: Iterable[str] = (),
    infos: Iterable[str] = (),
    **more: object,
) -> Answer:
    """Return a success of any result type, with any result."""
    document: dict[str, object] = {
        "status": "success",
        "data": {"resultType": kind, "result": result},
        **more,
    }
    notes = {"warnings": list(warnings), "infos": list(infos)}
    return _document(document | {name: texts for name, texts in notes.items() if texts})


def vector(
    rows: Iterable[Row],
    time: float = 0.0,
    *,
    warnings: Iterable[str] = (),
    infos: Iterable[str] = (),
) -> Answer:
    """Return an instant vector. A value given as text stands as it is."""
    result = [{"metric": dict(labels), "value": [time, _text(value)]} for labels, value in rows]
    return data("vector", result, warnings=warnings, infos=infos)


def matrix(tracks: Iterable[Track]) -> Answer:
    """Return a matrix: labels, and times with values, of each series."""
    result = [
        {"metric": dict(labels), "values": [[time, _text(value)] for time, value in samples]}
        for labels, samples in tracks
    ]
    return data("matrix", result)


def scalar(value: float | str) -> Answer:
    """Return a scalar: the wrong result type for whom asks for a vector."""
    return data("scalar", [0.0, _text(value)])


def histograms(labels: Iterable[Mapping[str, str]]) -> Answer:
    """Return a vector whose elements have a native histogram and no value."""
    histogram = {"count": "3", "sum": "6.5", "buckets": [[0, "1", "2", "3"]]}
    return data("vector", [{"metric": dict(one), "histogram": [0.0, histogram]} for one in labels])


def partial(rows: Iterable[Row], time: float = 0.0) -> Answer:
    """Return a vector with the warning of a store that answered in part only."""
    return vector(rows, time, warnings=["No StoreAPIs matched for this query: partial response"])


def partial_victoria(rows: Iterable[Row]) -> Answer:
    """Return a vector that a VictoriaMetrics cluster marks as partial with a field of its own."""
    result = [{"metric": dict(labels), "value": [0.0, _text(value)]} for labels, value in rows]
    return data("vector", result, isPartial=True)


def noted(rows: Iterable[Row], *, as_infos: bool = False) -> Answer:
    """Return a vector with the harmless note of a rate over a gauge.

    Prometheus from 2.48 on puts it among the warnings, later among the infos.
    """
    name = '"backendai_container_utilization" (1:6)'
    note = (
        "PromQL info: metric might not be a counter, "
        f"name does not end in _total/_sum/_count/_bucket: {name}"
    )
    return vector(rows, **{"infos" if as_infos else "warnings": [note]})


def failure(status: int, kind: str, text: str) -> Answer:
    """Return a JSON error; with status 200 it is a `status: error` that pretends to be fine."""
    return _document({"status": "error", "errorType": kind, "error": text}, status)


def bad_query(text: str = 'invalid parameter "query": 1:5: parse error') -> Answer:
    """Return the 400 of a query that does not parse."""
    return failure(400, "bad_data", text)


def not_executed(text: str = "query processing would load too many samples into memory") -> Answer:
    """Return the 422 of a query that failed, perhaps for overload."""
    return failure(422, "execution", text)


def timed_out() -> Answer:
    """Return the 503 of a query that took longer than --query.timeout."""
    return failure(503, "timeout", "query timed out in expression evaluation")


def replaying() -> Answer:
    """Return the 503 of a Prometheus that replays its log: text, not JSON."""
    return Answer(503, b"Service Unavailable", "text/plain; charset=utf-8")


def bad_gateway() -> Answer:
    """Return the 502 page of a reverse proxy: HTML."""
    return Answer(502, b"<html><body><h1>502 Bad Gateway</h1></body></html>", "text/html")


def too_many_requests() -> Answer:
    """Return a 429 with Retry-After."""
    return Answer(429, b"slow down\n", "text/plain", {"Retry-After": "1"})


def unauthorized() -> Answer:
    """Return the 401 that asks for basic authentication."""
    headers = {"WWW-Authenticate": 'Basic realm=""'}
    return Answer(401, b"Unauthorized\n", "text/plain", headers)


def truncated(rows: Iterable[Row] = (({}, 1.0),)) -> Answer:
    """Return a complete HTTP answer whose JSON ends in the middle."""
    whole = vector(rows)
    return replace(whole, body=whole.body[: len(whole.body) // 2])


def oversized(size_bytes: int) -> Answer:
    """Return a valid empty vector, padded with spaces to `size_bytes`."""
    return replace(vector(()), body=vector(()).body.ljust(size_bytes))


def hanging() -> Answer:
    """Return the answer that never comes."""
    return Answer(hangs=True)


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else repr(value)
