"""Several series of one kernel: which of them counts. Pure.

A ghost of `undefined` owners, a replica, an agent that restarted under another name: adding them
up doubles a kernel's memory, and a maximum keeps alive what stands still.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from poller.format import numbers
from poller.prometheus.answers import SetRow
from poller.values import Batch, Reading, Stamp

Identity = frozenset[tuple[str, str]]
"""The labels that are left after the metric's name and value type: one exporter's view of one
kernel, or a ghost of it."""
Rank = tuple[bool, bool, bool, bool, float]
"""Fresh, moving, owned, read before, newest sample: of several sets the one with the largest
counts."""
_OWNERS = ("session_id", "user_id", "project_id")
_ASIDE = frozenset({"__name__", "container_metric_name", "value_type"})


@dataclass(frozen=True, slots=True)
class Sets:
    """The answers that tell duplicate series apart: values, sample times, changes."""

    values: Sequence[SetRow]
    stamps: Sequence[SetRow]
    changes: Sequence[SetRow]


def _identity(row: SetRow) -> Identity:
    return frozenset(item for item in row.metric.items() if item[0] not in _ASIDE)


def _numbered(rows: Iterable[SetRow]) -> Iterable[tuple[Identity, float]]:
    for row in rows:
        if row.value is not None and numbers.fault(row.value.text) is None:
            yield _identity(row), float(row.value.text)


def _ranks(sets: Sets, tolerance_s: float, homes: Mapping[str, str]) -> Mapping[Identity, Rank]:
    """Rank each set of series."""
    stamps: dict[Identity, float] = {}
    for identity, stamp in _numbered(sets.stamps):
        stamps[identity] = max(stamp, stamps.get(identity, 0.0))
    moves: Counter[Identity] = Counter()
    for identity, changes in _numbered(sets.changes):
        moves[identity] += int(changes)
    newest: dict[str, float] = {}
    for identity, stamp in stamps.items():
        kernel = dict(identity).get("kernel_id", "")
        newest[kernel] = max(stamp, newest.get(kernel, 0.0))
    ranks = {}
    for identity, stamp in stamps.items():
        labels = dict(identity)
        kernel = labels.get("kernel_id", "")
        fresh = stamp >= newest[kernel] - tolerance_s
        owned = all(labels.get(label) != "undefined" for label in _OWNERS)
        at_home = homes.get(kernel) == labels.get("instance", "")
        ranks[identity] = (fresh, moves[identity] > 0, owned, at_home, stamp)
    return ranks


def settle(
    batch: Batch,
    sets: Sets,
    tolerance_s: float,
    stamp_of: Callable[[Identity], Stamp | None],
    homes: Mapping[str, str],
) -> Batch:
    """Return the batch with each conflict's values taken from its best set of series.

    `stamp_of` tells which round the exporter with these labels is in, `homes` of which exporter
    each kernel was read before.

    The rule, per kernel: a set whose newest sample is within `tolerance_s` of the newest of
    all goes before one left behind (an agent that restarted under another instance); one that
    moves before one that stands still; an owned one before one of `undefined` owners; one of the
    exporter that was read before, since no rate follows from rounds of two; then the newest
    sample. A metric that the best set lacks comes from the next.
    """
    ranks = _ranks(sets, tolerance_s, homes)
    worst = (False, False, False, False, 0.0)
    best: dict[tuple[str, str, str], tuple[Rank, float, str]] = {}
    for row in sets.values:
        kernel = row.metric.get("kernel_id", "")
        if kernel not in batch.conflicts or row.value is None or numbers.fault(row.value.text):
            continue
        place = (
            kernel,
            row.metric.get("container_metric_name", ""),
            row.metric.get("value_type", ""),
        )
        text = row.value.text
        claim = (ranks.get(_identity(row), worst), float(text), text)
        if place not in best or claim > best[place]:
            best[place] = claim
    settled = _replaced(batch, {place: claim[2] for place, claim in best.items()})
    stamps = _own_stamps(batch, ranks, stamp_of)
    instances = {kernel: stamp.instance for kernel, stamp in stamps.items()}
    return replace(settled, own_stamps=stamps, instances={**batch.instances, **instances})


def _own_stamps(
    batch: Batch,
    ranks: Mapping[Identity, Rank],
    stamp_of: Callable[[Identity], Stamp | None],
) -> dict[str, Stamp]:
    """Return the round of each conflict's best set."""
    best: dict[str, tuple[Rank, Identity]] = {}
    for identity, rank in ranks.items():
        kernel = dict(identity).get("kernel_id", "")
        if kernel in batch.conflicts and (kernel not in best or rank > best[kernel][0]):
            best[kernel] = (rank, identity)
    stamps = {kernel: stamp_of(identity) for kernel, (_, identity) in best.items()}
    return {kernel: stamp for kernel, stamp in stamps.items() if stamp is not None}


def _replaced(batch: Batch, chosen: Mapping[tuple[str, str, str], str]) -> Batch:
    observations = dict(batch.observations)
    for kernel in batch.conflicts:
        observations[kernel] = {
            name: Reading(
                chosen.get((kernel, name, "current"), reading.current),
                chosen.get((kernel, name, "capacity"), reading.capacity),
                reading.rate,
            )
            for name, reading in observations[kernel].items()
        }
    return replace(batch, observations=observations, conflicts=frozenset())
