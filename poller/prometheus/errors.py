"""What goes wrong with Prometheus, told apart and named; whom that concerns decides what follows.

Every one becomes a `PrometheusError` with a reason fit for a metric label, told in whole words. No
header or credential is carried over; the client adds the address.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import msgspec

from poller.errors import DroppedConnection, PrometheusError

TOO_MUCH = frozenset(("rejected", "oversized", "timeout"))
"""Reasons that a smaller question may not meet."""
_SECRET = "check prometheus.username, password_file or bearer_token_file, or those in its URL"
_PROXY = "a proxy before Prometheus cannot reach it"
_REASONS = {
    400: ("rejected", "Prometheus refused the query; see the detail"),
    401: ("unauthorized", _SECRET),
    403: ("unauthorized", _SECRET),
    404: ("not_found", "check the path in prometheus.url"),
    413: ("oversized", "raise the limit on queries of the proxy before Prometheus, or use shards"),
    422: ("rejected", "Prometheus could not run the query: its limits or its load"),
    429: ("rate_limited", "raise the tenant's limit, or poll.interval_s"),
    502: ("bad_gateway", _PROXY),
    503: ("unavailable", "Prometheus is starting (WAL replay) or overloaded; it is asked again"),
    504: ("bad_gateway", _PROXY),
}
_MESSAGE_LIMITS = ("ResourceExhausted", "message larger than max", "max message size")
"""Mimir and Cortex say HTTP 500 to what their parts cannot send each other."""
_NO_TENANT = "no org id"
"""Mimir and Cortex say HTTP 401 to whom names no tenant."""
_TOLD = 200
"""So many characters of a foreign text are told."""
_DROPPED = (
    aiohttp.ServerDisconnectedError,
    aiohttp.ClientPayloadError,
    aiohttp.ClientOSError,
    ConnectionResetError,
    BrokenPipeError,
)


class _Data(msgspec.Struct, rename={"kind": "resultType"}):
    kind: str = ""


class _Head(msgspec.Struct, rename={"error_type": "errorType"}):
    """What any answer may say of itself, whatever its result looks like."""

    status: str
    data: _Data | None = None
    error: str = ""
    error_type: str = ""


_HEAD = msgspec.json.Decoder(_Head)


def no_json() -> PrometheusError:
    """Return the fault of a body that is no whole JSON document."""
    return PrometheusError(
        "not_json",
        "the answer is no complete JSON document",
        "look for a proxy that cuts or replaces answers",
    )


def api_error(kind: str, text: str) -> PrometheusError:
    """Return the fault of an answer that says of itself that it is an error."""
    return PrometheusError("api_error", f"{kind}: {text}"[:_TOLD], "see the log of Prometheus")


def too_slow(limit_s: float) -> PrometheusError:
    """Return the fault of no answer in time."""
    advice = "look at Prometheus' load, or raise prometheus.timeout_s"
    return PrometheusError("timeout", f"no answer within {limit_s:.3g} s", advice)


def too_large(limit_bytes: int) -> PrometheusError:
    """Return the fault of an answer beyond the limit."""
    return PrometheusError(
        "oversized",
        f"an answer is larger than {limit_bytes} bytes",
        "raise prometheus.max_response_bytes, or use shards",
    )


def unfit(body: bytes, kind: str) -> PrometheusError:
    """Return why JSON of another form than that of a `kind` does not serve."""
    advice = "see what answers at prometheus.url"
    head = _head(body)
    if head is None:
        return PrometheusError("malformed", "the answer is not of the HTTP API's form", advice)
    if head.status != "success":
        return api_error(head.error_type, head.error)
    found = head.data.kind if head.data else ""
    if found == kind:
        return PrometheusError("malformed", f"the {kind} has elements of another form", advice)
    text = f"a {kind} was asked for, {found[:40] or 'no data'} came"
    return PrometheusError("wrong_type", text, advice)


def bare(error: PrometheusError) -> PrometheusError:
    """Return an error without what led to it: the frames of that hold the answer that it met."""
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


def of_all(failures: Sequence[PrometheusError]) -> PrometheusError:
    """Return the last failure of several servers, which tells of the others too."""
    last = failures[-1]
    return last.telling("; ".join(failure.detail for failure in failures))


def refusal(status: int, start: bytes, location: str = "") -> PrometheusError:
    """Return the fault of a status other than 200, with what the body's start tells of it.

    `location`: where a redirect leads; none is followed.
    """
    head = _head(start)
    told = (head.error if head is not None else _foreign_text(start))[:_TOLD]
    reason, advice = _reason(status, head.error_type if head is not None else "", told)
    if location and 300 <= status < 400:
        told = f"it leads to {_place(location)[:_TOLD]}"
        advice = "set prometheus.url to the API itself, or credentials if that is a login page"
    return PrometheusError(reason, f"HTTP {status}: {told}".rstrip(" :"), advice)


def _reason(status: int, error_type: str, told: str) -> tuple[str, str]:
    """Return the reason that a status stands for, and what to do."""
    if status == 503 and error_type == "timeout":  # its own limit: less may be answered
        return "timeout", "look at Prometheus' load and its --query.timeout"
    if status == 500 and any(words in told for words in _MESSAGE_LIMITS):
        return "oversized", "raise the server's gRPC message sizes, or use shards"
    if status == 401 and _NO_TENANT in told:
        return "unauthorized", 'set prometheus.headers = { X-Scope-OrgID = "…" } to the tenant'
    return _REASONS.get(status, ("http_status", "see what answers at prometheus.url"))


def _place(location: str) -> str:
    """Return an address without user information and query, which may be secrets."""
    try:
        parts = urlsplit(location)
    except ValueError:
        return "no valid address"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _head(body: bytes) -> _Head | None:
    """Return what an answer says of itself; None if it is not of the HTTP API's form."""
    try:
        return _HEAD.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _foreign_text(start: bytes) -> str:
    text = start.decode("utf-8", "replace").strip()
    return "an HTML page" if text.startswith("<") else text


def broken(error: Exception) -> PrometheusError:
    """Return the fault that an error of the HTTP library stands for."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return PrometheusError("dns", "the host name does not resolve", "check prometheus.url")
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return PrometheusError("tls", _tls_words(error), "check prometheus.ca_file and the URL")
    if _wants_certificate(error):
        text = "the server wants a client certificate, or refuses the one it got"
        return PrometheusError("tls", text, "check prometheus.cert_file and key_file")
    if isinstance(error, aiohttp.ClientConnectorError) and not _reset(error):
        number = error.os_error.errno  # its text would name addresses
        text = os.strerror(number).lower() if number else "no connection can be made"
        return PrometheusError("refused", text, "start it, or check prometheus.url")
    if isinstance(error, _DROPPED):
        return DroppedConnection("reset", "the connection broke", "look at Prometheus and proxies")
    text = "what answers speaks no valid HTTP"
    return PrometheusError("http", text, "see what answers at prometheus.url")


def _tls_words(error: Exception) -> str:
    """Return what is wrong with a TLS connection; the library's own text names addresses."""
    inner = getattr(error, "certificate_error", error)
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"the certificate is not trusted: {inner.verify_message}".rstrip(": ")
    return "no TLS connection can be made"


def _reset(error: aiohttp.ClientConnectorError) -> bool:
    """Whether somebody listened, and hung up before the connection was used."""
    return isinstance(error.os_error, ConnectionResetError | BrokenPipeError)


def _wants_certificate(error: Exception) -> bool:
    """Whether a server hung up with an alert on our certificate; in TLS 1.3 only when it reads."""
    cause = error.__cause__
    return isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or "")
