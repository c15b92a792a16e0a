"""Waiting for a descriptor without being called again and again while what it has to say is not read."""

from __future__ import annotations

import asyncio


async def readable(descriptor: int) -> None:
    """Returns when there is something to read; the loop does not look at the descriptor after that, nor before."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, news.set)
    try:
        await news.wait()
    finally:
        loop.remove_reader(descriptor)
