"""Which kernels are not written, and why. Pure.

A key that is not written stays as it is. Being silent is always safe: an idle checker skips a
key that it misses and reads an old one as it was; a wrong zero ends a session.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from poller.format.catalog import ESSENTIAL
from poller.poll.state import KernelHistory

Reason = Literal["waiting", "incomplete", "still", "stalled"]
REASONS: tuple[Reason, ...] = ("waiting", "incomplete", "still", "stalled")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long standing still is believed, in seconds.

    `still_s`: a kernel of which nothing moved for longer is taken to have ended.
    `stall_s`: an agent of which nothing moved for longer is taken to have stalled.
    """

    still_s: float
    stall_s: float


def stalled_agents(
    kernels: Mapping[str, KernelHistory],
    rounds: Mapping[str, float],
    now: float,
    patience: Patience,
) -> set[str]:
    """Return the agents whose exporter answers while their measurements stand still.

    Where an agent counts its rounds, they decide; otherwise an agent is stalled where it has
    several living kernels and none of them moves at all.
    """
    stalled = {agent for agent, per_second in rounds.items() if per_second <= 0}
    moving: dict[str, list[bool]] = {}
    for kernel in kernels.values():
        agent = kernel.agent
        if agent is None or agent in rounds or is_still(kernel, now, patience):
            continue
        moves = kernel.moved is not None and now - kernel.moved <= patience.stall_s
        moving.setdefault(agent, []).append(moves)
    return stalled | {agent for agent, moves in moving.items() if len(moves) > 1 and not any(moves)}


def is_still(kernel: KernelHistory, now: float, patience: Patience) -> bool:
    """Whether nothing of the kernel has moved for so long that it must have ended."""
    if kernel.moved is None:
        return kernel.judged
    return now - kernel.moved > patience.still_s


def reason(
    kernel: KernelHistory, stalled: Iterable[str], now: float, patience: Patience
) -> Reason | None:
    """Why a kernel of the last batch is not written now; None: it is."""
    if not kernel.complete:
        return "incomplete"
    if kernel.agent is not None and kernel.agent in stalled:
        return "stalled"
    if not kernel.judged or not kernel.key_read:
        return "waiting"
    if is_still(kernel, now, patience):
        return "still"
    if not all(kernel.metrics[name].known for name in ESSENTIAL):
        return "waiting"
    return None
