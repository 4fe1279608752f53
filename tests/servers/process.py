"""A server as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from stream_app.edges.embedded import LOOPBACK, free_port

ROOT = Path(__file__).resolve().parents[2]


class ServerFailed(Exception):
    """A server did not start, or did not do what it was told; the message ends with its log."""


class Server:
    """One process that listens on loopback: started, killed, restarted, stopped by its id."""

    name = "server"
    start_s = 30.0  # longest wait until it answers
    stop_s = 15.0  # longest wait after SIGTERM; then SIGKILL

    def __init__(self, folder: Path) -> None:
        """`folder` is the server's own; it is made if absent and left for whoever gave it."""
        self.folder = folder
        self.port = free_port()
        self.environment: Mapping[str, str] = {}  # beside that of this process
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """`host:port`, the same over every restart."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id, or None while it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start, and return once it answers. Raises ServerFailed."""
        if self.pid is not None:
            raise ServerFailed(f"{self.name} runs already")
        self.folder.mkdir(parents=True, exist_ok=True)
        command = self._prepare()
        with (self.folder / f"{self.name}.out").open("ab") as out:
            # Its own session: Ctrl-C goes to the tests, which then stop their servers in order.
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        # Our end of the pipe closes when this process ends, however it ends.
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; kill -9 "$1"', "watch", str(self._process.pid)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._await_answer()
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL: nothing is flushed and no client is told. Does nothing if it does not run."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Shut down in order, by force if that takes too long. Does nothing if it does not run."""
        self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Start again at the same address, on the same files; stops it first if it runs."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Stop answering without closing a connection (SIGSTOP), until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _prepare(self) -> list[str]:
        """Write what the server reads; return its command line."""
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError

    def _await_answer(self) -> None:
        deadline = time.monotonic() + self.start_s
        while not self._answers():
            if self.pid is None:
                raise ServerFailed(f"{self.name} ended at once:\n{self._log_end()}")
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"{self.name} is silent after {self.start_s} s:\n{self._log_end()}"
                )
            time.sleep(0.02)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or self.pid is None:
            raise ServerFailed(f"{self.name} does not run")
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        process, watch = self._process, self._watch
        self._process = self._watch = None
        if process is not None and process.poll() is None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)  # a paused process would not hear SIGTERM
            try:
                process.wait(self.stop_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if watch is not None:  # only now: until here it guards the process
            watch.kill()
            watch.wait()
            if watch.stdin is not None:
                watch.stdin.close()

    def _log_end(self) -> str:
        log = self.folder / f"{self.name}.out"
        return log.read_text(errors="replace")[-3000:] if log.exists() else "(no output)"
