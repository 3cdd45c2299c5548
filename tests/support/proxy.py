"""A TCP proxy that fails on demand, in front of any server on loopback."""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
from dataclasses import dataclass

from .background import BackgroundService
from .process import HOST

_CHUNK_BYTES = 65536
_LINGER_ZERO = struct.pack("ii", 1, 0)


class Kind(enum.Enum):
    """What the proxy does to a connection."""

    PASS = "pass"
    REFUSE = "refuse"
    BLACKHOLE = "blackhole"
    RESET = "reset"
    TRUNCATE = "truncate"


@dataclass(frozen=True, slots=True)
class Fault:
    """A behaviour of the proxy. Made by the functions below.

    Bytes count from when the fault was set, or from a later start of the connection. After
    `times` strikes the proxy passes everything again.
    """

    kind: Kind
    after_request_bytes: int | None = None
    after_response_bytes: int | None = None
    delay_s: float = 0.0
    times: int | None = None

    @property
    def at_once(self) -> bool:
        """Whether it strikes before any byte."""
        return self.after_request_bytes is None and self.after_response_bytes is None


def passing(delay_s: float = 0.0) -> Fault:
    """Forward everything, each chunk of a response `delay_s` late."""
    return Fault(Kind.PASS, delay_s=delay_s)


def refusing() -> Fault:
    """Close the listening socket. Open connections go on; `cut` ends them."""
    return Fault(Kind.REFUSE)


def blackhole() -> Fault:
    """Accept and read, answer nothing. A connection that lost bytes to it stays lost."""
    return Fault(Kind.BLACKHOLE)


def reset(
    *,
    after_request_bytes: int | None = None,
    after_response_bytes: int | None = None,
    times: int | None = None,
) -> Fault:
    """Send RST: at once, to open connections too, or after so many bytes were passed on."""
    return Fault(Kind.RESET, after_request_bytes, after_response_bytes, times=times)


def truncate(after_response_bytes: int) -> Fault:
    """Close in the orderly way (FIN) after so many bytes of responses."""
    return Fault(Kind.TRUNCATE, None, after_response_bytes)


class _Connection:
    """One client's connection and its twin to the server."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.lost = False
        self.restart_count()

    def restart_count(self) -> None:
        self.request_bytes = self.response_bytes = 0

    def close(self) -> None:
        for writer in (self.client, self.server):
            if writer is not None:
                writer.close()

    def reset(self) -> None:
        raw = self.client.get_extra_info("socket")
        if raw is not None and raw.fileno() >= 0:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self.client.transport.abort()
        if self.server is not None:
            self.server.transport.abort()


class FaultProxy(BackgroundService):
    """Forward `port` to a server, as `fault` says. Use as a context manager, sync or async.

    Counts `connections` accepted, and `request_bytes` passed on to the server. `target_port` may
    change: new connections go there.
    """

    def __init__(self, target_port: int) -> None:
        super().__init__()
        self.target_port = target_port
        self._fault = passing()
        self._strikes = 0
        self._listener: asyncio.Server | None = None
        self._open_connections: set[_Connection] = set()
        self.connections = 0
        self.request_bytes = 0

    @property
    def open_connections(self) -> int:
        """How many clients are connected now."""
        return len(self._open_connections)

    @property
    def fault(self) -> Fault:
        """What the proxy does now; set it at any time, in force on return."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._loop.run(self._set_fault(fault))

    def cut(self, with_reset: bool = False) -> int:
        """End all open connections now, with FIN or RST; return how many there were."""
        return self._loop.call(lambda: self._cut(with_reset))

    async def _open(self) -> None:
        await self._listen()

    async def _close(self) -> None:
        self._stop_listening()
        self._cut(with_reset=False)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, self.host, self.port)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _set_fault(self, fault: Fault) -> None:
        self._fault, self._strikes = fault, 0
        for connection in self._open_connections:
            connection.restart_count()
        if fault.kind is Kind.REFUSE:
            self._stop_listening()
        else:
            await self._listen()
        if fault.kind is Kind.RESET and fault.at_once:
            for connection in list(self._open_connections):
                self._strike(connection)

    def _cut(self, with_reset: bool) -> int:
        connections = list(self._open_connections)
        for connection in connections:
            if with_reset:
                connection.reset()
            else:
                connection.close()
        return len(connections)

    def _strike(self, connection: _Connection) -> None:
        if self._fault.kind is Kind.RESET:
            connection.reset()
        else:
            connection.close()
        self._strikes += 1
        if self._strikes == self._fault.times:
            self._fault = passing()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = _Connection(writer)
        self._open_connections.add(connection)
        try:
            await self._join(connection, reader)
        except OSError:
            # The server is not there or has reset the connection: so does the proxy.
            connection.reset()
        finally:
            self._open_connections.discard(connection)
            connection.close()

    async def _join(self, connection: _Connection, client: asyncio.StreamReader) -> None:
        if self._fault.kind is Kind.RESET and self._fault.at_once:
            self._strike(connection)
            return
        if self._fault.kind is Kind.BLACKHOLE:
            await _swallow(client)
            return
        server, connection.server = await asyncio.open_connection(HOST, self.target_port)
        requests = asyncio.create_task(self._pass_requests(connection, client, connection.server))
        try:
            await self._pass_responses(connection, server)
        finally:
            requests.cancel()
            await asyncio.gather(requests, return_exceptions=True)

    async def _pass_requests(
        self, connection: _Connection, client: asyncio.StreamReader, server: asyncio.StreamWriter
    ) -> None:
        while chunk := await client.read(_CHUNK_BYTES):
            if self._is_lost(connection):
                continue
            passed = _within(self._fault.after_request_bytes, connection.request_bytes, chunk)
            connection.request_bytes += len(passed)
            self.request_bytes += len(passed)
            server.write(passed)
            await server.drain()
            if connection.request_bytes == self._fault.after_request_bytes:
                self._strike(connection)
                return
        server.write_eof()

    async def _pass_responses(self, connection: _Connection, server: asyncio.StreamReader) -> None:
        while chunk := await server.read(_CHUNK_BYTES):
            await asyncio.sleep(self._fault.delay_s)
            if self._is_lost(connection):
                continue
            passed = _within(self._fault.after_response_bytes, connection.response_bytes, chunk)
            connection.response_bytes += len(passed)
            connection.client.write(passed)
            await connection.client.drain()
            if connection.response_bytes == self._fault.after_response_bytes:
                self._strike(connection)
                return

    def _is_lost(self, connection: _Connection) -> bool:
        # Bytes that went missing cannot come back: later ones would be answers to other questions.
        connection.lost = connection.lost or self._fault.kind is Kind.BLACKHOLE
        return connection.lost


def _within(limit: int | None, done: int, chunk: bytes) -> bytes:
    return chunk if limit is None else chunk[: max(0, limit - done)]


async def _swallow(reader: asyncio.StreamReader) -> None:
    while await reader.read(_CHUNK_BYTES):
        pass
