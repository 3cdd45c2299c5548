"""Remembers what a poller asks of Prometheus, for the floor to ask the same."""

from __future__ import annotations

from typing import Any

from poller.prometheus.client import Client


class Asked:
    """The texts that were asked since `begin`, every client's of this process."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        ask = Client._ask

        async def remembering(client: Client, *arguments: Any, **more: Any) -> Any:
            self.texts.append(arguments[1])
            return await ask(client, *arguments, **more)

        Client._ask = remembering  # type: ignore[assignment, method-assign]

    def begin(self) -> None:
        """Forget what was asked so far."""
        self.texts = []
