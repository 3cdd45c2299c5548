"""What one Redis server executed, in its own order: read off its MONITOR stream."""

from __future__ import annotations

import ast
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import Self

from .servers import HOST, Redis

_LINE = re.compile(r"\+(?P<time>[\d.]+) \[\d+ (?P<address>[^\]]*)\] (?P<words>.*)")
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Executed:
    """One command. `client` is the name that its connection gave itself; `lua` in a script."""

    time: float
    client: str
    words: tuple[bytes, ...]

    @property
    def name(self) -> str:
        """The command's name in upper case."""
        return self.words[0].decode().upper()


@dataclass(slots=True)
class Monitor:
    """Collects what a server executes, from a thread of its own. Use as a context manager."""

    server: Redis
    commands: list[Executed] = field(default_factory=list)
    seen: dict[str, float] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    _socket: socket.socket | None = None
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._socket = socket.create_connection((HOST, self.server.port))
        self._socket.sendall(b"MONITOR\r\n")
        self._thread = threading.Thread(target=self._read, name="monitor", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._socket is not None and self._thread is not None:
            self._socket.shutdown(socket.SHUT_RDWR)
            self._thread.join()
            self._socket.close()

    def _read(self) -> None:
        assert self._socket is not None
        with self._socket.makefile("r", encoding="ascii", newline="\r\n") as lines:
            for line in lines:
                match = _LINE.match(line)
                if match:
                    self._take(float(match["time"]), match["address"], match["words"])

    def _take(self, stamp: float, address: str, text: str) -> None:
        words = tuple(ast.literal_eval(f'b"{word}"') for word in _WORD.findall(text))
        if words[0].upper() == b"CLIENT" and words[1].upper() == b"SETNAME":
            self._names[address] = words[2].decode()
        client = self._names.get(address, address)
        self.seen[client] = time.monotonic()
        self.commands.append(Executed(stamp, client, words))
