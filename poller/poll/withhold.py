"""Which kernels are not written, why: waiting (for `backfill`), foreign, yielded, stalled. Pure.

A key that is not written stays as it is. Being silent is always safe: an idle checker skips a
key that it misses and reads an old one as it was; a wrong zero ends a session.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from poller.format.catalog import ESSENTIAL
from poller.history.state import KernelState
from poller.values import Patience, portions

Reason = Literal["waiting", "incomplete", "still", "stalled", "mixed", "foreign", "yielded"]
"""`waiting`: the past is yet to come. `incomplete`: a metric is missing. `still`: nothing has
moved, it has ended. `stalled`: its agent stands still. `mixed`: scraped in mid-batch. `foreign`:
its key has another type. `yielded`: left to an agent that writes."""
REASONS: tuple[Reason, ...] = get_args(Reason)

_BELIEVED = 0.5
"""Share of the patience with agents after which one has stalled of which nothing moves. The whole
is as long as the window of a rate, so that a rate would be 0 a scrape and a poll before."""

_PORTION = 2000
"""Kernels that are decided on before the event loop may have its turn: some 10 ms."""


@dataclass(frozen=True, slots=True)
class Grounds:
    """What decides beside the kernels' own state: exporters, agents and kernels by name.

    `stalled` are all kernels of the exporters whose rounds stand still, due or not.
    """

    stalled_instances: Container[str] = frozenset()
    stalled_agents: Container[str] = frozenset()
    foreign: Container[str] = frozenset()
    yielded: Container[str] = frozenset()
    mixed: Iterable[str] = frozenset()
    stalled: Iterable[str] = frozenset()


def stalled_agents(
    kernels: Mapping[str, KernelState],
    roundless: Iterable[str],
    now: float,
    patience: Patience,
) -> set[str]:
    """Return the agents that count no rounds and of whose several kernels none moves at all.

    Kernels whose past is yet to come tell nothing.
    """
    exporters = set(roundless)
    moving: dict[str, list[bool]] = {}
    for kernel in kernels.values() if exporters else ():
        agent = kernel.agent
        if agent is None or kernel.instance not in exporters or not kernel.judged:
            continue
        if is_still(kernel, now, patience):
            continue
        believed_s = _BELIEVED * patience.stall_s
        moves = kernel.moved is not None and now - kernel.moved <= believed_s
        moving.setdefault(agent, []).append(moves)
    return {agent for agent, moves in moving.items() if len(moves) > 1 and not any(moves)}


def is_still(kernel: KernelState, now: float, patience: Patience) -> bool:
    """Whether nothing of the kernel has moved for so long that it must have ended."""
    if kernel.moved is None:
        return kernel.judged
    return now - kernel.moved > patience.still_s


def withheld(
    due: Sequence[str],
    known: Mapping[str, KernelState],
    grounds: Grounds,
    now: float,
    patience: Patience,
) -> Iterator[dict[str, Reason]]:
    """Yield the kernels that are not written now, and why; of those due, all others are.

    A later reason goes before an earlier one. The caller may see to something else after each
    portion.
    """
    yield dict.fromkeys(grounds.mixed, "mixed")
    for some in portions(due, _PORTION):
        reasons = {kernel: reason(kernel, known[kernel], grounds, now, patience) for kernel in some}
        yield {kernel: why for kernel, why in reasons.items() if why is not None}
    yield dict.fromkeys(grounds.stalled, "stalled")


def reason(
    kernel_id: str, kernel: KernelState, grounds: Grounds, now: float, patience: Patience
) -> Reason | None:
    """Why a kernel is not written now; None: it is."""
    if kernel.lacks:
        return "incomplete"
    if kernel.instance in grounds.stalled_instances or kernel.agent in grounds.stalled_agents:
        return "stalled"
    if not (kernel.judged or kernel.vouched) or not kernel.key_read:
        return "waiting"
    if is_still(kernel, now, patience):
        return "still"
    for name in ESSENTIAL:
        if not _is_known(kernel, name):
            return "waiting"
    if kernel_id in grounds.foreign:
        return "foreign"
    return "yielded" if kernel_id in grounds.yielded else None


def _is_known(kernel: KernelState, name: str) -> bool:
    kept = kernel.metrics[name]
    return kept.known and (name != ESSENTIAL[0] or kept.rate is not None)
