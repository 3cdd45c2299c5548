"""The metric table: kinds, units, statistics, order, profiles, overrides."""

from __future__ import annotations

import pytest

from poller.format.catalog import Catalog, Override

TABLE = [
    ("cpu_util", "diff", "percent", ("max", "avg")),
    ("cpu_used", "gauge", "msec", ()),
    ("mem", "gauge", "bytes", ("max",)),
    ("io_read", "gauge", "bytes", ("rate",)),
    ("io_write", "gauge", "bytes", ("rate",)),
    ("net_rx", "rate", "bps", ()),
    ("net_tx", "rate", "bps", ()),
    ("io_scratch_size", "gauge", "bytes", ("max",)),
    ("tt_n300_power", "gauge", "watts", ("max",)),
    ("something_else", "gauge", "count", ()),
    *((f"{device}_mem", "gauge", "bytes", ("max",)) for device in ("cuda", "atom_plus", "acme")),
    *((f"{device}_util", "gauge", "percent", ("max", "avg")) for device in ("ipu", "acme")),
]


@pytest.mark.parametrize(("name", "kind", "unit", "stats"), TABLE)
def test_a_metric_is_what_the_formats_table_says(
    name: str, kind: str, unit: str, stats: tuple[str, ...]
):
    metric = Catalog()[name]
    assert (metric.kind, metric.unit_hint, metric.stats) == (kind, unit, stats)


def test_the_newer_profile_changes_the_unit_of_cpu_util_alone():
    classic, newer = Catalog("classic"), Catalog("26.9")
    assert newer["cpu_util"].unit_hint == "millicores"
    for name, *_ in TABLE[1:]:
        assert newer[name] == classic[name]


def test_accelerators_come_first_each_with_memory_before_use_then_the_intrinsic_metrics():
    names = [
        "io_scratch_size", "net_tx", "net_rx", "io_write", "io_read", "mem", "cpu_used",
        "cpu_util", "zeta", "acme_util", "acme_mem", "tt_n300_power", "tt_n300_util",
        "tt_n300_mem", "atom_plus_util", "atom_mem", "rocm_util", "rocm_mem", "cuda_util",
        "cuda_mem",
    ]  # fmt: skip
    assert Catalog().ordered(names) == [
        "cuda_mem", "cuda_util", "rocm_mem", "rocm_util", "atom_mem", "atom_plus_util",
        "tt_n300_mem", "tt_n300_util", "tt_n300_power", "acme_mem", "acme_util",
        "cpu_util", "cpu_used", "mem", "io_read", "io_write", "net_rx", "net_tx",
        "io_scratch_size", "zeta",
    ]  # fmt: skip


def test_kernels_of_the_same_metrics_share_one_order():
    catalog = Catalog()
    order = catalog.in_order(("mem", "cpu_util", "cuda_mem"))
    assert [metric.name for metric in order] == ["cuda_mem", "cpu_util", "mem"]
    assert catalog.in_order(("mem", "cpu_util", "cuda_mem")) is order
    assert catalog.in_order(("mem",)) == (catalog["mem"],)


def test_the_settings_add_and_change_a_metric():
    catalog = Catalog(
        "26.9",
        {
            "cpu_util": Override(stats=("avg",)),
            "acme_heat": Override("rate", "celsius", ("avg", "min")),
        },
    )
    assert catalog["cpu_util"].unit_hint == "millicores"
    assert catalog["cpu_util"].stats == ("avg",)
    assert catalog["acme_heat"].stats == ("min", "avg")
    assert catalog["acme_heat"].needs_rate


@pytest.mark.parametrize("name", ["version", "status", "", "a b", "x" * 129, 'q"', "a\nb"])
def test_a_name_that_would_break_a_reader_is_not_admitted(name: str):
    assert not Catalog.admits(name)


def test_an_ordinary_name_is_admitted():
    assert Catalog.admits("acme-9.heat_level")
