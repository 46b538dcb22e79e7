#!/usr/bin/env python3
"""What server and scheduler cost beside the engine alone: `tandem bench` and `tandem loadtest` on the same model, in
turns, so that a machine that changes its speed changes both.

Decoding: tokens/s of N streams as tokens / time on both sides, over the same number of tokens behind the same depth:
bench's runs, and in the server the mean gap between two tokens while all N streams are between their first and their
last one. The engine is run twice: as `tandem bench` measures it, and choosing each token from its logits as a server has
to (--sample). First token: the median time that a client waits for one, against bench's median time of the same
prompt. With --idle, that many connections are open meanwhile, each with a finished stream behind it.

Each round gives a ratio of neighbouring runs; printed is the median of the rounds' ratios, and their least and greatest.

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
RUNS = 3  # of each test in a round
KINDS = ["bench", "sampled", "server"]


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


def bench(options, *more):
    """Seconds of a step by streams, and of the short prompt under 0."""
    lines = run_json(options.program, "bench", "--gguf_path", options.gguf_path, "-p", SHORT_PROMPT, "-n", GENERATE, "-d",
                     DEPTH, "--streams", ",".join(map(str, options.streams)), "-r", RUNS, "-o", "json", *more)
    seconds = {line["n_streams"]: line["avg_ns"] / 1e9 / GENERATE for line in lines if line["n_gen"] > 0}
    seconds[0] = next(statistics.median(line["samples_ns"]) for line in lines if line["n_gen"] == 0) / 1e9
    return seconds


def serve(options):
    """The same of the server."""
    server = Server(options)
    held = server.hold_idle(options.idle)
    seconds = {}
    for n in options.streams:
        gaps = []
        for _ in range(1 + RUNS):  # as bench does, one to warm up
            for connection in held:
                use(connection)
            load = loadtest(options, server, n, DEPTH, GENERATE, n)
            # Tokens without text of their own have no event, and their time is in the next gap.
            of_token = load["inter_token_seconds"]["count"] / (n * (GENERATE - 1))
            gaps.append(load["full_inter_token_seconds"]["mean"] * of_token)
        seconds[n] = statistics.mean(gaps[1:])
    seconds[0] = loadtest(options, server, 1, SHORT_PROMPT, 1, 20)["first_token_seconds"]["p50"]
    for connection in held:
        connection.close()
    server.stop()
    return seconds


def spread(values):
    return f"{statistics.median(values):6.2f} ({min(values):.2f} .. {max(values):.2f})"


def report(options, rounds):
    print(f"{options.rounds} rounds, {options.idle} idle connections; medians, of costs with the least and the greatest")
    print(f"{'streams':>8} {'bench t/s':>11} {'--sample':>11} {'server t/s':>11}   {'% of bench':26} % of --sample")
    for n in options.streams:
        columns = [statistics.median(n / round[kind][n] for round in rounds) for kind in KINDS]
        costs = [[100 * (1 - round[kind][n] / round["server"][n]) for round in rounds] for kind in KINDS[:2]]
        print(f"{n:8} " + " ".join(f"{value:11.1f}" for value in columns) + f"   {spread(costs[0]):26} {spread(costs[1])}")
    first = {kind: 1e3 * statistics.median(round[kind][0] for round in rounds) for kind in KINDS}
    more = [1e3 * (round["server"][0] - round["bench"][0]) for round in rounds]
    print(f"first token of {SHORT_PROMPT}: engine {first['bench']:.2f} ms, server {first['server']:.2f} ms, "
          f"difference {spread(more).strip()} ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf_path", default=ROOT / "build/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--streams", type=lambda text: [int(word) for word in text.split(",")], default=[1, 4, 16])
    parser.add_argument("--idle", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--program", default=ROOT / "build/release/tandem")
    options = parser.parse_args()
    raise_descriptor_limit(options.idle)
    turns = {"bench": lambda: bench(options), "sampled": lambda: bench(options, "--sample"), "server": lambda: serve(options)}
    report(options, [{kind: turns[kind]() for kind in KINDS} for _ in range(options.rounds)])


if __name__ == "__main__":
    main()
