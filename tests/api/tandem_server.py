"""Starts `tandem serve` on a free port, and reads what it tells about itself."""
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("TANDEM_BINARY", ROOT / "build/release/tandem"))
# Deadlines only end a hang; they are far above what the slowest kernels need.
START_SECONDS = 120
STOP_SECONDS = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class TandemServer:
    """A running server; a context manager that ends it. Requests carry the key, if there is one."""

    def __init__(
        self, *flags, key=None, scheme="http", ready=True, stderr=None, device="cpu"
    ):
        self.port = free_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.headers = {}
        command = [BINARY, "serve", "--host", "127.0.0.1", "--port", self.port,
                   "--device", device, *flags]
        if key is not None:
            command += ["--api_key", key]
            self.headers["Authorization"] = f"Bearer {key}"
        self.process = subprocess.Popen([str(word) for word in command], stderr=stderr)
        if ready:
            self.wait_until_ready()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"tandem ended with {self.process.returncode}"
            try:
                if requests.get(self.url + "/health", timeout=5).status_code == 200:
                    return
            except requests.ConnectionError:
                pass
            time.sleep(0.05)
        raise TimeoutError("tandem did not get ready")

    def stop(self, signal_number=signal.SIGTERM):
        """The exit code."""
        self.process.send_signal(signal_number)
        return self.process.wait(STOP_SECONDS)

    def get(self, path, **arguments):
        headers = {**self.headers, **arguments.pop("headers", {})}
        return requests.get(self.url + path, headers=headers, timeout=60, **arguments)

    def post(self, path, body=None, **arguments):
        """body: JSON, unless data= gives the bytes."""
        headers = {"Content-Type": "application/json", **self.headers,
                   **arguments.pop("headers", {})}
        if body is not None:
            arguments["json"] = body
        return requests.post(self.url + path, headers=headers, timeout=300, **arguments)

    def chat(self, text, **fields):
        message = {"role": "user", "content": text}
        return self.post("/v1/chat/completions", {"messages": [message], **fields})

    def metric(self, name):
        """The sum of a metric's series."""
        pattern = rf"^{re.escape(name)}(?:\{{.*\}})? (\S+)$"
        values = re.findall(pattern, self.get("/metrics").text, re.MULTILINE)
        assert values, f"no metric {name}"
        return sum(map(float, values))

    def wait_for_metric(self, name, value, seconds=30):
        deadline = time.monotonic() + seconds
        while self.metric(name) != value:
            assert time.monotonic() < deadline, f"{name} is {self.metric(name)}, not {value}"
            time.sleep(0.02)

    def is_idle(self):
        return (self.metric("vllm:num_requests_running") == 0
                and self.metric("vllm:num_requests_waiting") == 0
                and self.metric("tandem:kv_pages_free") == self.metric("tandem:kv_pages_total"))

    def wait_until_idle(self, seconds=30):
        deadline = time.monotonic() + seconds
        while not self.is_idle():
            assert time.monotonic() < deadline, self.get("/metrics").text
            time.sleep(0.02)


def refusal(*flags):
    """What a start with these flags prints to standard error; it must fail."""
    done = subprocess.run([str(BINARY), "serve", "--port", str(free_port()), *map(str, flags)],
                          capture_output=True, text=True, timeout=START_SECONDS)
    assert done.returncode != 0
    return done.stderr
