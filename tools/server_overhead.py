#!/usr/bin/env python3
"""What server and scheduler cost beside the engine alone: `tandem bench` and `tandem loadtest` on the same model, in
turns, so that a machine that changes its speed changes both.

Decoding: bench's tokens/s of N streams against N / (median time between two tokens of a stream). First token: the time
that a client waits for one, against bench's time of the same prompt. With --idle, that many connections are open
meanwhile, each with a finished stream behind it.

  server_overhead.py [--gguf_path FILE] [--streams 1,4,16] [--idle 1000] [--rounds 3] [--program build/release/tandem]
"""
import argparse
import json
import resource
import signal
import socket
import statistics
import subprocess
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GENERATE, DEPTH, SHORT_PROMPT = 128, 128, 32


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_json(*command):
    return json.loads(subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout)


class Server:
    def __init__(self, options):
        self.port = free_port()
        streams = max(options.streams)
        self.process = subprocess.Popen(
            [options.program, "serve", "--gguf_path", options.gguf_path, "--host", "127.0.0.1", "--port", str(self.port),
             "--max_batch_size", str(streams), "--chunk_size", "512", "--max_queue", "5000",
             "--cache_lens", str((GENERATE + DEPTH + 64) * streams + 4096), "--log_level", "error"])
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5)
                return
            except OSError:
                time.sleep(0.1)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def hold_idle(self, count):
        """Connections with a finished stream behind them and nothing to come."""
        held = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(count)]
        for connection in held:
            use(connection, STREAM)
        return held


STREAM = b'{"prompt": [1, 2, 3], "max_tokens": 1, "stream": true}'


def use(connection, body=None):
    """One request over it: the server closes a connection that was silent for more than a minute."""
    head = b"POST /v1/completions" if body else b"GET /live"
    connection.sendall(head + b" HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body or b"") + (body or b""))
    reply, end = b"", b"\r\n0\r\n\r\n" if body else b"}"
    while end not in reply:
        if not (piece := connection.recv(65536)):
            raise SystemExit("the server closed an idle connection: " + reply.decode(errors="replace"))
        reply += piece


def raise_descriptor_limit(connections):
    """Of this program and, inherited, of the server."""
    wanted = connections + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise SystemExit(f"{connections} connections need {wanted} open files, and this user may have {hard}: raise it "
                         f"(ulimit -Hn {wanted}, as root) or use fewer with --idle")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def loadtest(options, server, streams, prompt, generate, requests):
    return run_json(options.program, "loadtest", "--url", f"127.0.0.1:{server.port}", "--concurrency", streams,
                    "--requests", requests, "-p", prompt, "-n", generate, "-o", "json", "--seed", time.time_ns() % 10**9)


def measure(options, idle):
    decode = {n: {"engine": [], "server": []} for n in options.streams}
    first = {"engine": [], "server": []}
    for _ in range(options.rounds):
        for line in run_json(options.program, "bench", "--gguf_path", options.gguf_path, "-p", SHORT_PROMPT, "-n", GENERATE,
                             "-d", DEPTH, "--streams", ",".join(map(str, options.streams)), "-r", 3, "-o", "json"):
            if line["n_gen"] == 0:
                first["engine"].append(SHORT_PROMPT / line["avg_ts"])
            else:
                decode[line["n_streams"]]["engine"].append(line["avg_ts"])
        server = Server(options)
        held = server.hold_idle(idle)
        for n in options.streams:
            for connection in held:
                use(connection)
            report = loadtest(options, server, n, DEPTH, GENERATE, 2 * n)
            decode[n]["server"].append(n / report["inter_token_seconds"]["p50"])
        report = loadtest(options, server, 1, SHORT_PROMPT, 1, 20)
        first["server"].append(report["first_token_seconds"]["p50"])
        for connection in held:
            connection.close()
        server.stop()
    return decode, first


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf_path", default=ROOT / "build/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--streams", type=lambda text: [int(word) for word in text.split(",")], default=[1, 4, 16])
    parser.add_argument("--idle", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--program", default=ROOT / "build/release/tandem")
    options = parser.parse_args()
    raise_descriptor_limit(options.idle)
    decode, first = measure(options, options.idle)
    print(f"{options.rounds} rounds, {options.idle} idle connections; medians")
    print(f"{'streams':>8} {'engine t/s':>12} {'server t/s':>12} {'cost %':>8}")
    for n, values in decode.items():
        engine, server = (statistics.median(values[kind]) for kind in ("engine", "server"))
        print(f"{n:8} {engine:12.1f} {server:12.1f} {100 * (1 - server / engine):8.2f}")
    engine, server = (1e3 * statistics.median(first[kind]) for kind in ("engine", "server"))
    print(f"first token of {SHORT_PROMPT}: engine {engine:.2f} ms, server {server:.2f} ms, difference {server - engine:.2f} ms")


if __name__ == "__main__":
    main()
