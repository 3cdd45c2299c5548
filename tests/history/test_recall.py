"""What of a kernel's key is believed, and what `rate()` over a window is worth."""

from __future__ import annotations

import pytest

from poller.history import recall
from poller.history.state import KernelState, MetricState
from poller.values import Owed, Remembered, Stamp
from tests.support.histories import CATALOG, NOTHING, WINDOW, stamp

CPU, MEM, READ, GPU, RX = (
    CATALOG[name] for name in ("cpu_util", "mem", "io_read", "cuda_util", "net_rx")
)


def owing(current: str, **more: object) -> MetricState:
    """Return a metric whose whole past is owed."""
    return MetricState(current, stamp(2), owed=Owed(None, 10.0), **more)  # type: ignore[arg-type]


# Rates over a window.


def met(born: float | None, by: Stamp | None = None, **kept: MetricState) -> KernelState:
    kernel = KernelState(20.0, by, born=born, window=WINDOW, samples=5.0, metrics=dict(kept))
    recall.fit_rates(kernel, CATALOG, 20.0)
    return kernel


def test_a_windows_rate_stands_as_it_is_for_a_kernel_that_is_older():
    kernel = met(None, io_read=owing("5", rate=7.0, by_window=True))
    kept = kernel.metrics["io_read"]
    assert (kept.rate, kept.by_window) == (7.0, False)


def test_a_windows_rate_is_scaled_to_a_young_kernels_life():
    kernel = met(10.0, io_read=owing("5", rate=7.0, by_window=True))
    # Ten seconds and half a scrape of the window's 25 hold samples.
    assert kernel.metrics["io_read"].rate == pytest.approx(7.0 * 25.0 / 12.5)


def test_a_rate_of_two_rounds_is_not_scaled():
    kernel = met(10.0, io_read=owing("5", rate=7.0))
    assert kernel.metrics["io_read"].rate == 7.0


@pytest.mark.parametrize(
    ("born", "scraped", "rate"),
    [(20.0, 20.0, 0.0), (15.0, 20.0, None), (None, 20.0, None)],
    ids=["its first scrape", "one of several", "of unknown age"],
)
def test_what_was_scraped_once_has_the_rate_0_as_in_a_first_measurement(
    born: float | None, scraped: float, rate: float | None
):
    kernel = met(born, Stamp("a:1", 4.0, 0.0, scraped), io_read=owing("5"), mem=owing("5"))
    assert kernel.metrics["io_read"].rate == rate
    assert kernel.metrics["mem"].rate is None


# What only a key knows.


def test_a_keys_extremes_widen_those_that_were_seen():
    kept = MetricState("50")
    kept.widen("50")
    recall.recall_fields(kept, CPU, NOTHING._replace(maximum="90", minimum="10"))
    assert (kept.maximum, kept.highest, kept.minimum, kept.lowest) == ("90", 90.0, "10", 10.0)
    recall.recall_fields(kept, CPU, NOTHING._replace(maximum="80", minimum="20"))
    assert (kept.maximum, kept.minimum) == ("90", "10")


def test_a_keys_capacity_is_the_stand_in_where_there_is_no_real_one():
    kept, real = owing("5"), owing("5", capacity="100")
    for one in (kept, real):
        recall.recall_fields(one, MEM, NOTHING._replace(capacity="3"))
    assert (kept.first, real.first) == ("3", None)


@pytest.mark.parametrize("owed", [None, Owed(5.0, 10.0)], ids=["nothing", "a gap"])
def test_a_keys_average_counts_for_nothing_once_all_was_counted_but_for_a_gap(owed: Owed | None):
    kept = MetricState("5", owed=owed)
    recall.recall_fields(kept, CPU, NOTHING._replace(average="3", maximum="80"))
    assert (kept.prior_average, kept.prior_maximum, kept.known) == (None, None, False)


@pytest.mark.parametrize(
    ("capacity", "told", "known"),
    [
        ("100", {"average": "3", "maximum": "80"}, True),
        ("100", {"average": "3"}, False),
        (None, {"average": "3", "maximum": "80"}, False),
        (None, {"average": "3", "maximum": "80", "capacity": "7"}, True),
    ],
)
def test_a_metric_is_known_by_a_key_that_tells_all_that_readers_saw(
    capacity: str | None, told: dict[str, str], known: bool
):
    kept = owing("5", capacity=capacity)
    recall.recall_fields(kept, CPU, NOTHING._replace(**told))
    assert kept.known is known


