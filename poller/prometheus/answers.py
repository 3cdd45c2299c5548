"""What Prometheus answers, as typed values: the rows of a vector, the series of a matrix."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from poller.prometheus import errors


class Labels(msgspec.Struct, gc=False):
    """The labels of a series that the poller reads; Prometheus may send more."""

    kernel_id: str | None = None
    container_metric_name: str | None = None
    agent_id: str | None = None
    instance: str | None = None


class Row(msgspec.Struct, gc=False):
    """One series of an instant vector. `value` is (Unix seconds, number as text).

    A native histogram comes without `value`.
    """

    metric: Labels
    value: tuple[float, str] | None = None


class SetRow(msgspec.Struct, gc=False):
    """One series with every label it has: what tells duplicate series apart."""

    metric: dict[str, str]
    value: tuple[float, str] | None = None


class Series(msgspec.Struct, gc=False):
    """One series of a range vector. `values` are (Unix seconds, number as text), in order."""

    metric: dict[str, str]
    values: list[tuple[float, str]] = []


T = TypeVar("T")


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
    decoder: msgspec.json.Decoder[Answer[T]]


ROWS = Form("vector", msgspec.json.Decoder(Answer[Row]))
SET_ROWS = Form("vector", msgspec.json.Decoder(Answer[SetRow]))
SERIES = Form("matrix", msgspec.json.Decoder(Answer[Series]))


def decoded(form: Form[T], body: bytes) -> Answer[T]:
    """Return an answer; raise the `PrometheusError` that it tells or is.

    The garbage collector is held back: a large answer is tens of thousands of new objects, none of
    them garbage, for which it would look through all that is kept, and take longer than this.
    """
    gc.disable()
    try:
        answer = form.decoder.decode(body)
    except (msgspec.ValidationError, RecursionError) as error:
        raise errors.unfit(body, form.kind) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise errors.no_json() from error
    finally:
        gc.enable()
    if answer.status != "success":
        raise errors.api_error(answer.error_type, answer.error)
    if answer.data is None or answer.data.kind != form.kind:
        raise errors.unfit(body, form.kind)
    return answer


def warnings(answer: Answer[T]) -> list[str]:
    """Return the warnings of an answer; VictoriaMetrics' cluster has a mark instead."""
    mark = ["isPartial: a storage node did not answer"] if answer.is_partial else []
    return mark + (answer.warnings or [])
