"""An answer as it is decoded: what it holds, or the error that it is."""

from __future__ import annotations

import gc
from itertools import pairwise

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
    assert row.value == answers.Sample(5.0, "7")
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


def large(element: bytes, close: bytes = b"]}") -> bytes:
    """Return an answer of more than four megabytes with this element in its midst."""
    row = b'{"metric":{"kernel_id":"%b"},"value":[5,"7"]}' % (b"k" * 1000)
    rows = [row] * 3000
    result = b",".join([*rows, element, *rows])
    head = b'{"status":"success","warnings":["w"],"data":{"resultType":"vector","result":['
    return head + result + close + b',"stats":{"seriesFetched":"1"}}'


def test_a_large_answer_is_read_in_portions_and_is_the_same():
    body = large(b'{"metric":{"kernel_id":"\\u00e9"},"value":[6,"8"]}')
    there = []
    for answer in answers.in_portions(answers.ROWS, body):
        assert answer.data is not None
        there.append(len(answer.data.result))
    assert there[0] == 0
    assert there[-1] == 6001
    assert 900 < max(more - so_far for so_far, more in pairwise(there)) < 1100  # a megabyte
    assert answer == answers.decoded(answers.ROWS, body)
    assert answer.data is not None
    assert answer.data.result[3000].metric.kernel_id == "\u00e9"
    assert [*answers.in_portions(answers.ROWS, GOOD)] == [answers.decoded(answers.ROWS, GOOD)]


@pytest.mark.parametrize(
    "body",
    [
        large(b'{"metric":{}, "value":[6, 8]}'),
        large(b'{"metric":[]}'),
        large(b'{"metric":{"kernel_id":"\xff"}}'),
        large(b'{"metric":{}}', b"}"),
        large(b'{"metric":{}}')[:-1000],
        large(b"{}").replace(b"vector", b"matrix"),
        large(b"{}").replace(b"success", b"error"),
    ],
    ids=["number", "labels", "not UTF-8", "open", "cut", "kind", "error"],
)
def test_a_large_answer_that_is_none_is_the_same_error(body: bytes):
    with pytest.raises(PrometheusError) as in_portions:
        for _ in answers.in_portions(answers.ROWS, body):
            pass
    with pytest.raises(PrometheusError) as at_once:
        answers.decoded(answers.ROWS, body)
    assert str(in_portions.value) == str(at_once.value)
    assert in_portions.value.reason == at_once.value.reason


def test_the_collector_need_not_look_through_answers():
    """Of a large cluster they are hundreds of thousands of objects, and none of them garbage."""
    matrix = GOOD.replace(b"vector", b"matrix").replace(b'"value":[5,"7"]', b'"values":[[5,"7"]]')
    rows = answers.decoded(answers.ROWS, GOOD).data
    several = answers.decoded(answers.SERIES, matrix).data
    assert rows
    assert several
    (row,), (series,) = rows.result, several.result
    assert series.values == (row.value,)
    gc.collect()
    seen = [row, row.metric, row.value, series, series.metric, series.values]
    assert [one for one in seen if gc.is_tracked(one)] == []
