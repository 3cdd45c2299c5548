"""Statuses as a daemon would tell them: full, large, failing, standing by, hostile."""

from __future__ import annotations

from dataclasses import replace

from poller.daemon.status import (
    AgentStatus,
    CycleRecord,
    KernelFacts,
    Status,
    Trouble,
    WithheldKernel,
)

NOW = 1_800_000_000.0
PARTS = {
    "rounds": 0.02,
    "survey": 0.004,
    "query": 0.21,
    "merge": 0.05,
    "settle": 0.01,
    "history": 0.03,
    "backfill": 0.002,
    "write": 0.09,
}
EVIL = "<script>alert(1)</script>\"'&\u202e\x00"
"""What must never reach a browser as it is."""


def kernel_id(number: int) -> str:
    return f"{number * 2654435761 % (1 << 32):08x}-5d2b-4c3e-8a7f-{number:012x}"


def record(place: int, result: str = "success") -> CycleRecord:
    """Return the cycle so many intervals ago; its length varies a little."""
    scale = 1 + 0.3 * ((place * 7) % 5) / 5
    parts = {part: spent * scale for part, spent in PARTS.items()}
    if result == "failed":
        parts = {"query": 4.1}
        return CycleRecord(NOW - 5 * place, "failed", "timeout", 4.11, parts)
    spent = sum(parts.values()) + 0.004
    return CycleRecord(NOW - 5 * place, "success", "", spent, parts, 10)


def full() -> Status:
    """Return the status of a poller of a small cluster, with a little of everything."""
    agents = (
        AgentStatus("i-gpu-01", 4, False, "gather_measures", 17_211, 5.0, NOW - 2.5, False),
        AgentStatus("i-gpu-02", 4, False, "gather_measures", 17_208, 5.0, NOW - 4.0, True),
        AgentStatus(
            "i-gpu-03.very-long-name.cluster.example",
            2,
            True,
            "before_observe",
            912,
            30.0,
            NOW - 700,
            None,
        ),
    )
    return Status(
        version="1.0.0",
        now=NOW,
        started=NOW - 90_000,
        role="leads",
        interval_s=5.0,
        publishes_since=NOW - 7_500,
        last_success=NOW - 2,
        kernels=10,
        written=7,
        withheld={"stalled": 2, "still": 1},
        rival_keys=4,
        troubles=(
            Trouble(
                "agent i-gpu-03.very-long-name.cluster.example",
                "stalled",
                "its exporter answers but its measurements stand still; its kernels are withheld",
                "restart the agent's statistics, or the agent",
                NOW - 690,
                138,
            ),
        ),
        withheld_kernels=(
            WithheldKernel(kernel_id(8), "stalled", NOW - 690),
            WithheldKernel(kernel_id(9), "stalled", NOW - 690),
            WithheldKernel(kernel_id(10), "still", NOW - 3_700),
        ),
        cycles=tuple(record(place) for place in range(59, -1, -1)),
        agents=agents,
    )


def large() -> Status:
    """Return the status of a poller of 2,000 kernels on 150 agents."""
    agents = tuple(
        AgentStatus(
            f"i-node-{number:03}",
            13,
            number == 77,
            "gather_measures",
            40_000 + number,
            5.0,
            NOW - 3,
            False,
        )
        for number in range(150)
    )
    withheld = tuple(
        WithheldKernel(kernel_id(number), "stalled", NOW - 900) for number in range(1, 101)
    )
    return replace(
        full(),
        kernels=2_000,
        written=1_850,
        withheld={"stalled": 130, "still": 20},
        withheld_kernels=withheld,
        agents=agents,
    )


def failing() -> Status:
    """Return the status of a poller whose Prometheus does not answer."""
    cycles = [record(place) for place in range(40, 12, -1)]
    cycles += [record(place, "failed") for place in range(12, -1, -1)]
    return replace(
        full(),
        publishes_since=None,
        fails_since=NOW - 63,
        last_success=NOW - 65,
        rival_keys=0,
        why_not_ready="13 cycles failed one after another: prometheus",
        troubles=(
            Trouble(
                "prometheus",
                "timeout",
                "no answer within 4.1 s from http://prometheus.example:9090",
                "look at its load, or raise prometheus.timeout_s",
                NOW - 63,
                13,
            ),
        ),
        cycles=tuple(cycles),
    )


def standing_by() -> Status:
    """Return the status of the second of two pollers."""
    return Status(
        "1.0.0", NOW, NOW - 4_000, "stands by", 5.0, holder="poller-a:4711:8f3a9c", agents=()
    )


def starting() -> Status:
    """Return the status before the first cycle has ended."""
    return Status("1.0.0", NOW, NOW - 1, "does not lead", 5.0, why_not_ready="no good cycle yet")


def hostile() -> Status:
    """Return a status in which everything that comes from outside is an attack."""
    return replace(
        full(),
        holder=EVIL,
        why_not_ready=EVIL,
        withheld={EVIL: 3},
        failed_keys={EVIL: 1},
        troubles=(Trouble(EVIL, EVIL, EVIL, EVIL, NOW - 1, 1),),
        withheld_kernels=(WithheldKernel(EVIL, EVIL, NOW - 100),),
        cycles=(replace(record(0, "failed"), reason=EVIL),),
        agents=(AgentStatus(EVIL, 1),),
    )


def facts(kernel: str = kernel_id(1)) -> KernelFacts:
    """Return what is found of one kernel."""
    rows = (
        ("cpu_util", "current", "1485.2", "1485.2"),
        ("cpu_util", "capacity", "1000", "1000"),
        ("cpu_util", "pct", "148.52", "148.52"),
        ("mem", "current", "11811160064", "11811160000"),
        ("mem", "stats.max", "12884901888", "12884901888"),
        ("net_rx", "current", "351400.125", "-"),
    )
    return KernelFacts(kernel, ("key written 2.4 s ago, TTL 86398 s",), rows)
