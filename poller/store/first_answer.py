"""Puts one question to several servers (Sentinels, cluster nodes); takes the first answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def first(questions: Iterable[Awaitable[T]]) -> T:
    """Return the first answer of several questions; raise the last failure if none is answered."""
    asking = {asyncio.ensure_future(question) for question in questions}
    for task in asking:
        task.add_done_callback(_ignore)
    failure: BaseException = ConnectionError("nobody is known")
    try:
        while asking:
            done, asking = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.exception() is None:
                    return task.result()
                failure = task.exception() or failure
    finally:
        # Nobody waits for the others: before Python 3.12 they may not even notice the end.
        for task in asking:
            task.cancel()
    raise failure


def _ignore(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()
