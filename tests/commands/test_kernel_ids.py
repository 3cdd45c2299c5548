"""Ids as people give them: whole, or beginnings that no other kernel has."""

from __future__ import annotations

import pytest

from poller.commands.kernel_ids import refuse_others, resolved
from poller.errors import RefusedRequest, UnknownKernel
from tests.commands.cluster import Place

ONE = "3f9d4d5e-8a1b-4c6e-9d53-0b7f5a7c2e11"
OTHER = "3f9d4d5f-8a1b-4c6e-9d53-0b7f5a7c2e11"


@pytest.mark.parametrize("length", range(1, 37))
def test_every_beginning_of_an_id_may_be_meant(length: int):
    refuse_others([ONE[:length]])


@pytest.mark.parametrize(
    "text", ["", "xyz", ONE + "0", "3f9d4d5e8", "-", "3f9d4d5e-8a1b4", 'x"} or vector(1) #', "3F9"]
)
def test_what_is_no_beginning_of_an_id_is_refused(text: str):
    with pytest.raises(RefusedRequest, match="neither a kernel's UUID nor the beginning of one"):
        refuse_others([text])


def test_a_beginning_means_the_one_kernel_that_begins_so():
    assert resolved("3f9d4d5e", {ONE, OTHER}) == ONE
    assert resolved(ONE, set()) == ONE
    with pytest.raises(RefusedRequest, match=f"3f9: 2 kernels begin so: {ONE}, {OTHER}"):
        resolved("3f9", {ONE, OTHER})
    with pytest.raises(UnknownKernel):
        resolved("4", {ONE, OTHER})


@pytest.mark.parametrize(
    "command", [("show",), ("watch", "--duration", "0", "--kernel"), ("once", "--kernel"),
                ("once", "--dry-run", "--kernel"), ("compare", "--kernel")]
)  # fmt: skip
def test_every_command_takes_a_beginning_and_refuses_what_is_none(
    healthy: Place, command: tuple[str, ...]
):
    kernel = healthy.cluster.ids[0]
    if command[0] == "compare":
        assert healthy.run("once").returncode == 0
    done = healthy.run(*command, kernel[:8].upper())
    assert done.returncode == 0, done.stderr + done.stdout
    done = healthy.run(*command, "xyz")
    assert (done.returncode, done.stdout) == (2, "")
    told = done.stderr.splitlines()[-1]
    assert told == "xyz: neither a kernel's UUID nor the beginning of one"
    start = next(digit for digit in "0123456789abcdef" if not _begins(healthy, digit))
    done = healthy.run(*command, start)
    assert done.returncode == 1
    assert f"none is known that begins with {start}" in done.stderr


def _begins(place: Place, digit: str) -> bool:
    return any(kernel.startswith(digit) for kernel in place.cluster.ids)


def test_show_and_watch_know_kernels_by_their_keys_too(healthy: Place):
    healthy.put(ONE)
    assert healthy.run("show", "3f9d4d5e").returncode == 0
    assert healthy.run("once", "--kernel", "3f9d4d5e").returncode == 1
    healthy.put(OTHER)
    done = healthy.run("watch", "--duration", "0", "--kernel", "3f9d4d5")
    assert done.returncode == 2
    assert ONE in done.stderr
    assert OTHER in done.stderr
