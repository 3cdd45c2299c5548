"""Which kernels are not written, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from poller.history.state import KernelState, MetricState
from poller.poll import withhold
from poller.poll.withhold import Grounds
from poller.values import Patience

PATIENCE = Patience(still_s=900.0, stall_s=120.0)
NOW = 10_000.0


def kernel(moved: float | None = NOW, agent: str | None = "i-a", **changes: object) -> KernelState:
    made = KernelState(NOW, moved=moved, judged=True, key_read=True, agent=agent)
    made.metrics = {name: MetricState("1", known=True, rate=0.0) for name in ("cpu_util", "mem")}
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def why(one: KernelState, **grounds: set[str]) -> str | None:
    return withhold.reason("k", one, Grounds(**grounds), NOW, PATIENCE)


def test_a_kernel_that_moves_is_written():
    assert why(kernel()) is None


def test_a_kernel_that_stood_still_for_a_while_is_written_with_its_zeros():
    assert why(kernel(moved=NOW - 899)) is None


def test_a_kernel_that_stood_still_for_too_long_has_ended():
    assert why(kernel(moved=NOW - 901)) == "still"
    assert why(kernel(moved=None)) == "still"


def test_a_kernel_without_its_essential_metrics_is_left_as_it_is():
    assert why(kernel(lacks=("mem",))) == "incomplete"


def test_a_kernel_waits_until_its_key_and_its_past_are_known():
    assert why(kernel(key_read=False)) == "waiting"
    assert why(kernel(moved=None, judged=False)) == "waiting"
    unknown = kernel()
    unknown.metrics["mem"].known = False
    assert why(unknown) == "waiting"


def test_a_kernel_whose_key_vouches_for_it_does_not_wait_for_its_past():
    assert why(kernel(moved=None, judged=False, vouched=True)) is None
    assert why(kernel(moved=None, judged=False, vouched=True, key_read=False)) == "waiting"


def test_a_kernel_waits_for_a_rate_that_is_not_false_rather_than_show_none():
    unknown = kernel()
    unknown.metrics["cpu_util"].rate = None
    assert why(unknown) == "waiting"


def test_a_stalled_agents_kernels_are_withheld_and_no_others():
    assert why(kernel(), stalled_agents={"i-a"}) == "stalled"
    assert why(kernel(agent="i-b"), stalled_agents={"i-a"}) is None


def test_a_stalled_exporters_kernels_are_withheld_and_no_others():
    assert why(kernel(instance="a:1"), stalled_instances={"a:1"}) == "stalled"
    assert why(kernel(instance="b:1"), stalled_instances={"a:1"}) is None


def test_a_key_of_another_type_is_left_alone():
    assert why(kernel(), foreign={"k"}) == "foreign"
    assert why(kernel(), foreign={"another"}) is None


def test_a_key_that_its_agent_writes_is_left_to_it():
    assert why(kernel(), yielded={"k"}) == "yielded"


def test_the_reason_told_is_the_one_that_has_to_go_first():
    everything = {"stalled_agents": {"i-a"}, "foreign": {"k"}, "yielded": {"k"}}
    ended = kernel(moved=None, lacks=("mem",))
    told = []
    for mend in ("lacks", "stalled_agents", "moved", "foreign", "yielded"):
        told.append(why(ended, **everything))
        if mend in everything:
            del everything[mend]
        else:
            setattr(ended, mend, () if mend == "lacks" else NOW)
    assert told == ["incomplete", "stalled", "still", "foreign", "yielded"]
    assert why(ended, **everything) is None


def stalled(*kernels: KernelState, roundless: tuple[str, ...] = ("",)) -> set[str]:
    named = {str(place): one for place, one in enumerate(kernels)}
    return withhold.stalled_agents(named, roundless, NOW, PATIENCE)


IDLE = NOW - 300


def test_an_agent_without_rounds_of_which_nothing_moves_has_stalled():
    assert stalled(kernel(moved=IDLE), kernel(moved=IDLE)) == {"i-a"}


def test_an_agent_that_counts_its_rounds_is_well_however_idle_its_kernels_are():
    idle = [kernel(moved=IDLE, instance="a:1") for _ in range(2)]
    assert stalled(*idle, roundless=()) == set()
    assert stalled(*idle, roundless=("b:1",)) == set()


def test_one_moving_kernel_shows_that_its_agent_is_well():
    assert stalled(kernel(moved=IDLE), kernel(moved=NOW - 10)) == set()


def test_one_idle_kernel_alone_tells_nothing():
    assert stalled(kernel(moved=IDLE)) == set()


def test_kernels_whose_past_is_yet_to_come_tell_nothing():
    met = [kernel(moved=None, judged=False) for _ in range(2)]
    assert stalled(*met) == set()
    assert stalled(*met, kernel(moved=IDLE), kernel(moved=IDLE)) == {"i-a"}


def test_ended_kernels_do_not_make_a_stalled_agent():
    assert stalled(kernel(moved=None), kernel(moved=NOW - 5000), kernel(moved=IDLE)) == set()


def test_a_stalled_agent_says_nothing_of_another():
    well = [kernel(moved=NOW, agent="i-b"), kernel(moved=NOW, agent="i-b")]
    assert stalled(kernel(moved=IDLE), kernel(moved=IDLE), *well) == {"i-a"}


def told(due: Sequence[str], known: Mapping[str, KernelState], grounds: Grounds) -> dict[str, str]:
    found: dict[str, str] = {}
    for some in withhold.withheld(due, known, grounds, NOW, PATIENCE):
        found |= some
    return found


def test_all_that_is_withheld_is_told_and_of_those_due_the_rest_is_written():
    known = {"well": kernel(), "still": kernel(moved=None), "both": kernel(), "old": kernel()}
    grounds = Grounds(mixed=["both", "new"], stalled=["asleep", "old"])
    assert told(["well", "still", "old"], known, grounds) == {
        "still": "still", "both": "mixed", "new": "mixed", "asleep": "stalled", "old": "stalled"
    }  # fmt: skip


def test_a_kernel_that_was_scraped_in_mid_batch_is_told_why_it_is_not_written_anyway():
    grounds = Grounds(mixed=["k"])
    assert told(["k"], {"k": kernel(moved=None)}, grounds) == {"k": "still"}
    assert told(["k"], {"k": kernel()}, grounds) == {"k": "mixed"}


def test_of_many_that_are_due_each_is_told_and_no_portion_is_large():
    known = {f"k{number}": kernel(lacks=("mem",) if number % 2 else ()) for number in range(5001)}
    portions = [*withhold.withheld([*known], known, Grounds(), NOW, PATIENCE)]
    assert max(map(len, portions)) <= 1000
    assert [name for some in portions for name in some] == [*known][1::2]
