"""What is scripted of the real agent: its options, and how its kernels move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.agent.options import Options
from tests.support.agent.stage import Stage
from tests.support.hand_clock import HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def begun(root: Path, clock: HandClock, **options: Any) -> Stage:
    """Return a stage whose kernels were measured and scraped once, and so may move."""
    stage = Stage(Options("127.0.0.1:1", 1, kernels=4, **options), root, clock)
    stage.begin()
    stage.advance()
    stage.scrapes += 1
    return stage


def cpu_usec(stage: Stage) -> list[int]:
    """Return what the agent reads of each container, or -1 where there is nothing."""
    paths = [stage.root / kernel.container_id / "cpu.stat" for kernel in stage.kernels]
    return [int(one.read_text().split()[1]) if one.is_file() else -1 for one in paths]


def growth(stage: Stage, clock: HandClock, for_s: float) -> list[float]:
    """Return each kernel's load over so long, as a share of its full one."""
    before = cpu_usec(stage)
    clock.now += for_s
    stage.advance()
    full = [kernel.rates.cpu_usec * for_s for kernel in stage.kernels]
    now = cpu_usec(stage)
    return [round((b - a) / one, 3) for a, b, one in zip(before, now, full, strict=True)]


def test_options_reach_the_program_as_they_are():
    options = Options("127.0.0.1:1", 2, accelerators=("cuda", "rocm"), late=1, hang_at_s=20.0)
    assert Options.from_json(options.to_json()) == options
    with pytest.raises(TypeError):
        Options.from_json('{"redis": "", "port": 1, "unknown": 1}')


def test_loads_are_constant_where_nothing_else_is_said(tmp_path, clock: HandClock):
    stage = begun(tmp_path, clock)
    for _ in range(5):
        assert growth(stage, clock, 3.0) == [1.0, 1.0, 1.0, 1.0]


def test_of_four_kernels_each_has_a_load_of_its_own(tmp_path, clock: HandClock):
    stage = begun(tmp_path, clock, burst_s=8.0)
    phases = [growth(stage, clock, 8.0) for _ in range(5)]
    assert list(zip(*phases, strict=True)) == [
        (1, 1, 1, 1, 1),
        (1, 0, 1, 0, 1),
        (0, 0, 0, 1, 1),
        (1, 1, 1, 0, 0),
    ]


def test_a_kernel_stands_still_until_a_scrape_has_seen_it(tmp_path, clock: HandClock):
    stage = begun(tmp_path, clock)
    stage.scrapes = 0
    assert growth(stage, clock, 3.0) == [0, 0, 0, 0]
    stage.scrapes = 1
    assert growth(stage, clock, 3.0) == [1, 1, 1, 1]


def test_a_late_kernel_is_not_there_before_its_time(tmp_path, clock: HandClock):
    stage = begun(tmp_path, clock, late=1, late_s=15.0)
    assert [kernel.number for kernel in stage.living] == [1, 2, 3]
    assert cpu_usec(stage)[0] == -1
    clock.now += 15.0
    stage.advance()
    assert [kernel.number for kernel in stage.living] == [0, 1, 2, 3]
    assert cpu_usec(stage)[0] > 0


def test_counters_begin_anew_once_and_the_other_kernels_go_on(tmp_path, clock: HandClock):
    stage = begun(tmp_path, clock, restart=1, restart_s=30.0)
    growth(stage, clock, 29.0)
    first, *others = growth(stage, clock, 3.0)
    assert first < 0
    assert others == growth(stage, clock, 3.0)[1:] == [1, 1, 1]


def test_gauges_rest_where_they_are_told_to(tmp_path, clock: HandClock):
    for moves in (True, False):
        stage = begun(tmp_path, clock, gauges_move=moves)
        before = [kernel.memory for kernel in stage.kernels]
        growth(stage, clock, 3.0)
        assert (before != [kernel.memory for kernel in stage.kernels]) is moves
