"""What a run of the agent shall be like. Both ends know this module."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Self

NEVER = 1e9


@dataclass(frozen=True, slots=True)
class Options:
    """One run. Times are seconds from the first round on, which the first scrape starts."""

    redis: str
    """Host and port of the server that it writes to, database 0."""
    port: int
    """Where it exports its metrics."""
    agent_id: str = "i-real01"
    seed: int = 7
    interval_s: float = 3.0
    """It measures every so often."""
    kernels: int = 8
    accelerators: tuple[str, ...] = ("cuda",)
    """What every second kernel has."""
    burst_s: float = 0.0
    """The length of a phase; 0: all loads are constant. See `kernels.SHAPES`."""
    gauges_move: bool = True
    """Whether gauges change from round to round at random."""
    jitter_s: float = 0.0
    """A round takes up to so much longer, at random."""
    refuse_at_s: float = NEVER
    """From then on it is told that its writes were refused; they are stored all the same."""
    hang_at_s: float = NEVER
    hang_for_s: float = 0.0
    """A plugin that is asked at that time or later hangs once, for so long."""
    late: int = 0
    """So many kernels start late."""
    late_s: float = 15.0
    restart: int = 0
    """So many of the others restart: their counters begin anew."""
    restart_s: float = 30.0

    def to_json(self) -> str:
        """Return the argument of the program."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the options of an argument; TypeError where one is not known."""
        fields = json.loads(text)
        if "accelerators" in fields:
            fields["accelerators"] = tuple(fields["accelerators"])
        return cls(**fields)
