"""Any API answer, arbitrary or mutated: never an exception beyond ours, never a value that breaks
a legacy reader, and the order in which rows and answers come decides nothing."""

from __future__ import annotations

import dataclasses
import json
import operator
import random
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any
from unittest import mock

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from poller.batch import duplicates, survey
from poller.batch.duplicates import Sets
from poller.batch.merge import Merger
from poller.batch.trail import Glimpses
from poller.errors import PollerError
from poller.format import encode
from poller.format.catalog import INTRINSIC, Catalog
from poller.history.history import History
from poller.prometheus import answers, errors
from poller.prometheus.answers import ROWS, SERIES, SET_ROWS, Row, Series, decoded
from poller.rounds import rates
from poller.rounds.rounds import Rounds
from poller.values import Batch, Life, Owed, Past, Query, Stamp, Window
from tests.support.examples import examples
from tests.support.live import read_legacy
from tests.support.looks import feed, look

FUZZ = examples(150)
KERNELS = [f"0000000{digit}-aaaa-4bbb-8ccc-ddddddddddd{digit}" for digit in range(3)]
INSTANCES = ("a:1", "b:1")
PARTS = ("current", "current", "current", "capacity", "rate", "samples")
COUNTERS = (
    *("backendai_stage_count_total", "backendai_stage_duration_sec_sum"),
    *("backendai_stat_task_duration_sec_count", "backendai_stat_task_duration_sec_sum"),
    "backendai_stat_task_success_count_total",
)
METRICS = ("cpu_util", "mem", "io_read", "io_scratch_size", "net_rx", "cuda_mem", "x_util", "other")

numbers = st.one_of(
    st.floats().map(repr),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda number: f"{number:f}"),
    st.integers().map(str),
    st.integers(min_value=0).map(str),
    st.sampled_from(["NaN", "+Inf", "-Inf", "-0", "1e+21", "5e-07", "1e999", "00"]),
    st.sampled_from(["0." + "0" * 2000, "9" * 5000]),
    st.text(max_size=8),
)


def every(**choices: Sequence[str | None]) -> st.SearchStrategy[dict[str, str]]:
    """Return one of all combinations of labels; None leaves one out.

    One choice and not one a label: to choose costs more than what is tested.
    """
    found = [zip(choices, values, strict=True) for values in product(*choices.values())]
    return st.sampled_from([{k: v for k, v in one if v is not None} for one in found])


known = every(
    kernel_id=[*KERNELS, *KERNELS, KERNELS[0].upper(), "", "i-agent"],
    container_metric_name=[*METRICS, None],
    value_type=["current", "capacity", "pct", None],
    agent_id=["i-a", "i-b", None],
    session_id=["undefined", "s", None],
    instance=[*INSTANCES, None],
)
LABELS = ("kernel_id", "container_metric_name", "value_type", "agent_id", "instance")
odd = st.dictionaries(st.sampled_from(LABELS), st.text(), min_size=1, max_size=2)
labels = known | st.builds(operator.or_, known, odd)
stamps = st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 2_000_000_000)
elements = st.fixed_dictionaries(
    {"metric": labels, "value": st.tuples(stamps, numbers) | st.none()},
    optional={"histogram": st.just([1, {"count": "1"}])},
)
tracks = st.fixed_dictionaries(
    {"metric": labels, "values": st.lists(st.tuples(stamps, numbers), max_size=6)}
)
counters = st.fixed_dictionaries(
    {
        "metric": every(
            __name__=COUNTERS,
            instance=INSTANCES,
            stage=["gather_measures", "before_observe", "redis_write", "", None],
            success=["True", "False", None],
            replica=["x", "y", None],
            agent_id=["i-a", "", None],
            upper_layer=["collect_container_stat"],
            stat_scope=["container"],
        ),
        "values": st.lists(
            st.tuples(st.integers(900, 1100), numbers | st.integers(0, 30).map(str)), max_size=9
        ),
    }
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(0, (1 << 64) - 1) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner),
    max_leaves=10,
)


def document(kind: str, result: Any) -> bytes:
    whole = {"status": "success", "data": {"resultType": kind, "result": result}}
    return json.dumps(whole).encode()


