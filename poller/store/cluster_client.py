"""A client of a Redis Cluster that loses only what a lost node holds.

The library's own fails a whole pipeline when one of its nodes is gone, and cannot start at all
while the node with the first slots is down. This one finds the owners of the slots, sends
pipelines to all nodes at once, and follows keys that move.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import redis.exceptions as gone_wrong
from redis.asyncio import Redis
from redis.crc import key_slot

from poller.store.first_answer import first

Address = tuple[str, int]
_SLOTS = 16_384
_REDIRECTIONS = 3
"""A key in motion is asked for at one node and then another; more would mean that they disagree."""
_HEAD_START = 0.25
"""So much of the time limit the settings' nodes have to tell the owners before others are asked."""
_BROKEN = (gone_wrong.ConnectionError, gone_wrong.TimeoutError, OSError, TimeoutError)


@dataclass(slots=True)
class _Command:
    """One command on one key, as a method of the library's pipeline, and where it goes next."""

    slot: int
    method: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    reply: Any = None
    address: Address | None = None
    asking: bool = False


@dataclass(slots=True)
class _Node:
    """A node's client. It is left alone until `rests_until`, by the monotonic clock."""

    client: Redis
    rests_until: float = float("-inf")
    failure: Exception = field(default_factory=gone_wrong.ConnectionError)


@dataclass(frozen=True, slots=True)
class Members:
    """What is known of a cluster: the owner of each slot, and the ids of its nodes."""

    owners: list[Address | None] = field(default_factory=lambda: [None] * _SLOTS)
    ids: frozenset[bytes] = frozenset()

    @property
    def addresses(self) -> list[Address]:
        """Every node that owns a slot."""
        return [one for one in dict.fromkeys(self.owners) if one is not None]


