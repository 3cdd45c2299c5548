"""A Sentinel group: one master, one replica, three sentinels."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Self

import redis

from .process import HOST, Server, wait_until
from .redis_server import Redis, connect, redis_binary

SERVICE_NAME = "poller-test"
QUORUM = 2
_DOWN_AFTER_MS = 1000


class Sentinel(Server):
    """One sentinel process that watches one master."""

    name = "sentinel"

    def __init__(self, master: Redis, password: str | None) -> None:
        self._binary = redis_binary()
        super().__init__()
        self.password = password
        self._config_path = self.directory / "sentinel.conf"
        self._write_config(master)

    def _write_config(self, master: Redis) -> None:
        lines = [
            f"port {self.port}",
            f"bind {HOST}",
            f"dir {self.directory}",
            "protected-mode no",
            f"sentinel monitor {SERVICE_NAME} {HOST} {master.port} {QUORUM}",
            f"sentinel down-after-milliseconds {SERVICE_NAME} {_DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE_NAME} {3 * _DOWN_AFTER_MS}",
            f"sentinel parallel-syncs {SERVICE_NAME} 1",
        ]
        if master.password is not None:
            lines.append(f"sentinel auth-pass {SERVICE_NAME} {master.password}")
        if self.password is not None:
            lines += [f"requirepass {self.password}", f"sentinel sentinel-pass {self.password}"]
        self._config_path.write_text("\n".join(lines) + "\n")

    def command(self, *arguments: str) -> Any:
        """Run one command on its own connection and return the plain reply."""
        with connect(self.port, password=self.password, protocol=2) as client:
            client.response_callbacks.clear()
            return client.execute_command(*arguments)

    def master_port(self) -> int:
        """Return the port of the master as this sentinel sees it."""
        reply = self.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE_NAME)
        return int(reply[1])

    def facts(self) -> dict[str, str]:
        """Return the fields of SENTINEL MASTER."""
        reply = self.command("SENTINEL", "MASTER", SERVICE_NAME)
        texts = [field.decode() for field in reply]
        return dict(zip(texts[::2], texts[1::2], strict=True))

    def knows(self, sentinels: int, replicas: int) -> bool:
        """Return whether it sees a healthy master with as many others around it."""
        facts = self.facts()
        return (
            facts["flags"] == "master"
            and int(facts["num-other-sentinels"]) >= sentinels
            and int(facts["num-slaves"]) >= replicas
        )

    def _command(self) -> list[str]:
        return [self._binary, str(self._config_path), "--sentinel"]

    def _is_ready(self) -> bool:
        try:
            return bool(self.command("PING"))
        except redis.RedisError:
            return False


class SentinelGroup:
    """One master, one replica and three sentinels with a quorum of two.

    `password` is that of the servers, `sentinel_password` that of the sentinels.
    """

    def __init__(
        self,
        *,
        password: str | None = None,
        sentinel_password: str | None = None,
    ) -> None:
        self.password, self.sentinel_password = password, sentinel_password
        self.servers: list[Redis] = []
        self.sentinels: list[Sentinel] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._start(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _start(self, stack: ExitStack) -> None:
        master = stack.enter_context(Redis(password=self.password))
        following = [f"replicaof {HOST} {master.port}"]
        replica = stack.enter_context(Redis(password=self.password, settings=following))
        self.servers = [master, replica]
        wait_until(lambda: _is_linked(replica), "the replica follows its master")
        self.sentinels = [
            stack.enter_context(Sentinel(master, self.sentinel_password)) for _ in range(3)
        ]
        self.wait_settled()

    def url(self, database: int = 0) -> str:
        """Return the URL of all sentinels, without the passwords."""
        nodes = ",".join(f"{one.host}:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{nodes}/{SERVICE_NAME}/{database}"

    def server(self, port: int) -> Redis:
        """Return the server on `port`, dead or alive."""
        return next(server for server in self.servers if server.port == port)

    def master_port(self) -> int:
        """Return the port of the master that most running sentinels name."""
        votes = [sentinel.master_port() for sentinel in self.sentinels if sentinel.running]
        return max(set(votes), key=votes.count)

    def master(self) -> Redis:
        """Return the server that is master now."""
        return self.server(self.master_port())

    def kill_master(self) -> int:
        """Kill the master and return its port. `server(port).start()` brings it back.

        It then says for about 10 s that it is a master still: Sentinel waits so long before it
        makes it follow the new one.
        """
        port = self.master_port()
        self.server(port).kill()
        return port

    def wait_promotion(self, old_port: int | None = None) -> int:
        """Wait until all sentinels name the same living master; return its port.

        `old_port` is the one it must not be; without it, any dead server's.
        """
        dead = {server.port for server in self.servers if not server.running}
        refused = dead if old_port is None else {old_port}
        wait_until(lambda: self._is_promoted(refused), "a new master")
        return self.master_port()

    def _is_promoted(self, refused: set[int]) -> bool:
        running = [sentinel for sentinel in self.sentinels if sentinel.running]
        ports = {sentinel.master_port() for sentinel in running}
        return len(ports) == 1 and not ports & refused and _is_master(self.server(ports.pop()))

    def wait_settled(self) -> None:
        """Wait until every sentinel knows the master, the replica and the other sentinels."""
        others = len(self.sentinels) - 1
        wait_until(
            lambda: all(sentinel.knows(others, 1) for sentinel in self.sentinels),
            "a settled group",
        )


def _is_master(server: Redis) -> bool:
    return server.running and bool(server.command("ROLE")[0] == b"master")


def _is_linked(server: Redis) -> bool:
    role = server.command("ROLE")
    return bool(role[0] == b"slave" and role[3] == b"connected")
