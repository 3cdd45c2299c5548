"""Which kernels are not written, and why."""

from __future__ import annotations

from poller.poll import withhold
from poller.poll.state import KernelHistory, MetricHistory
from poller.poll.withhold import Patience

PATIENCE = Patience(still_s=900.0, stall_s=120.0)
NOW = 10_000.0


def kernel(
    moved: float | None = NOW, agent: str | None = "i-a", **changes: object
) -> KernelHistory:
    made = KernelHistory(NOW, moved=moved, judged=True, complete=True, key_read=True, agent=agent)
    made.metrics = {name: MetricHistory("1", known=True) for name in ("cpu_util", "mem")}
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def why(one: KernelHistory, *stalled: str) -> str | None:
    return withhold.reason(one, stalled, NOW, PATIENCE)


def test_a_kernel_that_moves_is_written():
    assert why(kernel()) is None


def test_a_kernel_that_stood_still_for_a_while_is_written_with_its_zeros():
    assert why(kernel(moved=NOW - 899)) is None


def test_a_kernel_that_stood_still_for_too_long_has_ended():
    assert why(kernel(moved=NOW - 901)) == "still"
    assert why(kernel(moved=None)) == "still"


def test_a_kernel_without_its_essential_metrics_is_left_as_it_is():
    assert why(kernel(complete=False)) == "incomplete"


def test_a_kernel_waits_until_its_key_and_its_past_are_known():
    assert why(kernel(key_read=False)) == "waiting"
    assert why(kernel(moved=None, judged=False)) == "waiting"
    unknown = kernel()
    unknown.metrics["mem"].known = False
    assert why(unknown) == "waiting"


def test_a_stalled_agents_kernels_are_withheld_and_no_others():
    assert why(kernel(), "i-a") == "stalled"
    assert why(kernel(agent="i-b"), "i-a") is None


def stalled(rounds: dict[str, float], *kernels: KernelHistory) -> set[str]:
    named = {str(place): one for place, one in enumerate(kernels)}
    return withhold.stalled_agents(named, rounds, NOW, PATIENCE)


IDLE = NOW - 300


def test_an_agent_that_counts_no_round_has_stalled_however_few_kernels_it_has():
    assert stalled({"i-a": 0.0}, kernel(moved=IDLE)) == {"i-a"}


def test_an_agent_that_counts_its_rounds_is_well_however_idle_its_kernels_are():
    assert stalled({"i-a": 0.2}, kernel(moved=IDLE), kernel(moved=IDLE)) == set()


def test_without_a_counter_an_agent_of_which_nothing_moves_has_stalled():
    assert stalled({}, kernel(moved=IDLE), kernel(moved=IDLE)) == {"i-a"}


def test_without_a_counter_one_moving_kernel_shows_that_its_agent_is_well():
    assert stalled({}, kernel(moved=IDLE), kernel(moved=NOW - 10)) == set()


def test_without_a_counter_one_idle_kernel_alone_tells_nothing():
    assert stalled({}, kernel(moved=IDLE)) == set()


def test_ended_kernels_do_not_make_a_stalled_agent():
    assert stalled({}, kernel(moved=None), kernel(moved=NOW - 5000), kernel(moved=IDLE)) == set()
