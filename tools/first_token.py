#!/usr/bin/env python3
"""How long a short request waits for its first token beside a long prompt, by --chunk_size.

For each chunk size a server is started and the long one timed once alone. Then in each round: the short one alone; the
long one, and when its first step is over the short one, which waits for the step under way and then has up to half of the next
ones. Random prompts share nothing. Prints medians.

  first_token.py [--gguf_path FILE] [--chunk_sizes 64,256,1024] [--rounds 7] [--long 4096] [--short 32]
                 [--program build/release/tandem] [-o table|json] [-- FLAGS OF tandem serve]
"""
import argparse
import http.client
import json
import random
import signal
import socket
import statistics
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    def __init__(self, options, chunk_size):
        self.port = free_port()
        self.process = subprocess.Popen(
            [options.program, "serve", "--gguf_path", options.gguf_path, "--host", "127.0.0.1", "--port", str(self.port),
             "--chunk_size", str(chunk_size), "--cache_lens", str(2 * (options.long + options.short) + 1024),
             "--no-prefix_cache", "--log_level", "error", *options.flags])
        while self.get("/health") is None:
            if self.process.poll() is not None:
                raise SystemExit(f"tandem serve ended with {self.process.returncode}")
            time.sleep(0.1)
        self.vocabulary = json.loads(self.get("/v1/models"))["data"][0]["meta"]["n_vocab"]

    def get(self, path):
        """The body of a 200, else None."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            body = reply.read().decode()
            return body if reply.status == 200 else None
        except OSError:
            return None
        finally:
            connection.close()

    def metric(self, name):
        lines = [line for line in self.get("/metrics").splitlines() if line.startswith(name + "{")]
        return float(lines[0].rsplit(" ", 1)[1])

    def send(self, length):
        """A request under way."""
        prompt = [random.randrange(self.vocabulary // 2) for _ in range(length)]
        body = json.dumps({"prompt": prompt, "max_tokens": 1, "ignore_eos": True, "stream": True})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        return connection

    def first_token(self, length):
        """Seconds from the request to its first event."""
        begin = time.monotonic()
        connection = self.send(length)
        reply = connection.getresponse()
        if reply.status != 200:
            raise SystemExit(f"status {reply.status}: {reply.read().decode()}")
        while not reply.readline().startswith(b"data:"):
            pass
        seconds = time.monotonic() - begin
        reply.read()
        connection.close()
        return seconds

    def wait_until_idle(self):
        while self.metric("vllm:num_requests_running") > 0:
            time.sleep(0.01)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def one_round(server, options):
    """Seconds to the short one's first token, alone and beside the long one; None if that was over."""
    alone = server.first_token(options.short)
    tokens, steps = (server.metric(name) for name in ("vllm:generation_tokens_total", "tandem:steps_total"))
    long = server.send(options.long)
    while server.metric("tandem:steps_total") == steps:  # until its prompt is being computed
        time.sleep(0.001)
    beside = server.first_token(options.short)
    over = server.metric("vllm:generation_tokens_total") > tokens + 1
    long.close()  # which ends it
    server.wait_until_idle()
    return None if over else (alone, beside)


def measure(options, chunk_size):
    server = Server(options, chunk_size)
    try:
        long = server.first_token(options.long)
        rounds, tries = [], 0
        while len(rounds) < options.rounds and tries < 3 * options.rounds:
            tries += 1
            if (result := one_round(server, options)) is not None:
                rounds.append(result)
    finally:
        server.stop()
    if len(rounds) < options.rounds:
        raise SystemExit(f"chunk size {chunk_size}: the long prompt was over before the short one; make it longer (--long)")
    alone, beside = ([1e3 * value for value in column] for column in zip(*rounds))
    return {"chunk_size": chunk_size, "rounds": len(rounds), "short_alone_ms": statistics.median(alone),
            "short_beside_ms": statistics.median(beside), "short_beside_max_ms": max(beside), "long_alone_ms": 1e3 * long}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf_path", default=ROOT / "build/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--chunk_sizes", type=lambda text: [int(word) for word in text.split(",")], default=[64, 256, 1024])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--long", type=int, default=4096)
    parser.add_argument("--short", type=int, default=32)
    parser.add_argument("--program", default=ROOT / "build/release/tandem")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("flags", nargs="*", help="for tandem serve, after --")
    options = parser.parse_args()
    results = []
    if options.output == "table":
        print(f"first token in ms, medians of {options.rounds} rounds: {options.short} prompt tokens beside {options.long}")
        print(f"{'chunk size':>10} {'short alone':>12} {'short beside':>13} {'at most':>9} {'long alone':>11}")
    for chunk_size in options.chunk_sizes:
        result = measure(options, chunk_size)
        results.append(result)
        if options.output == "table":
            print(f"{chunk_size:10} {result['short_alone_ms']:12.1f} {result['short_beside_ms']:13.1f} "
                  f"{result['short_beside_max_ms']:9.1f} {result['long_alone_ms']:11.1f}", flush=True)
    if options.output == "json":
        print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