@pytest.mark.parametrize(
    ("told", "maximum"),
    [
        ({"maximum": "900", "raw": "900"}, None),  # of its last measurement, not scraped perhaps
        ({"maximum": "1690", "rate": "10"}, None),  # 119 s ahead of the newest scrape
        ({"maximum": "1710", "rate": "10"}, 1710.0),
        ({"maximum": "501"}, 501.0),
        ({}, None),
    ],
)
def test_a_keys_maximum_is_of_the_past_unless_it_may_be_not_scraped_yet(
    told: dict[str, str], maximum: float | None
):
    kept = owing("500")
    recall.recall_fields(kept, CPU, NOTHING._replace(**told))
    assert kept.prior_maximum == maximum


def test_a_gauges_maximum_is_of_the_past_whatever_its_rate():
    kept = owing("500")
    recall.recall_fields(kept, MEM, NOTHING._replace(maximum="501", rate="10"))
    assert kept.prior_maximum == 501.0


# Whose rate is nearer.


@pytest.mark.parametrize(
    ("told", "left"),
    [
        ({"raw": "500", "rate": "7"}, True),
        ({"maximum": "500", "rate": "7"}, True),
        ({"raw": "400", "maximum": "500", "rate": "7"}, False),
        ({"raw": "500", "rate": "0"}, False),
        ({"raw": "500"}, False),
        ({"rate": "7"}, False),
    ],
)
def test_a_counter_stands_where_its_key_left_it(told: dict[str, str], left: bool):
    assert recall.stands_where_left(MetricState("500"), READ, NOTHING._replace(**told)) is left


def test_a_gauge_does_not_tell_whether_it_was_measured():
    told = NOTHING._replace(raw="500", rate="7")
    assert not recall.stands_where_left(MetricState("500"), MEM, told)


def rate_of(kept: MetricState, fresh: bool, **told: str) -> float | None:
    recall.recall_rate(kept, READ, NOTHING._replace(**told), fresh)
    return kept.rate


@pytest.mark.parametrize(
    ("raw", "rate"), [("400", 7.0), ("500", 0.0)], ids=["moved since", "stands there"]
)
def test_a_keys_zero_is_none_any_more_where_the_counter_moved_since(raw: str, rate: float):
    kept = MetricState("500", stamp(2), rate=7.0, by_window=True)
    assert rate_of(kept, True, raw=raw, rate="0") == rate


def test_a_keys_rate_is_taken_where_none_is_known_even_a_zero():
    assert rate_of(MetricState("500", stamp(2)), False, raw="400", rate="0") == 0.0


@pytest.mark.parametrize(
    ("more", "fresh", "rate"),
    [
        ({}, True, 3.0),
        ({}, False, 3.0),
        ({"owed": Owed(None, 10.0)}, True, 3.0),
        ({"owed": Owed(None, 10.0)}, False, 7.0),
        ({"by_window": False}, True, 7.0),
        ({"stamp": None}, True, 7.0),
    ],
)
def test_a_keys_rate_goes_before_a_windows_where_it_is_nearer(
    more: dict[str, object], fresh: bool, rate: float
):
    made = {"stamp": stamp(2), "rate": 7.0, "by_window": True} | more
    kept = MetricState("500", **made)  # type: ignore[arg-type]
    assert rate_of(kept, fresh, raw="400", rate="3") == rate
    if rate == 3.0:
        assert not kept.by_window


# A metric that only the key has.


def test_a_metric_that_only_a_key_has_goes_on_as_the_key_tells():
    told = Remembered("35.5", "2.5", "100", "90", "1", "20")
    made = recall.from_key(GPU, told)
    assert made is not None
    assert (made.current, made.rate, made.maximum, made.minimum) == ("35.5", 2.5, "90", "1")
    assert (made.capacity, made.prior_average, made.known) == ("100", "20", True)


def test_what_is_written_as_a_rate_needs_no_last_value():
    told = recall.from_key(CPU, NOTHING._replace(maximum="90", rate="7"))
    bare = recall.from_key(RX, NOTHING._replace(capacity="5"))
    assert told is not None
    assert bare is not None
    assert (told.current, told.rate) == ("90", 7.0)
    assert (bare.current, bare.rate, bare.capacity) == ("0", 0.0, None)


def test_a_gauge_of_which_a_key_tells_no_value_is_none():
    assert recall.from_key(MEM, NOTHING._replace(average="3")) is None
    assert recall.from_key(MEM, NOTHING._replace(maximum="3")) is not None
