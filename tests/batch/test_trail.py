"""What scrapes between two batches saw, sorted by scrape and by round."""

from __future__ import annotations

from poller.batch.trail import Glimpses
from poller.prometheus.answers import Labels, Row, Sample, Series
from poller.values import Glimpse, Stamp
from tests.support.looks import series_of

KERNEL = "0b4f6a3e-7a0f-4c5e-9d53-0b7f5a7c2e11"
OTHER = "ffffffff-7a0f-4c5e-9d53-0b7f5a7c2e11"


def series(*values: tuple[float, str], kernel: str = KERNEL, metric: str = "mem",
           instance: str | None = "a:1") -> Series:  # fmt: skip
    labels = {"kernel_id": kernel, "container_metric_name": metric}
    return series_of(labels | ({"instance": instance} if instance else {}), values)


def stamp(number: float, scraped: float, instance: str = "a:1") -> Stamp:
    return Stamp(instance, number, 0.0, scraped)


def seen(trail: dict[str, list[Stamp]], *answer: Series, since: float = 0.0) -> list[Glimpse]:
    glimpses = Glimpses(trail, since)
    glimpses.take(answer)
    return glimpses.in_order()


def test_a_round_is_seen_by_the_scrape_that_saw_it_first_and_the_last_is_the_batches_own():
    trail = {"a:1": [stamp(7, 12.0), stamp(8, 16.0), stamp(9, 20.0)]}
    samples = [(float(at), str(at)) for at in range(10, 22, 2)]
    assert seen(trail, series(*samples)) == [
        Glimpse(stamp(7, 12.0), {KERNEL: {"mem": "12"}}),
        Glimpse(stamp(8, 16.0), {KERNEL: {"mem": "16"}}),
    ]


def test_kernels_and_metrics_of_one_scrape_are_one_glimpse():
    trail = {"a:1": [stamp(7, 12.0), stamp(8, 16.0)]}
    answer = [
        series((12.0, "1")),
        series((12.0, "2"), metric="cpu_util"),
        series((12.0, "3"), kernel=OTHER),
    ]
    assert seen(trail, *answer) == [
        Glimpse(stamp(7, 12.0), {KERNEL: {"mem": "1", "cpu_util": "2"}, OTHER: {"mem": "3"}})
    ]


def test_exporters_scraped_at_one_time_are_glimpses_of_their_own_rounds():
    trail = {
        "a:1": [stamp(7, 12.0), stamp(8, 16.0)],
        "b:1": [stamp(70, 12.0, "b:1"), stamp(71, 14.0, "b:1")],
    }
    answer = [series((12.0, "2"), kernel=OTHER, instance="b:1"), series((12.0, "1"))]
    assert seen(trail, *answer) == [
        Glimpse(stamp(7, 12.0), {KERNEL: {"mem": "1"}}),
        Glimpse(stamp(70, 12.0, "b:1"), {OTHER: {"mem": "2"}}),
    ]


def test_without_rounds_every_sample_since_the_last_batch_is_a_glimpse():
    samples = [(8.0, "8"), (10.0, "10"), (12.0, "12"), (14.0, "14")]
    for instance in ("c:1", None):
        assert seen({}, series(*samples, instance=instance), since=10.0) == [
            Glimpse(None, {KERNEL: {"mem": "12"}}),
            Glimpse(None, {KERNEL: {"mem": "14"}}),
        ]


def test_without_rounds_a_sample_that_was_stored_late_counts_and_none_counts_twice():
    glimpses = Glimpses({}, 10.0, {"c:1": 8.0})
    glimpses.take([series((8.0, "8"), (9.5, "9"), (12.0, "12"), instance="c:1")])
    glimpses.take([series((9.5, "9"), (11.0, "11"), kernel=OTHER, instance="d:1")])
    assert [list(one.values.values()) for one in glimpses.in_order()] == [
        [{"mem": "9"}],
        [{"mem": "11"}],
        [{"mem": "12"}],
    ]
    assert glimpses.newest() == {"c:1": 12.0, "d:1": 11.0}


def test_glimpses_are_in_the_order_of_time_whatever_the_order_of_answers():
    late, early = series((14.0, "14")), series((12.0, "12"), kernel=OTHER)
    glimpses = Glimpses({}, 10.0)
    glimpses.take([late])
    glimpses.take([early])
    assert [list(one.values) for one in glimpses.in_order()] == [[OTHER], [KERNEL]]


def test_what_cannot_serve_is_passed_over():
    trail = {"a:1": [stamp(7, 12.0), stamp(8, 16.0)]}
    answer = [
        series((12.0, "NaN")),
        series((12.0, "1"), kernel=KERNEL.upper()),
        series((12.0, "1"), metric=""),
        series_of({}, [(12.0, "1")]),
    ]
    assert seen(trail, *answer) == []


def last_scraped(**times: str) -> list[Row]:
    return [Row(Labels(instance=f"{name}:1"), Sample(30.0, at)) for name, at in times.items()]


def test_where_at_most_one_scrape_is_new_its_time_tells_whether_one_is():
    glimpses = Glimpses({}, 10.0, {"a:1": 15.0, "b:1": 15.0})
    glimpses.take_newest(last_scraped(a="15", b="18", c="10", d="11", e="NaN"))
    assert glimpses.repeated() == {"a:1", "c:1"}
    assert glimpses.newest() == {"a:1": 15.0, "b:1": 18.0, "c:1": 10.0, "d:1": 11.0}
    assert glimpses.in_order() == []
