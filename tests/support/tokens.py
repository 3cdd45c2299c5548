"""Tokens of the lease, as processes made them that have ended."""

from __future__ import annotations


def altered(token: str, space: str | None = None, number: str | None = None) -> str:
    """Return a token as a process made it that began before, of another space or number."""
    host, own_number, own = token.split(":")
    own_space, began, rest = own.split("-")
    there = f"{own_space if space is None else space}-{int(began) - 1}-{rest}"
    return f"{host}:{own_number if number is None else number}:{there}"
