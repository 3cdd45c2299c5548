"""The legacy bytes: number text, percentages, fields, MessagePack."""

from __future__ import annotations

import json
from decimal import Decimal, localcontext

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.format import encode, numbers
from poller.format.catalog import Catalog, Override
from poller.history.state import MetricState
from tests.support.examples import examples
from tests.support.vectors import FOLDER, NAMES


def judged(value: Decimal, places: int) -> str:
    """Round by the decimal module alone, then strip: the spec's rule, word for word."""
    with localcontext() as context:
        context.prec = 1000
        text = format(value.quantize(Decimal(1).scaleb(-places)), "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def prometheus_text(value: float) -> str:
    """Write a float64 as Prometheus does: plain digits, an exponent only beyond bounds."""
    if value != 0 and (abs(value) >= 1e21 or abs(value) < 1e-6):
        return repr(value)
    return format(Decimal(repr(value)), "f")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("1485.000", "1485"),
        ("35.10", "35.1"),
        ("0.0004", "0"),
        ("-0.0004", "0"),
        ("0.0005", "0"),
        ("0.0015", "0.002"),
        ("2.0025", "2.002"),
        ("260.4935", "260.494"),  # times 1000 its float64 is below the tie, and the next above it
        ("540083855.5305", "540083855.53"),
        ("1e+21", "1000000000000000000000"),
        ("5e-07", "0"),
        ("9007199254740993", "9007199254740993"),
        ("9.223372036854772e+18", "9223372036854771712"),  # no memory limit, in control groups v1
        ("9223372036854772000", "9223372036854771712"),
        ("9223372036854771712", "9223372036854771712"),
        ("18014428666550950", "18014428666550952"),
        ("1.7976931348623157e+308", "17976931348623157" + "0" * 292),
        ("0", "0"),
        ("-5.5", "-5.5"),
        ("007", "7"),
    ],
)
def test_a_number_is_rounded_half_even_to_three_places_and_stripped(text: str, written: str):
    assert numbers.number(text) == written


@pytest.mark.parametrize(
    "text", ["NaN", "+Inf", "-Inf", "", "abc", "1_000", " 5", "5\n", "²", "٣", "0x10", "1e", "--1"]
)
def test_what_is_no_number_is_not_written(text: str):
    assert numbers.number(text) is None


def meant(value: float) -> Decimal:
    """Return what an agent writes: a large number's digits, else its shortest ones."""
    return Decimal(value) if 2**53 <= abs(value) < 10**25 else Decimal(repr(value))


@examples(100)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float64_is_written_as_decimal_says(value: float):
    assert numbers.number(prometheus_text(value)) == judged(meant(value), 3)


@examples(100)
@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9
    )
)
def test_ties_are_rounded_as_decimal_says(value: Decimal):
    text = format(value, "f")
    assert numbers.number(text) == judged(Decimal(text), 3)


@examples(100)
@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["e", "E"]))
def test_an_exponent_is_read_and_never_written(value: float, letter: str):
    text = f"{Decimal(repr(value)):e}".replace("e", letter)
    written = numbers.number(text)
    assert written == judged(meant(value), 3)
    assert "e" not in written.lower()


def agents_percentage(current: str, capacity: str) -> str:
    """The agent's own arithmetic, in the decimal module's default context of 28 digits."""
    if float(capacity) < 2.2250738585072014e-308:  # zero, negative, subnormal
        return "0.00"
    return judged(Decimal(current) / Decimal(capacity) * 100, 2)


def of_texts(current: str, capacity: str | None) -> str:
    return numbers.percentage(float(current), capacity, current)


@examples(100)
@given(
    st.floats(min_value=-1e18, max_value=1e18, allow_nan=False),
    st.floats(min_value=-10, max_value=1e18, allow_nan=False),
)
def test_a_percentage_is_what_the_agents_arithmetic_gives(current: float, capacity: float):
    texts = prometheus_text(current), prometheus_text(capacity)
    assert of_texts(*texts) == agents_percentage(*texts)


def test_a_percentage_larger_than_any_float_is_its_digits():
    assert of_texts("8.98846567431158e+306", "5") == "1797693134862316" + 293 * "0"


@examples(100)
@given(st.integers(0, 10**8), st.sampled_from([1, 3, 7, 10_000, 20_000, 200_000, 640_000]))
def test_a_percentage_near_a_tie_is_what_the_agents_arithmetic_gives(current: int, capacity: int):
    texts = str(current), str(capacity)
    assert of_texts(*texts) == agents_percentage(*texts)


@examples(100)
@given(st.integers(0, 2**53), st.integers(1, 2**53))
def test_a_percentage_of_whole_numbers_is_what_the_agents_arithmetic_gives(
    current: int, capacity: int
):
    assert of_texts(str(current), str(capacity)) == agents_percentage(str(current), str(capacity))


@pytest.mark.parametrize("capacity", [None, "0", "-1", "NaN", "+Inf", "0.0", "1e-310"])
def test_a_capacity_that_cannot_divide_gives_the_literal_zero(capacity: str | None):
    assert of_texts("5", capacity) == "0.00"


def test_a_zero_over_a_good_capacity_is_a_plain_zero():
    assert of_texts("0", "1000") == "0"
    assert of_texts("-0.00001", "1000") == "0"


def test_digits_beyond_the_agents_precision_are_all_written():
    assert of_texts("1e30", "3") == "33333333333333333333333333330000"


