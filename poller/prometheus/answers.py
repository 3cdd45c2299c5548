"""What Prometheus answers, as typed values: the rows of a vector, the series of a matrix."""

from __future__ import annotations

import msgspec

from poller.values import Drop, Part, is_canonical_uuid


class Labels(msgspec.Struct, gc=False):
    """The labels of a series that the poller reads; Prometheus may send more."""

    kernel_id: str | None = None
    container_metric_name: str | None = None
    value_type: str | None = None
    agent_id: str | None = None
    instance: str | None = None


class Row(msgspec.Struct, gc=False):
    """One series of an instant vector. `value` is (Unix seconds, number as text).

    A native histogram comes without `value`.
    """

    metric: Labels
    value: tuple[float, str] | None = None

    def fault(self, part: Part) -> Drop | None:
        """Why this row cannot serve in that part of the batch, as a metric label; or None."""
        if self.value is None:
            return "histogram"
        labels = self.metric
        if not labels.kernel_id:
            return "missing_label"
        if part == "rest" and not (labels.container_metric_name and labels.value_type):
            return "missing_label"
        return None if is_canonical_uuid(labels.kernel_id) else "bad_uuid"


class SetRow(msgspec.Struct, gc=False):
    """One series with every label it has: what tells duplicate series apart."""

    metric: dict[str, str]
    value: tuple[float, str] | None = None


class Series(msgspec.Struct, gc=False):
    """One series of a range vector. `values` are (Unix seconds, number as text), in order."""

    metric: dict[str, str]
    values: list[tuple[float, str]] = []
