"""Scripted kernels: counters that grow, gauges that move, and the files they are read from."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .options import NEVER, Options

GIB = 1 << 30
MEMORY_LIMIT = 16 * GIB
_STEP_AT = 3.0

SHAPES: tuple[Callable[[float], float], ...] = (
    lambda phase: 1.0,
    lambda phase: float(int(phase) % 2 == 0),
    lambda phase: float(phase >= _STEP_AT),
    lambda phase: float(phase < _STEP_AT),
)
"""A kernel's share of its full load, by phases: constant, on and off, starting, ending."""


@dataclass(slots=True)
class Counters:
    """What only grows while a container lives, or how much it does in a second of full load."""

    cpu_usec: float = 0.0
    read: float = 0.0
    written: float = 0.0
    received: float = 0.0
    sent: float = 0.0

    def add(self, rates: Counters, busy_s: float) -> None:
        """Grow by so many seconds of full load."""
        self.cpu_usec += rates.cpu_usec * busy_s
        self.read += rates.read * busy_s
        self.written += rates.written * busy_s
        self.received += rates.received * busy_s
        self.sent += rates.sent * busy_s


@dataclass(slots=True)
class Kernel:
    """One kernel and its container; `number`, from 0, says its load's shape and its hardware."""

    number: int
    kernel_id: uuid.UUID
    session_id: uuid.UUID
    user_id: uuid.UUID
    project_id: uuid.UUID
    container_id: str
    pid: int
    counters: Counters
    rates: Counters
    memory: int
    accelerator_memory: int
    accelerator_load: float
    dice: random.Random
    start_s: float = 0.0
    restart_s: float = NEVER
    worked_s: float = field(default=0.0, init=False)

    @property
    def has_accelerator(self) -> bool:
        """Whether the accelerators measure it."""
        return self.number % 2 == 0

    def work(self, passed_s: float, options: Options) -> None:
        """Go on for so long."""
        shape = SHAPES[self.number % len(SHAPES)] if options.burst_s else SHAPES[0]
        phase = self.worked_s / options.burst_s if options.burst_s else 0.0
        self.worked_s += passed_s
        self.counters.add(self.rates, passed_s * shape(phase))
        if options.gauges_move:
            self._move_gauges()

    def _move_gauges(self) -> None:
        moved = self.memory + self.dice.randrange(-(1 << 26), 1 << 26)
        self.memory = max(1 << 20, min(MEMORY_LIMIT, moved))
        self.accelerator_load = self.dice.randrange(10_000) / 100

    def restart(self) -> None:
        """Begin the counters anew, as a container that is started again does."""
        self.counters = Counters(cpu_usec=5000.0)
        self.restart_s = NEVER


def make_kernels(options: Options) -> list[Kernel]:
    """Return the kernels of a run; one seed gives the same ones."""
    dice = random.Random(options.seed)
    made = [_make_kernel(number, dice) for number in range(options.kernels)]
    for kernel in made[: options.late]:
        kernel.start_s = options.late_s
    for kernel in made[options.late : options.late + options.restart]:
        kernel.restart_s = options.restart_s
    return made


def _make_kernel(number: int, dice: random.Random) -> Kernel:
    names = [uuid.UUID(int=dice.getrandbits(128), version=4) for _ in range(4)]
    return Kernel(
        number,
        *names,
        container_id=f"{dice.getrandbits(256):064x}",
        pid=100_000 + number,
        counters=_counters(dice, cpu_usec=9e4, read=1 << 20, network=1 << 12),
        rates=_counters(dice, cpu_usec=2.5e6, read=1 << 22, network=1 << 20),
        memory=dice.randrange(GIB // 4, 8 * GIB),
        accelerator_memory=dice.randrange(16 * GIB),
        accelerator_load=float(dice.randrange(100)),
        dice=random.Random(dice.random()),
    )


def _counters(dice: random.Random, cpu_usec: float, read: int, network: int) -> Counters:
    """Return counters of up to so much; none is zero, or it could not be told from a lost one."""
    return Counters(
        cpu_usec=dice.uniform(cpu_usec / 50, cpu_usec),
        read=dice.randrange(1000, read),
        written=dice.randrange(1000, read),
        received=dice.randrange(1000, network),
        sent=dice.randrange(1000, network),
    )


def write_files(kernel: Kernel, root: Path) -> None:
    """Write what the agent's plugins read of a container: control group v2, network devices."""
    folder = root / kernel.container_id
    folder.mkdir(exist_ok=True)
    for name, text in _files(kernel).items():
        (folder / name).write_text(text)


def _files(kernel: Kernel) -> dict[str, str]:
    grown = kernel.counters
    disk = f"8:0 rbytes={int(grown.read)} wbytes={int(grown.written)} rios=1 wios=1"
    network = f"eth0: {int(grown.received)} 0 0 0 0 0 0 0 {int(grown.sent)} 0 0 0 0 0 0 0"
    return {
        "cpu.stat": f"usage_usec {int(grown.cpu_usec)}\nuser_usec 0\nsystem_usec 0\n",
        "memory.current": f"{kernel.memory}\n",
        "memory.max": f"{MEMORY_LIMIT}\n",
        "memory.stat": "anon 0\ninactive_file 0\n",
        "io.stat": f"{disk} dbytes=0 dios=0\n",
        "net.dev": f"{network}\n",
    }
