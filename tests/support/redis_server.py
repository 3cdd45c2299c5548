"""A real Redis or Valkey server."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .process import HOST, Server, require
from .tls import TlsFiles

BINARY_VARIABLE = "POLLER_TEST_REDIS_BINARY"
ADMIN_NAME = "test-admin"
ADMIN_PASSWORD = "test-admin-password"


def redis_binary() -> str:
    """Return the path of redis-server, or of the binary that the environment names instead."""
    return require(os.environ.get(BINARY_VARIABLE, "redis-server"))


def connect(port: int, **options: Any) -> redis.Redis:
    """Return a client that fails at once and in seconds: no retries, short timeouts."""
    return redis.Redis(
        host=HOST,
        port=port,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=5,
        socket_connect_timeout=5,
        **options,
    )


class Redis(Server):
    """One standalone server, without persistence unless `persistent`.

    `acl` is the text of an ACL file; a user that may do anything is added to it for `client`
    and `command`. With `tls` the port speaks TLS only; `client_certificates` makes it
    demand one of the client. `settings` are more lines of redis.conf.
    """

    name = "redis"

    def __init__(
        self,
        *,
        password: str | None = None,
        acl: str | None = None,
        unix_socket: bool = False,
        tls: TlsFiles | None = None,
        client_certificates: bool = False,
        persistent: bool = False,
        settings: Sequence[str] = (),
    ) -> None:
        if password is not None and acl is not None:
            raise ValueError("an ACL file resets the default user: put the password there")
        self._binary = redis_binary()
        super().__init__()
        self.password = password
        self.socket_path = self.directory / "redis.sock" if unix_socket else None
        self._acl, self._tls = acl, tls
        # A file and not arguments: a failover rewrites it, so that a role outlives a restart.
        self.config_path = self.directory / "redis.conf"
        lines = [*self._basics(persistent), *self._access(client_certificates), *settings]
        self.config_path.write_text("\n".join(lines) + "\n")

    def _basics(self, persistent: bool) -> list[str]:
        return [
            f"bind {HOST}",
            f"dir {self.directory}",
            'save ""',
            f"appendonly {'yes' if persistent else 'no'}",
            "appendfsync always",
            "protected-mode no",
            "repl-diskless-sync-delay 0",
            "shutdown-timeout 0",
        ]

    def _access(self, client_certificates: bool) -> list[str]:
        lines = [f"port {0 if self._tls else self.port}"]
        if self.password is not None:
            lines += [f"requirepass {self.password}", f"masterauth {self.password}"]
        if self._acl is not None:
            lines.append(f"aclfile {self._write_acl(self._acl)}")
        if self.socket_path is not None:
            lines += [f"unixsocket {self.socket_path}", "unixsocketperm 700"]
        if self._tls is not None:
            lines += self._tls_lines(self._tls, client_certificates)
        return lines

    def _write_acl(self, text: str) -> Path:
        path = self.directory / "users.acl"
        path.write_text(f"{text.strip()}\nuser {ADMIN_NAME} on >{ADMIN_PASSWORD} ~* &* +@all\n")
        return path

    def _tls_lines(self, tls: TlsFiles, client_certificates: bool) -> list[str]:
        return [
            f"tls-port {self.port}",
            f"tls-ca-cert-file {tls.authority}",
            f"tls-cert-file {tls.certificate}",
            f"tls-key-file {tls.key}",
            f"tls-auth-clients {'yes' if client_certificates else 'no'}",
        ]

    @property
    def url(self) -> str:
        """The URL of database 0, with the password if there is one."""
        scheme = "rediss" if self._tls else "redis"
        credentials = f":{self.password}@" if self.password else ""
        return f"{scheme}://{credentials}{self.host}:{self.port}/0"

    @property
    def unix_url(self) -> str:
        """The URL of database 0 over the unix socket; RuntimeError where there is none."""
        if self.socket_path is None:
            raise RuntimeError("this server was made without unix_socket=True")
        credentials = f":{self.password}@" if self.password else ""
        return f"unix://{credentials}{self.socket_path}?db=0"

    def client(self, database: int = 0) -> redis.Redis:
        """Return a synchronous client that may do anything. The caller closes it."""
        options: dict[str, Any] = {"db": database, "password": self.password}
        if self._acl is not None:
            options |= {"username": ADMIN_NAME, "password": ADMIN_PASSWORD}
        if self._tls is not None:
            options |= {
                "ssl": True,
                "ssl_ca_certs": str(self._tls.authority),
                "ssl_certfile": str(self._tls.client_certificate),
                "ssl_keyfile": str(self._tls.client_key),
                "ssl_check_hostname": False,
            }
        return connect(self.port, **options)

    def command(self, *arguments: object) -> Any:
        """Run one command on its own connection and return the parsed reply."""
        with self.client() as client:
            return client.execute_command(*arguments)

    def _command(self) -> list[str]:
        return [self._binary, str(self.config_path)]

    def _is_ready(self) -> bool:
        try:
            return bool(self.command("PING"))
        except redis.RedisError:
            return False
