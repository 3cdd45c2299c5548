"""What Prometheus answers, as typed values: the rows of a vector, the series of a matrix.

A large cluster's answers are hundreds of thousands of objects, none of them garbage. So the
collector is told of as few as can be: it would look through all that is kept, again and again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from msgspec.json import Decoder

from poller.prometheus import errors
from poller.values import portions


class Sample(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A value as Prometheus sends it: `at` in Unix seconds, the number as text."""

    at: float
    text: str


class Labels(msgspec.Struct, gc=False):
    """The labels of a series that the poller reads; Prometheus may send more."""

    kernel_id: str | None = None
    container_metric_name: str | None = None
    agent_id: str | None = None
    instance: str | None = None


class Row(msgspec.Struct, gc=False):
    """One series of an instant vector. A native histogram comes without `value`."""

    metric: Labels
    value: Sample | None = None


class SetRow(msgspec.Struct, gc=False):
    """One series with every label it has: what tells duplicate series apart."""

    metric: dict[str, str]
    value: Sample | None = None


class Series(msgspec.Struct, gc=False):
    """One series of a range vector; `values` are in the order of time."""

    metric: dict[str, str]
    values: tuple[Sample, ...] = ()


T = TypeVar("T")
E = TypeVar("E")
_LARGE_BYTES = 4 << 20
"""A smaller answer is read at once: that takes up to 20 ms."""
_PORTION_BYTES = 1 << 20
"""About so much of a large answer is read at once: some 10 ms."""


class _Data(msgspec.Struct, Generic[T], rename={"kind": "resultType"}):
    kind: str
    result: list[T]


class Answer(
    msgspec.Struct, Generic[T], rename={"error_type": "errorType", "is_partial": "isPartial"}
):
    """A whole answer. `stats` is what the server tells of its own work, as it came."""

    status: str
    data: _Data[T] | None = None
    error: str = ""
    error_type: str = ""
    warnings: list[str] | None = None
    is_partial: bool = False
    stats: msgspec.Raw = msgspec.Raw()


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """What an answer must look like: its `resultType`, and what its elements are."""

    kind: str
    decoder: Decoder[Answer[T]]
    elements: Decoder[list[T]]


ROWS = Form("vector", Decoder(Answer[Row]), Decoder(list[Row]))
SET_ROWS = Form("vector", Decoder(Answer[SetRow]), Decoder(list[SetRow]))
SERIES = Form("matrix", Decoder(Answer[Series]), Decoder(list[Series]))
_UNREAD = Decoder(Answer[msgspec.Raw])


def decoded(form: Form[T], body: bytes) -> Answer[T]:
    """Return an answer; raise the `PrometheusError` that it tells or is."""
    return _told(form, body, form.decoder)


def in_portions(form: Form[T], body: bytes) -> Iterator[Answer[T]]:
    """Yield what `decoded` returns; of a large answer first the beginning, then more and more.

    The caller may see to something else in between. To find where the elements end takes up to a
    third of the time that reading them does. Of an answer with several faults another may be told.
    """
    if len(body) < _LARGE_BYTES:
        yield decoded(form, body)
        return
    answer: Answer[Any] = _told(form, body, _UNREAD)
    elements = answer.data.result if answer.data is not None else []
    read: list[T] = []
    answer.data = _Data(form.kind, read)
    size = 1 + len(elements) * _PORTION_BYTES // len(body)
    for some in portions(elements, size):
        yield answer
        text = b"[%b]" % b",".join(some)
        portion: list[T] = _parsed(form, body, form.elements, text)
        read += portion
    yield answer


def _told(form: Form[T], body: bytes, decoder: Decoder[Answer[E]]) -> Answer[E]:
    answer = _parsed(form, body, decoder)
    if answer.status != "success":
        raise errors.api_error(answer.error_type, answer.error)
    if answer.data is None or answer.data.kind != form.kind:
        raise errors.unfit(body, form.kind)
    return answer


def _parsed(form: Form[T], body: bytes, decoder: Decoder[E], part: bytes = b"") -> E:
    try:
        return decoder.decode(part or body)
    except (msgspec.ValidationError, RecursionError) as error:
        raise errors.unfit(body, form.kind) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.no_json() from error


def warnings(answer: Answer[T]) -> list[str]:
    """Return the warnings of an answer; VictoriaMetrics' cluster has a mark instead."""
    mark = ["isPartial: a storage node did not answer"] if answer.is_partial else []
    return mark + (answer.warnings or [])
