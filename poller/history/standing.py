"""Plugins that stand still while the rounds of their agent go on. Pure state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from poller.format.catalog import Catalog
from poller.history.state import KernelState
from poller.values import Observation, Stamp

Told = Mapping[str, str] | Observation
"""The values of some metrics, by name."""
Plugin = tuple[str, str]
"""(exporter, name)."""
_WAITING = 0.5
"""A round in which a plugin hangs takes four intervals, so larger a share of all time."""
_TOGETHER = 2
"""So many kernels of an agent do not fall idle in one and the same round: a plugin failed."""


class Standing:
    """The `plugins` that fail while the others of their agent measure on."""

    def __init__(self, catalog: Catalog) -> None:
        self.plugins: set[Plugin] = set()
        self._movers: dict[Plugin, int] = {}
        self._told: dict[Plugin, set[str]] = {}
        self._looked: dict[str, float] = {}
        self._plugin_of = cache(lambda name: catalog[name].plugin)
        self._counts_up = cache(lambda name: catalog[name].cumulative)

    def of(self, instance: str) -> set[str]:
        """Return the names of an exporter's plugins that stand still."""
        return {name for where, name in self.plugins if where == instance}

    def holds(self, instance: str, metric: str) -> bool:
        """Whether the plugin that measures a metric stands still there."""
        return bool(self.plugins) and (instance, self._plugin_of(metric)) in self.plugins

    def clear(self) -> None:
        """Begin anew, as at a start."""
        self.plugins.clear()
        self._movers.clear()
        self._told.clear()
        self._looked.clear()

    def recall(self, kernel_id: str, instance: str, metric: str) -> None:
        """Take that a kernel's key tells of a rate: its plugin measured just before.

        Whoever starts while a plugin hangs has seen nothing of it move, and would tell 0.
        """
        plugin = (instance, self._plugin_of(metric))
        self._told.setdefault(plugin, set()).add(kernel_id)

    def find(
        self, read: Iterable[tuple[str, Told, Stamp]], known: Mapping[str, KernelState]
    ) -> None:
        """Find the plugins of which nothing moves on an agent where several kernels just did.

        `read` is what the kernels of one exporter told, and in which round.

        A hanging or failing plugin leaves its gauges as they were, and the rounds go on. Where no
        other plugin moves either, the kernels have fallen idle together. A plugin that has gauges
        alone is judged only in a round that took so long as one that waits for it: devices in
        steady use look the same, and a mean that leaves out their rounds is that of the others.
        Only what was seen in the look before counts: what glimpses leave out may have moved then.
        """
        moved: dict[Plugin, int] = {}
        judged: set[Plugin] = set()
        settled: set[str] = set()
        looked: dict[str, float] = {}
        for kernel_id, told, stamp in read:
            kernel = known.get(kernel_id)
            # A replica's scrape may see a round once more: nothing moves within it.
            if kernel is not None and stamp.follows(kernel.stamp):
                looked[stamp.instance] = stamp.number
                if not told.keys() <= settled:
                    self._note_moved(kernel, told, stamp, moved, settled, judged)
        self._looked |= looked
        moves = any(moved.values())
        for plugin, movers in moved.items():
            before = max(self._movers.get(plugin, 0), len(self._told.pop(plugin, ())))
            fell = before >= _TOGETHER and moves
            if not movers and plugin in judged and (fell or plugin in self.plugins):
                self.plugins.add(plugin)
            else:
                self.plugins.discard(plugin)
                self._movers[plugin] = movers

    def _note_moved(
        self,
        kernel: KernelState,
        told: Told,
        stamp: Stamp,
        moved: dict[Plugin, int],
        settled: set[str],
        judged: set[Plugin],
    ) -> None:
        """Count a kernel for each plugin of which something moved there.

        `settled` are the metrics of the plugins that enough kernels were counted for, `judged`
        takes the plugins that nothing moves of only where they fail.
        """
        instance = stamp.instance
        plugins: dict[Plugin, bool] = {}
        last = self._looked.get(instance)
        for name, value in told.items():
            plugin = (instance, self._plugin_of(name))
            if moved.get(plugin, 0) >= _TOGETHER:
                settled.add(name)
            kept = kernel.metrics.get(name)
            if kept is None or name in settled or plugins.get(plugin):
                continue
            is_behind = last is not None and kept.stamp is not None and kept.stamp.number != last
            if is_behind and not (plugin in self.plugins and kept.stood):
                continue  # it may have moved in a round that no look told it of
            text = value if isinstance(value, str) else value.current
            plugins[plugin] = kept.current != text
            if self._counts_up(name) or _waited(kept.stamp, stamp):
                judged.add(plugin)
        for plugin, changed in plugins.items():
            moved[plugin] = moved.get(plugin, 0) + changed


def _waited(before: Stamp | None, after: Stamp) -> bool:
    """Whether rounds took so long since a measurement as if they had waited for a plugin."""
    if before is None:
        return False
    return after.shift_s - before.shift_s > _WAITING * (after.scraped - before.scraped)
