"""The program: measure from the first scrape on, until it is ended."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
from pathlib import Path

from ai.backend.common.clients.valkey_client.valkey_stat.client import ValkeyStatClient
from ai.backend.common.types import ValkeyTarget
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from .options import Options
from .stage import Stage
from .stand_in import StandIn, Writer
from .versions import start_rounds


async def main(options: Options, root: Path) -> None:
    """Serve the pages; run the agent's rounds once somebody scrapes."""
    stage, scraped = Stage(options, root), asyncio.Event()
    client = await ValkeyStatClient.create(
        ValkeyTarget(addr=options.redis), db_id=0, human_readable_name="stat"
    )
    agent = StandIn(options, stage, Writer(client, stage, options.refuse_at_s))
    await serve(stage, scraped, options.port)
    await scraped.wait()
    stage.begin()
    rounds = await start_rounds(agent, options.interval_s)
    await asyncio.Event().wait()
    del rounds


async def serve(stage: Stage, scraped: asyncio.Event, port: int) -> None:
    """Listen on loopback."""

    async def metrics(request: web.Request) -> web.Response:
        stage.scrapes += 1
        scraped.set()
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def kernels(request: web.Request) -> web.Response:
        return web.Response(text=json.dumps([str(kernel.kernel_id) for kernel in stage.kernels]))

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/kernels", kernels)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="cgroup-", dir=Path.cwd()) as root:
        asyncio.run(main(Options.from_json(sys.argv[1]), Path(root)))
