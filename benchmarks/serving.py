"""The dashboard as a subprocess, and a browser: for benchmarks and for the browser tests."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

PROJECT = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Quiet and self-contained: no sandbox (tests may run as root), and no traffic of the browser's own.
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")


def browser_path() -> str | None:
    """Chromium or Chrome as installed on this machine, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class Server:
    """The dashboard as users start it, with a port and a store of its own."""

    def __init__(self, folder: Path, script: Path = PROJECT / "dashboard.py") -> None:
        self.root = folder / "root"
        self.lock = folder / "worker.lock"
        self.log = folder / "server.log"
        self.script = script
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process, "the server has not been started"
        return self._process.pid

    def start(self, patience: float = 60) -> None:
        """Start and wait until it answers; after a kill on the same port, so that open pages find it again."""
        self.root.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "streamlit", "run", str(self.script), "--server.headless=true",
                   f"--server.port={self.port}"]
        environment = {**os.environ, "KD_LENS_ROOT": str(self.root), "KD_LENS_LOCK": str(self.lock)}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=log, stderr=log)
        until = time.monotonic() + patience
        while not self.healthy():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"The server does not answer (exit status {self._process.poll()}).\n{self.tail()}")
            time.sleep(0.1)

    def healthy(self) -> bool:
        """Whether it answers now."""
        try:
            with urlopen(f"{self.url}/_stcore/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, HTTPException, OSError):
            return False

    def cpu_seconds(self) -> dict[int, float]:
        """CPU time so far: of each of its threads by number, and under 0 of the whole process, with the threads that
        have ended; empty where the system does not tell (not Linux)."""
        home = Path(f"/proc/{self.pid}")
        found = {}
        for path in (home / "stat", *home.glob("task/*/stat")):
            with suppress(OSError):  # a thread that has just ended
                fields = path.read_text().rpartition(")")[2].split()
                thread = 0 if path.parent == home else int(path.parent.name)
                found[thread] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return found

    def kill(self) -> None:
        """SIGKILL: as a crash or a power cut, nothing can be saved."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, as Ctrl-C or a shutdown; returns the exit status, or kills what does not end in 20 s."""
        try:
            return self._end(signal.SIGTERM)
        except subprocess.TimeoutExpired:
            return self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kill and start again."""
        self.kill()
        self.start()

    def tail(self, lines: int = 40) -> str:
        """The end of the server's output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _end(self, how: signal.Signals) -> int:
        assert self._process, "the server has not been started"
        self._process.send_signal(how)
        return self._process.wait(timeout=20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
