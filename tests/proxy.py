"""A TCP proxy whose connections can be cut, delayed or fall silent."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from typing import Final, Self

from stream_app.edges.embedded import LOOPBACK, free_port

CHUNK: Final = 1 << 16
AHEAD: Final = 64  # chunks read and not passed on yet; then its sender has to wait


class Proxy:
    """Between clients and the server at `target`, in a thread of its own.

    `target` may be set anew: connections made from then on go there.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.port = free_port()
        self.target = target
        self.delay_s = 0.0  # of every byte, each way
        self._silent = False
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def cut(self) -> int:
        """Break every connection; how many there were."""
        return self._call(self._cut())

    def silence(self) -> None:
        """Nothing passes any more, and no connection ends, until `heal`."""
        self._silent = True

    def heal(self) -> None:
        self._silent, self.delay_s = False, 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: object) -> int:
        assert asyncio.iscoroutine(work)
        found: int | None = asyncio.run_coroutine_threadsafe(work, self._loop).result(30)
        return found or 0

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self.port)

    async def _cut(self) -> int:
        ends = [*self._open]
        for end in ends:
            _reset(end)
        return len(ends) // 2

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(*self.target)
        except OSError:
            _reset(writer)
            return
        ends = {writer, back}
        self._open |= ends
        try:
            await asyncio.gather(self._pass(reader, back), self._pass(there, writer))
        finally:
            self._open -= ends
            for end in ends:
                end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Until one side ends; what was read before is passed on in its time."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(AHEAD)
        writing = asyncio.ensure_future(self._write(queue, writer))
        try:
            chunk = b"-"
            while chunk:
                with contextlib.suppress(OSError):
                    chunk = b""
                    chunk = await reader.read(CHUNK)
                await queue.put((time.monotonic() + self.delay_s, chunk))
            await writing
        finally:
            writing.cancel()

    async def _write(
        self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        while True:
            due, chunk = await queue.get()
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            while self._silent:  # noqa: ASYNC110 - set from another thread
                await asyncio.sleep(0.01)
            if not chunk:
                writer.transport.abort()
                return
            if writer.transport.is_closing():
                return
            with contextlib.suppress(OSError):
                writer.write(chunk)
                await writer.drain()


def _reset(end: asyncio.StreamWriter) -> None:
    """End a connection as a machine does that was switched off and is back: nothing in order."""
    link = end.get_extra_info("socket")
    with contextlib.suppress(OSError):  # it has just ended by itself
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.transport.abort()
