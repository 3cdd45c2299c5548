"""The daemon's endpoints without a daemon: they tell the status that a test gives them."""

from __future__ import annotations

from poller.daemon.http import Endpoints
from poller.daemon.metrics import Telemetry
from poller.daemon.status import LookUp, Status

from .background import BackgroundService


class StatusServer(BackgroundService):
    """Listens on `port`; `status` may be changed while it does."""

    def __init__(self, status: Status, look_up: LookUp | None = None) -> None:
        super().__init__()
        self.status = status
        self._endpoints = Endpoints(Telemetry(), lambda: self.status, look_up)

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    async def _open(self) -> None:
        await self._endpoints.start(self.host, self.port)

    async def _close(self) -> None:
        await self._endpoints.stop()
