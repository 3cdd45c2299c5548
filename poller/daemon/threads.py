"""Threads that nobody waits for: name resolution that hangs must not hold up the end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

_MOST = 16
"""A store whose name does not resolve takes one a cycle; Prometheus' name needs one too."""


class AbandonedThreads(ThreadPoolExecutor):
    """The event loop's threads. It wants to join them at its end, and `getaddrinfo` may hang."""

    def __init__(self) -> None:
        super().__init__(max_workers=_MOST, thread_name_prefix="resolve")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work, and wait for none."""
        super().shutdown(wait=False, cancel_futures=True)
