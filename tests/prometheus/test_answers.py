"""An answer as it is decoded: what it holds, or the error that it is."""

from __future__ import annotations

import gc
from contextlib import suppress

import pytest

from poller.errors import PrometheusError
from poller.prometheus import answers

GOOD = (
    b'{"status":"success","data":{"resultType":"vector","result":[{"value":[5,"7"],"metric":{}}]}}'
)


def test_an_answer_is_its_rows_with_numbers_as_text():
    answer = answers.decoded(answers.ROWS, GOOD)
    assert answer.data is not None
    (row,) = answer.data.result
    assert row.value == (5.0, "7")
    assert answers.warnings(answer) == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (GOOD[:-9], "not_json"),
        (b"<html>", "not_json"),
        (b'{"status":"success"}', "wrong_type"),
        (GOOD.replace(b"vector", b"scalar"), "wrong_type"),
        (b'{"status":"error","errorType":"bad_data","error":"no"}', "api_error"),
    ],
)
def test_what_is_no_answer_is_an_error_that_says_so(body: bytes, reason: str):
    with pytest.raises(PrometheusError) as raised:
        answers.decoded(answers.ROWS, body)
    assert raised.value.reason == reason


@pytest.mark.parametrize("body", [GOOD, b"<html>"])
def test_the_collector_is_held_back_no_longer_than_that(body: bytes):
    with suppress(PrometheusError):
        answers.decoded(answers.ROWS, body)
    assert gc.isenabled()