@st.composite
def mutated(draw: Any, whole: st.SearchStrategy[bytes]) -> bytes:
    """Cut, doubled, overwritten: what a broken proxy makes of an answer."""
    body = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, max(0, len(body) - 1)))
        change = draw(st.sampled_from(["cut", "set", "insert", "delete"]))
        if change == "cut":
            del body[place:]
        elif change == "set" and body:
            body[place] = draw(st.integers(0, 255))
        elif change == "insert":
            body[place:place] = draw(st.binary(max_size=8))
        else:
            del body[place : place + draw(st.integers(1, 8))]
    return bytes(body)


vectors = st.lists(elements, max_size=5).map(lambda rows: document("vector", rows))
crowd = st.fixed_dictionaries(
    {
        "metric": st.just({"kernel_id": KERNELS[0]}),
        "value": st.tuples(st.just(1.0), st.sampled_from(["1", "1.0", "2", "10", "9"])),
    }
)
crowded = st.lists(crowd, min_size=2, max_size=5).map(lambda rows: document("vector", rows))
matrices = st.lists(tracks, max_size=5).map(lambda rows: document("matrix", rows))
rounds = st.lists(counters, max_size=8).map(lambda rows: document("matrix", rows))
bodies = st.one_of(
    mutated(vectors),
    mutated(matrices),
    st.binary(max_size=200),
    anything.map(lambda value: json.dumps(value).encode()),
    anything.map(lambda value: document("vector", value)),
    st.integers(1, 4000).map(lambda depth: b'{"status":"success","data":' + b"[" * depth),
)
queries = st.sampled_from([Query(part, name, "") for part, name in product(PARTS, METRICS)])


def ours_or_nothing(decode: Callable[[], list[Any]]) -> list[Any]:
    try:
        return decode()
    except PollerError:
        return []


def rows_of(body: bytes) -> list[Row]:
    return ours_or_nothing(lambda: decoded(ROWS, body).data.result)  # type: ignore


def series_of(body: bytes) -> list[Series]:
    return ours_or_nothing(lambda: decoded(SERIES, body).data.result)  # type: ignore


def merged(answers: list[tuple[Query, list[Row]]]) -> Batch:
    merger = Merger(Catalog())
    for query, rows in answers:
        merger.take(query, rows)
    return finished(merger, 1000.0)


def finished(merger: Merger, time: float) -> Batch:
    for _ in merger.fold():
        pass
    return merger.finish(time)


@FUZZ
@given(bodies)
def test_any_body_becomes_rows_or_an_error_of_ours(body: bytes) -> None:
    for form in (ROWS, SET_ROWS, SERIES):
        ours_or_nothing(lambda: decoded(form, body).data.result)  # type: ignore  # noqa: B023


@FUZZ
@given(bodies)
def test_an_answer_that_is_read_in_portions_is_the_same_or_refused_as_well(body: bytes) -> None:
    for form in (ROWS, SET_ROWS, SERIES):
        whole = ours_or_nothing(lambda: [decoded(form, body)])  # type: ignore  # noqa: B023
        with (
            mock.patch.object(answers, "_LARGE_BYTES", 0),
            mock.patch.object(answers, "_PORTION_BYTES", 100),
        ):
            told = ours_or_nothing(lambda: [*answers.in_portions(form, body)][-1:])  # noqa: B023
        assert told == whole


@FUZZ
@given(st.integers(100, 599), st.binary(max_size=300) | bodies)
def test_any_refusal_is_told_in_few_words(status: int, start: bytes) -> None:
    error = errors.refusal(status, start)
    assert error.reason
    assert len(error.detail) <= len(f"HTTP {status}: ") + 200


