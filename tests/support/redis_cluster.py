"""A Redis Cluster of three masters."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import permutations
from typing import Any, Self

import redis
from redis.crc import key_slot

from .process import HOST, free_port, wait_until
from .redis_server import Redis

SLOTS = 16384
RANGES = ((0, 5460), (5461, 10922), (10923, 16383))
_MIGRATE_TIMEOUT_MS = 5000
_NODE_TIMEOUT_MS = 1000


class ClusterNode(Redis):
    """One master of a cluster."""

    name = "cluster-node"

    def __init__(self, password: str | None) -> None:
        self.bus_port = free_port()
        super().__init__(
            password=password,
            settings=[
                "cluster-enabled yes",
                f"cluster-port {self.bus_port}",
                f"cluster-node-timeout {_NODE_TIMEOUT_MS}",
                "cluster-require-full-coverage no",
            ],
        )

    def cluster(self, *arguments: str | int) -> Any:
        """Run one CLUSTER subcommand and return the plain reply."""
        with self.client() as client:
            client.response_callbacks.clear()
            return client.execute_command("CLUSTER", *arguments)

    def node_id(self) -> str:
        """Return the id of this node in the cluster."""
        return _text(self.cluster("MYID"))

    def facts(self) -> dict[str, str]:
        """Return the fields of CLUSTER INFO."""
        lines = _text(self.cluster("INFO")).split()
        return dict(line.split(":", 1) for line in lines)


class RedisCluster:
    """Three masters, a third of the slots each, no replicas. Use as a context manager.

    A dead node takes only its own slots away: full coverage is not required.
    """

    def __init__(self, *, password: str | None = None) -> None:
        self.password = password
        self.nodes: list[ClusterNode] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.nodes = [stack.enter_context(ClusterNode(self.password)) for _ in RANGES]
            self._join()
            self.wait_healthy()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _join(self) -> None:
        for epoch, (node, slots) in enumerate(zip(self.nodes, RANGES, strict=True), start=1):
            node.cluster("SET-CONFIG-EPOCH", epoch)
            node.cluster("ADDSLOTSRANGE", *slots)
        for node, other in permutations(self.nodes, 2):
            node.cluster("MEET", HOST, other.port, other.bus_port)

    @property
    def url(self) -> str:
        """The URL of all nodes, without the password."""
        return "redis+cluster://" + ",".join(f"{node.host}:{node.port}" for node in self.nodes)

    def wait_healthy(self) -> None:
        """Wait until every running node sees all nodes and a cluster that serves all it can."""
        wait_until(lambda: all(map(self._is_healthy, self._running())), "a cluster")

    def _running(self) -> list[ClusterNode]:
        return [node for node in self.nodes if node.running]

    def _is_healthy(self, node: ClusterNode) -> bool:
        facts = node.facts()
        return (
            facts["cluster_state"] == "ok"
            and int(facts["cluster_known_nodes"]) == len(self.nodes)
            and (len(self._running()) < len(self.nodes) or int(facts["cluster_slots_ok"]) == SLOTS)
        )

    def kill_node(self, index: int) -> None:
        """Kill one node; its slots are then served by nobody."""
        self.nodes[index].kill()

    def restart_node(self, index: int) -> None:
        """Bring a killed node back with its id and slots, but empty; wait until all is healthy.

        The others trust it again only after two node timeouts.
        """
        self.nodes[index].start()
        self.wait_healthy()

    def owner(self, slot: int) -> int:
        """Return the index of the node that owns `slot` by its own account."""
        return next(i for i, node in enumerate(self.nodes) if node.running and _owns(node, slot))

    def keys(self) -> set[str]:
        """Return the keys of all running nodes."""
        return {_text(key) for node in self._running() for key in node.command("KEYS", "*")}

    def move_slot(self, slot: int, to: int) -> None:
        """Move one slot with its keys to the node at index `to`, as a live resharding does."""
        self.begin_move(slot, to)
        self.migrate_keys(slot, to)
        self.finish_move(slot, to)

    def begin_move(self, slot: int, to: int) -> None:
        """Open the move: from now on the old owner answers ASK for keys that it lacks."""
        source, target = self.nodes[self.owner(slot)], self.nodes[to]
        target.cluster("SETSLOT", slot, "IMPORTING", source.node_id())
        source.cluster("SETSLOT", slot, "MIGRATING", target.node_id())

    def migrate_keys(self, slot: int, to: int) -> int:
        """Hand the keys of a slot in motion to the node at index `to`; return how many."""
        source, target = self.nodes[self.owner(slot)], self.nodes[to]
        login = ["AUTH", self.password] if self.password else []
        moved = 0
        while keys := source.cluster("GETKEYSINSLOT", slot, 100):
            where = [HOST, target.port, "", 0, _MIGRATE_TIMEOUT_MS]
            source.command("MIGRATE", *where, *login, "KEYS", *keys)
            moved += len(keys)
        return moved

    def finish_move(self, slot: int, to: int) -> None:
        """Make the node at index `to` the owner: from now on the old one answers MOVED."""
        target = self.nodes[to]
        identity = target.node_id()
        for node in (target, *(node for node in self._running() if node is not target)):
            node.cluster("SETSLOT", slot, "NODE", identity)


def slot_of(key: str) -> int:
    """Return the slot of a key."""
    return int(key_slot(key.encode()))


def _owns(node: ClusterNode, slot: int) -> bool:
    own = next(line for line in _text(node.cluster("NODES")).splitlines() if "myself" in line)
    spans = [word.split("-") for word in own.split()[8:] if not word.startswith("[")]
    return any(int(span[0]) <= slot <= int(span[-1]) for span in spans)


def _text(reply: object) -> str:
    if isinstance(reply, bytes):
        return reply.decode()
    raise redis.RedisError(f"a text was expected, not {reply!r}")