def test_a_metric_carries_its_fields_in_order_and_no_other():
    metric = Catalog()["cuda_util"]
    kept = MetricState("35.10", capacity="100", maximum="99.5", total=30.0, count=4)
    made = encode.fields(metric, kept)
    assert list(made.items()) == [
        ("current", "35.1"),
        ("capacity", "100"),
        ("pct", "35.1"),
        ("unit_hint", "percent"),
        ("stats.max", "99.5"),
        ("stats.avg", "7.5"),
    ]


def test_every_statistic_stands_in_the_formats_order():
    catalog = Catalog(overrides={"x": Override(stats=("rate", "diff", "avg", "sum", "max", "min"))})
    kept = MetricState("5", rate=2.0, maximum="9", minimum="1", total=20.0, count=4)
    made = encode.fields(catalog["x"], kept, encode.Manner(measure_s=3.0))
    assert {key: value for key, value in made.items() if key.startswith("stats.")} == {
        "stats.min": "1",
        "stats.max": "9",
        "stats.sum": "20",
        "stats.avg": "5",
        "stats.diff": "6",
        "stats.rate": "2",
    }
    assert list(made)[4:] == [
        "stats.min", "stats.max", "stats.sum", "stats.avg", "stats.diff", "stats.rate",
    ]  # fmt: skip


def test_the_first_value_stands_in_for_a_missing_capacity():
    kept = MetricState("300", first="200")
    made = encode.fields(Catalog()["io_read"], kept)
    assert (made["capacity"], made["pct"]) == ("200", "150")


def test_the_managers_sentinel_stands_in_where_it_is_asked_for():
    kept = MetricState("300", first="200")
    made = encode.fields(Catalog()["io_read"], kept, encode.Manner("sentinel"))
    assert (made["capacity"], made["pct"]) == ("9223372036854775807", "0")


def test_a_rate_that_is_not_known_yet_is_zero_and_never_the_raw_counter():
    kept = MetricState("123456", capacity="1000", maximum="123456")
    made = encode.fields(Catalog()["cpu_util"], kept)
    assert (made["current"], made["pct"], made["stats.max"]) == ("0", "0", "123456")


@pytest.mark.parametrize("name", NAMES)
def test_packing_gives_the_agents_bytes(name: str):
    expected = json.loads((FOLDER / name / "expected.json").read_text())
    for snapshot in expected["snapshots"]:
        for kernel in snapshot["kernels"].values():
            assert encode.pack(kernel["fields"]).hex() == kernel["value_hex"]
            assert encode.unpack(bytes.fromhex(kernel["value_hex"])) == kernel["fields"]


SIZES = [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536]


@pytest.mark.parametrize("size", SIZES)
def test_any_length_of_text_survives_a_plain_reader(size: int):
    stat = {"x": {"current": "1" * size, "unit_hint": "count"}}
    assert msgpack.unpackb(encode.pack(stat), raw=False, strict_map_key=False) == stat


@pytest.mark.parametrize("size", [1, 15, 16, 17])
def test_any_number_of_metrics_survives_a_plain_reader(size: int):
    stat = {f"m{place}": {"current": "1", "unit_hint": "count"} for place in range(size)}
    assert msgpack.unpackb(encode.pack(stat), raw=False) == stat


GOOD = {"mem": {"current": "1", "capacity": "2", "pct": "50", "unit_hint": "bytes"}}


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xc1",
        b"not msgpack at all",
        msgpack.packb(GOOD) + b"\x00",
        msgpack.packb({}),
        msgpack.packb([1, 2]),
        msgpack.packb("text"),
        msgpack.packb({"mem": {"current": 1, "unit_hint": "bytes"}}),
        msgpack.packb({"mem": {"current": "1"}}),
        msgpack.packb({1: {"current": "1", "unit_hint": "bytes"}}),
        msgpack.packb({"mem": msgpack.ExtType(0x50, b"cos\nsystem\n(S'true'\ntR.")}),
        msgpack.packb({"mem": {"current": msgpack.ExtType(1, b"x"), "unit_hint": "bytes"}}),
        msgpack.packb({"mem": {"current": "1" * (1 << 20), "unit_hint": "bytes"}}),
    ],
)
def test_a_key_that_holds_no_live_stat_is_ignored(value: bytes):
    assert encode.unpack(value) is None


@examples(100)
@given(st.binary(max_size=200))
def test_no_bytes_of_a_key_raise(value: bytes):
    encode.unpack(value)


def test_a_key_tells_what_only_it_can_know():
    catalog = Catalog()
    told = encode.remembered(
        catalog,
        {
            "io_read": {"current": "30", "capacity": "20", "pct": "150", "unit_hint": "bytes",
                        "stats.rate": "2.5"},
            "cpu_util": {"current": "12", "capacity": "1000", "pct": "1.2", "unit_hint": "percent",
                         "stats.max": "99", "stats.avg": "40"},
            "mem": {"current": "rubbish", "capacity": "9223372036854775807", "pct": "0",
                    "unit_hint": "bytes", "stats.max": "NaN"},
            "version": {"current": "1", "capacity": "1", "pct": "1", "unit_hint": "count"},
        },
    )  # fmt: skip
    assert told["io_read"].raw == "30"
    assert (told["io_read"].capacity, told["io_read"].rate) == ("20", "2.5")
    assert (told["cpu_util"].raw, told["cpu_util"].rate) == (None, "12")
    assert (told["cpu_util"].maximum, told["cpu_util"].average) == ("99", "40")
    assert told["mem"] == (None, None, None, None, None, None)
    assert "version" not in told
