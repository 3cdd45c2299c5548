"""Which kernels every exporter told of last: who vanished, who has no rounds. Counts: `census`."""

from __future__ import annotations

from collections.abc import Container, Mapping

from poller.rounds.rounds import Rounds
from poller.values import Batch, Stamp


class Living:
    """The kernels of each exporter's last answer, by exporter. Pure state.

    `held` is how many there were at its last measurement: it may have gone with them. `roundless`
    are the exporters with kernels that count no rounds.

    The names are in tuples: the collector leaves those alone that it has seen once, unlike sets.
    """

    def __init__(self) -> None:
        self.kernels: dict[str, tuple[str, ...]] = {}
        self.held: dict[str, int] = {}
        self.roundless: frozenset[str] = frozenset()

    @property
    def count(self) -> int:
        """How many kernels the exporters' last answers held."""
        return sum(map(len, self.kernels.values()))

    def all(self) -> set[str]:
        """Return the kernels of all exporters."""
        return set[str]().union(*self.kernels.values())

    def note(self, batch: Batch, stamped: Container[str]) -> set[str]:
        """Take who is there by a batch; return the kernels that vanished.

        `stamped` are the exporters whose rounds were read before.
        """
        told: dict[str, list[str]] = {}
        for kernel_id, observation in batch.observations.items():
            if observation:
                told.setdefault(batch.instances.get(kernel_id, ""), []).append(kernel_id)
        there = {name: tuple(kernels) for name, kernels in told.items()}
        before = self.kernels
        if batch.asked is None:
            gone = set(before)
            now = there
        else:
            asked = set(batch.asked)
            if batch.census is not None:  # an exporter that is not in it is gone
                asked |= before.keys() - batch.census.keys()
            gone = asked & before.keys()
            now = before | {name: there.get(name, ()) for name in asked}
        self.kernels = {name: kernels for name, kernels in now.items() if kernels}
        self.roundless = frozenset(
            name
            for name in self.kernels
            if name not in batch.stamps and name not in stamped and name not in batch.mixed
        )
        vanished = {kernel for name in gone for kernel in before[name]}
        return vanished - batch.observations.keys()

    def note_held(self, batch: Batch, stamps: Mapping[str, Stamp], rounds: Rounds) -> None:
        """Note how many kernels an exporter has while it measures; `stamps` are those before."""
        for name, stamp in batch.stamps.items():
            before = stamps.get(name)
            if before is None or before.number != stamp.number:
                self.held[name] = len(self.kernels.get(name, ()))
        self.held = {name: count for name, count in self.held.items() if rounds.of(name)}

    def clear(self) -> None:
        """Begin anew, as at a start."""
        self.kernels.clear()
        self.held.clear()
        self.roundless = frozenset()