@FUZZ
@given(
    st.lists(st.tuples(queries, vectors), min_size=1, max_size=8),
    st.lists(rounds, min_size=2, max_size=2),
    matrices,
    st.sampled_from(["classic", "26.9"]),
    st.sampled_from(["first", "sentinel"]),
    st.dictionaries(st.sampled_from(METRICS), st.tuples(numbers, numbers, numbers)),
)
def test_whatever_is_answered_legacy_readers_can_read_what_is_written(
    answers: list[tuple[Query, bytes]],
    counted: list[bytes],
    between: bytes,
    profile: Any,
    capacity_of: str,
    held: dict[str, tuple[str, str, str]],
) -> None:
    catalog = Catalog(profile)
    history, clocks = History(catalog, 300.0), Rounds()
    for time, counts in zip((1000.0, 1005.0), counted, strict=True):
        merger = Merger(catalog)
        for query, body in answers:
            merger.take(query, rows_of(body))
        glimpses = Glimpses(look(clocks, series_of(counts), time), 1000.0)
        glimpses.take(series_of(between))
        merged = finished(merger, time)
        batch = dataclasses.replace(
            merged,
            stamps=clocks.stamps(0.0),
            windows=dict.fromkeys(("", *merged.instances.values()), Window(25.0, 5.0)),
            glimpses=glimpses.in_order(),
        )
        feed(history, batch, clocks)
    told = {
        name: {"current": a, "capacity": b, "unit_hint": "x", "stats.max": c, "stats.avg": a}
        for name, (a, b, c) in held.items()
    }
    for kernel in list(history.kernels):
        history.recall_key(kernel, encode.remembered(catalog, told))
        life = Life(moved=1000.0, born=None, older=True, metrics={"mem": Past("5", "7")})
        history.recall_life(kernel, life, Owed(None, 1000.0))
        manner = encode.Manner(capacity_of, 5.0)
        stat = encode.live_stat(history.kernels[kernel].known(catalog), manner)
        if stat:
            assert set(read_legacy(encode.pack(stat))) == set(stat)


@FUZZ
@given(st.lists(st.tuples(queries, vectors | crowded), min_size=1, max_size=6), st.randoms())
def test_the_order_of_rows_and_answers_decides_nothing(
    answers: list[tuple[Query, bytes]], order: random.Random
) -> None:
    taken = [(query, rows_of(body)) for query, body in answers]
    once = merged(taken)
    shuffled = [(query, order.sample(rows, len(rows))) for query, rows in taken]
    order.shuffle(shuffled)
    assert merged(shuffled) == once


@FUZZ
@given(st.lists(st.tuples(queries, vectors), min_size=1, max_size=6), vectors, vectors, vectors)
def test_duplicate_series_are_settled_whatever_is_answered_about_them(
    answers: list[tuple[Query, bytes]], values: bytes, stamped: bytes, changes: bytes
) -> None:
    batch = merged([(query, rows_of(body)) for query, body in answers])
    sets = [decoded(SET_ROWS, body).data for body in (values, stamped, changes)]
    found = Sets(*(one.result for one in sets))  # type: ignore
    stamp = Stamp("a:1", 1.0, 0.0, 1.0)
    settled = duplicates.settle(batch, found, 5.0, lambda identity: stamp, {})
    assert not settled.conflicts
    assert settled.observations.keys() == batch.observations.keys()


@FUZZ
@given(matrices, matrices)
def test_any_raw_samples_give_intervals_that_can_be_asked_for(one: bytes, other: bytes) -> None:
    counted, samples = series_of(one), series_of(other)
    window = rates.window(
        survey.scrape_interval(counted),
        survey.measure_interval(counted) or survey.change_interval(samples),
    )
    assert 0 < window.range_s <= 5 * 3600


@FUZZ
@given(st.lists(rounds | matrices, min_size=1, max_size=4), st.floats(0, 2000))
def test_whatever_counters_say_time_goes_on_between_two_measurements(
    answers: list[bytes], since: float
) -> None:
    clocks = Rounds()
    met: dict[str, Stamp] = {}
    for body in answers:
        answer = series_of(body)
        clocks.newest_scrapes(answer)
        look(clocks, answer, 1000.0)
        for instance, stamp in clocks.stamps(since).items():
            step = clocks.step(met.get(instance, stamp), stamp)
            assert step is None or (step.rounds > 0 and step.elapsed_s > 0)
            met[instance] = stamp
    clocks.stalled()
    clocks.lay_by_silent(since)
    clocks.states()


def packed(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


@FUZZ
@given(st.binary(max_size=300) | anything.map(packed))
def test_any_key_already_there_is_a_live_stat_or_nothing(value: bytes) -> None:
    stat = encode.unpack(value)
    if stat is not None:
        for told in encode.remembered(Catalog(), stat).values():
            for text in told:
                assert text is None or abs(float(text)) < float("inf")


def test_the_fuzz_reaches_the_metrics_that_readers_convert() -> None:
    assert {"mem", "io_read", "io_scratch_size"} <= set(METRICS) & set(INTRINSIC)
