"""How many made-up examples a property is tried with.

A run tries the same ones each time, so that what it says is of the code alone. To look for others,
`POLLER_TEST_EXAMPLES=50` tries fifty times as many, drawn anew.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_TIMES = int(os.environ.get("POLLER_TEST_EXAMPLES", "1"))


def examples(count: int) -> settings:
    """Return the settings for so many examples, or as many times that as are asked for."""
    return settings(
        max_examples=count * _TIMES,
        derandomize=_TIMES == 1,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