class Pipeline:
    """Collects commands on single keys; the calls are those of the library's pipeline."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._commands: list[_Command] = []

    def _add(self, key: str, method: str, *arguments: Any, **options: Any) -> None:
        slot = key_slot(key.encode())
        self._commands.append(_Command(slot, method, arguments, options))

    def get(self, key: str) -> None:
        """Add GET."""
        self._add(key, "get", key)

    def pttl(self, key: str) -> None:
        """Add PTTL."""
        self._add(key, "pttl", key)

    def set(self, key: str, value: bytes, **options: Any) -> None:
        """Add SET with the library's options."""
        self._add(key, "set", key, value, **options)

    def eval(self, script: str, keys: int, key: str, *arguments: Any) -> None:
        """Add EVAL of a script on one key."""
        self._add(key, "eval", script, keys, key, *arguments)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send everything; return the replies in order. Without raising, errors are among them."""
        replies = await self._cluster.run(self._commands)
        failure = next((reply for reply in replies if isinstance(reply, Exception)), None)
        if raise_on_error and failure is not None:
            raise failure
        return replies


class Cluster:
    """All nodes of a cluster. `make` returns the client of a node.

    `seeds` are the nodes of the settings. `known` is what was learned earlier: the seeds may be
    gone by now. A node that broke a connection is left alone for `rest_s` seconds, or every
    portion of a large write would wait for it.
    """

    def __init__(
        self,
        seeds: Sequence[Address],
        make: Callable[[str, int], Redis],
        rest_s: float,
        known: Members | None = None,
    ) -> None:
        self.known = known or Members()
        self._seeds = seeds
        self._make = make
        self._rest_s = rest_s
        self._nodes: dict[Address, _Node] = {}
        self._is_stale = True
        self._seeds_rest_until = float("-inf")
        self._learning = asyncio.Lock()

    @property
    def addresses(self) -> list[Address]:
        """Every node that is known."""
        return list(dict.fromkeys([*self.known.addresses, *self._seeds]))

    def pipeline(self, transaction: Literal[False]) -> Pipeline:
        """Return an empty pipeline. There are no transactions over several nodes."""
        return Pipeline(self)

    async def eval(self, script: str, keys: int, key: str, *arguments: Any) -> Any:
        """Run a script on the node that holds its one key."""
        pipe = Pipeline(self)
        pipe.eval(script, keys, key, *arguments)
        return (await pipe.execute())[0]

    async def execute_command(self, *words: Any) -> Any:
        """Run a command that belongs to no key on any node that answers."""
        failure: Exception = gone_wrong.ConnectionError("no node is known")
        for address in self.addresses:
            try:
                return await _ask(self._node(address).client, *words)
            except _BROKEN as error:
                failure = error
        raise failure

    async def owners(self) -> list[Redis]:
        """Return a client of every node that owns slots: all keys are on one of them."""
        await self._learn_if_stale()
        return [self._node(one).client for one in self.known.addresses]

    async def aclose(self) -> None:
        """Close every connection."""
        nodes, self._nodes = self._nodes, {}
        for node in nodes.values():
            await node.client.aclose()

    async def run(self, commands: Sequence[_Command]) -> list[Any]:
        """Run commands where their keys are; an error takes the place of a reply."""
        await self._learn_if_stale()
        waiting = list(commands)
        for command in waiting:
            command.address = self.known.owners[command.slot]
        for _ in range(1 + _REDIRECTIONS):
            await asyncio.gather(*(self._run_on(*group) for group in _by_node(waiting)))
            waiting = [command for command in waiting if self._is_redirected(command)]
            if not waiting:
                break
        return [command.reply for command in commands]

    async def _run_on(
        self, address: Address | None, asking: bool, commands: Sequence[_Command]
    ) -> None:
        replies = await self._replies(address, asking, commands)
        for command, reply in zip(commands, replies, strict=True):
            command.reply = reply
            if isinstance(reply, (gone_wrong.ClusterDownError, *_BROKEN)):
                self._is_stale = True  # perhaps another node has the slots by now

    async def _replies(
        self, address: Address | None, asking: bool, commands: Sequence[_Command]
    ) -> Sequence[Any]:
        if address is None:
            return [gone_wrong.ClusterDownError("no node owns the slot")] * len(commands)
        node = self._node(address)
        if time.monotonic() < node.rests_until:
            return [node.failure] * len(commands)
        pipe = node.client.pipeline(transaction=False)
        for command in commands:
            if asking:
                pipe.execute_command("ASKING")
            getattr(pipe, command.method)(*command.arguments, **command.options)
        try:
            replies = await pipe.execute(raise_on_error=False)
        except _BROKEN as error:
            node.rests_until, node.failure = time.monotonic() + self._rest_s, error
            return [error] * len(commands)
        if not asking:
            return replies
        return [
            asked if isinstance(asked, Exception) else reply
            for asked, reply in zip(replies[::2], replies[1::2], strict=True)
        ]

    def _is_redirected(self, command: _Command) -> bool:
        """Follow a key that is elsewhere; whether the command is to be sent again."""
        reply = command.reply
        if not isinstance(reply, gone_wrong.MovedError | gone_wrong.AskError):
            return False
        asked = command.address[0] if command.address else ""
        command.address = (reply.host or asked, reply.port)  # no host: that of the node asked
        command.asking = not isinstance(reply, gone_wrong.MovedError)
        if not command.asking:
            self.known.owners[command.slot] = command.address
            self._is_stale = True
        return True

    def _node(self, address: Address) -> _Node:
        if address not in self._nodes:
            self._nodes[address] = _Node(self._make(*address))
        return self._nodes[address]

    async def _learn_if_stale(self) -> None:
        async with self._learning:
            if self._is_stale:
                self.known = await self._learned()
                self._is_stale = False
                await self._forget_others()

    async def _learned(self) -> Members:
        """Ask the settings' nodes who is who, and the others where none of those answers soon.

        Those others may have left the cluster since.
        """
        others = [one for one in self.known.addresses if one not in self._seeds]
        asked = self._rested([*self._seeds, *others])
        if others and time.monotonic() >= self._seeds_rest_until:
            try:
                async with asyncio.timeout(_HEAD_START * self._rest_s):
                    return await first(map(self._ask_members, self._rested(self._seeds)))
            except TimeoutError:
                pass  # they may answer yet
            except (gone_wrong.RedisError, OSError):
                asked = self._rested(others)
            self._seeds_rest_until = time.monotonic() + self._rest_s
        return await first(map(self._ask_members, asked))

    def _rested(self, addresses: Sequence[Address]) -> list[Address]:
        """Return the nodes that may answer; all of them where none seems to."""
        now = time.monotonic()
        resting = {address for address, node in self._nodes.items() if now < node.rests_until}
        return [one for one in addresses if one not in resting] or list(addresses)

    async def _ask_members(self, address: Address) -> Members:
        """Ask one node who owns which slots."""
        told = _members(await _ask(self._node(address).client, "CLUSTER", "SLOTS"), address[0])
        if not told.addresses:
            raise gone_wrong.ClusterDownError("no slot has an owner")
        if address not in self._seeds and self.known.ids.isdisjoint(told.ids):
            raise gone_wrong.RedisClusterException("another cluster answers")
        return told

    async def _forget_others(self) -> None:
        for address in self._nodes.keys() - set(self.addresses):
            await self._nodes.pop(address).client.aclose()


def _members(ranges: Iterable[Sequence[Any]], asked: str) -> Members:
    """Return what CLUSTER SLOTS tells; a node that does not know its own host is the one asked."""
    owners: list[Address | None] = [None] * _SLOTS
    ids = set()
    for start, end, master, *replicas in ranges:
        host = master[0].decode() if master[0] else asked
        owners[start : end + 1] = [(host, master[1])] * (end + 1 - start)
        ids |= {node[2] for node in (master, *replicas)}
    return Members(owners, frozenset(ids))


async def _ask(client: Redis, *words: Any) -> Any:
    return await client.execute_command(*words)  # type: ignore[no-untyped-call]


def _by_node(
    commands: Iterable[_Command],
) -> list[tuple[Address | None, bool, list[_Command]]]:
    groups: dict[tuple[Address | None, bool], list[_Command]] = {}
    for command in commands:
        groups.setdefault((command.address, command.asking), []).append(command)
    return [(address, asking, group) for (address, asking), group in groups.items()]
