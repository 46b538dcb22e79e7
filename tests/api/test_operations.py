"""What who runs the server sees: metrics and their dashboard, top, steps, options, idleness, many connections."""
import json
import re
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from tandem_server import BINARY, ROOT, TandemServer

TINY = ROOT / "build/models/tiny/quant-probe.gguf"


def write_tiny_model():
    if not TINY.exists():
        TINY.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([ROOT / "build/venv/bin/python", ROOT / "tools/tiny_gguf.py", "quant-probe", TINY],
                       check=True)


@pytest.fixture(scope="module")
def tiny():
    """A server with the smallest model, where the server's own cost is what counts."""
    write_tiny_model()
    with TandemServer("--gguf_path", TINY, "--debug_steps", "--max_batch_size", 8) as server:
        yield server


def complete(server, **fields):
    return server.post("/v1/completions", {"prompt": "a b c", "max_tokens": 8, "ignore_eos": True, **fields})


def tandem(*arguments):
    return subprocess.run([str(BINARY), *map(str, arguments)], capture_output=True, text=True, timeout=60,
                          check=True).stdout


def metric_names(server):
    return set(re.findall(r"^# TYPE (\S+)", server.get("/metrics").text, re.MULTILINE))


def test_the_dashboard_asks_for_metrics_that_exist(tiny):
    complete(tiny)
    dashboard = json.loads((ROOT / "docs/grafana/tandem.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(expressions) > 20
    wanted = set()
    for expression in expressions:
        wanted |= set(re.findall(r"\b(?:vllm|tandem):\w+|\bprocess_\w+", expression))
    histogram_parts = {name + "_bucket" for name in metric_names(tiny)}
    missing = wanted - metric_names(tiny) - histogram_parts
    assert not missing
    assert len(wanted) > 20


# The names that dashboards and autoscalers made for vLLM ask for.
VLLM_NAMES = """num_requests_running num_requests_waiting kv_cache_usage_perc gpu_cache_usage_perc
prefix_cache_queries_total prefix_cache_hits_total num_preemptions_total prompt_tokens_total
generation_tokens_total time_to_first_token_seconds inter_token_latency_seconds
time_per_output_token_seconds e2e_request_latency_seconds request_success_total cache_config_info
request_prompt_tokens request_generation_tokens request_queue_time_seconds
request_prefill_time_seconds request_decode_time_seconds request_inference_time_seconds
iteration_tokens_total""".split()


def test_vllms_names_are_there_with_the_models(tiny):
    names = metric_names(tiny)
    assert {"vllm:" + name for name in VLLM_NAMES} <= names
    for line in tiny.get("/metrics").text.splitlines():
        if line.startswith("vllm:"):
            assert 'model_name="' in line


def test_histograms_tell_where_time_and_tokens_went(tiny):
    names = ("vllm:request_queue_time_seconds", "vllm:request_prefill_time_seconds", "vllm:request_decode_time_seconds",
             "vllm:request_inference_time_seconds", "vllm:e2e_request_latency_seconds")
    tiny.wait_until_idle()
    before = {name: (tiny.metric(name + "_count"), tiny.metric(name + "_sum")) for name in names}
    steps, tokens = (tiny.metric("vllm:iteration_tokens_total" + part) for part in ("_count", "_sum"))
    assert complete(tiny, max_tokens=50).status_code == 200
    took = {}
    for name in names:
        assert tiny.metric(name + "_count") == before[name][0] + 1
        took[name] = tiny.metric(name + "_sum") - before[name][1]
    queued, prefill, decode, inference, whole = (took[name] for name in names)
    assert queued >= 0 and prefill > 0 and decode > 0
    assert inference == pytest.approx(prefill + decode)
    assert queued + inference < whole
    assert tiny.metric("vllm:iteration_tokens_total_count") - steps == tiny.metric("tandem:steps_total") - steps >= 50
    assert tiny.metric("vllm:iteration_tokens_total_sum") - tokens >= 51


def test_top_prints_one_picture(tiny):
    complete(tiny)
    picture = tandem("top", "--url", tiny.url, "--once", "--interval", 0.2)
    lines = picture.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    for word in ("requests", "tokens/s", "latency", "steps", "kv device", "prefix", "process"):
        assert any(line.startswith(word) for line in lines), word
    assert "ok" in lines[0] and "quant-probe" in lines[0]
    assert any(re.match(r" +\d+ +[\d.]+ +[Pg]+ ", line) for line in lines)


def test_top_says_that_nobody_answers():
    done = subprocess.run([BINARY, "top", "--url", "localhost:1", "--once"], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 1 and "localhost:1" in done.stderr


def test_steps_are_a_trace(tiny):
    complete(tiny)
    trace = tiny.get("/debug/steps").json()
    steps = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    numbers = [step["args"]["step"] for step in steps]
    assert numbers == list(range(numbers[0], numbers[0] + len(steps)))
    assert all(earlier["ts"] + earlier["dur"] <= later["ts"] for earlier, later in zip(steps, steps[1:]))
    assert {step["name"] for step in steps} >= {"prefill", "decode"}
    assert sum(step["args"]["decode_tokens"] for step in steps[-7:]) == 7
    last = tiny.get("/debug/steps/5").json()["traceEvents"]
    assert last == trace["traceEvents"][-15:]


def test_options_page_is_current():
    written = (ROOT / "docs/options.md").read_text()
    assert written == tandem("help", "--markdown"), "docs/options.md is old: run make docs"


def test_options_page_is_complete():
    written = (ROOT / "docs/options.md").read_text()
    for verb in ("serve", "chat", "bench", "top", "loadtest", "inspect"):
        page = written.split(f"## tandem {verb}\n")[1].split("\n## ")[0]
        for name in re.findall(r"^  (?:-\w,)?--([\w-]+)", tandem(verb, "--help"), re.MULTILINE):
            assert name == "help" or f"`--{name}`" in page, f"{verb} --{name}"


@pytest.mark.parametrize("mix", ["constant", "burst", "long", "aborts", "shared"])
def test_loadtest(tiny, mix):
    report = json.loads(tandem("loadtest", "--url", tiny.url, "--mix", mix, "--requests", 24, "-p", 40,
                               "-n", 10, "-o", "json", "--rate", 400))
    assert report["failed"] == 0 and report["errors"] == {}
    assert report["finished"] + report["hung_up"] == 24
    assert (report["hung_up"] > 0) == (mix == "aborts")
    assert 0 < report["first_token_seconds"]["p50"] <= report["request_seconds"]["max"]
    tiny.wait_until_idle()


@pytest.mark.parametrize("streams", [1, 3])
def test_loadtest_tells_the_gaps_of_a_full_batch(tiny, streams):
    report = json.loads(tandem("loadtest", "--url", tiny.url, "--concurrency", streams, "--requests", streams, "-p", 8,
                               "-n", 200, "-o", "json"))
    gaps, full = report["inter_token_seconds"], report["full_inter_token_seconds"]
    assert 10 < gaps["count"] <= 199 * streams  # tokens without text of their own are no event
    # One stream is always full; of several, what lies before the last one's begin and behind the first one's end is not.
    assert full["count"] == gaps["count"] if streams == 1 else 0 < full["count"] < gaps["count"]
    assert 0 < full["mean"] <= full["max"] <= gaps["max"]


def cpu_seconds(server):
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100  # ticks of 10 ms


def open_connections(server, count):
    """Idle ones, of which each has had an answer."""
    connections = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", server.port))
        connection.sendall(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        connections.append(connection)
    for connection in connections:
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    return connections


def test_an_idle_server_takes_no_time(tiny):
    complete(tiny)
    connections = open_connections(tiny, 200)
    time.sleep(0.5)  # what was just answered settles
    before = cpu_seconds(tiny)
    time.sleep(2)
    assert cpu_seconds(tiny) - before <= 0.01  # one tick, which may have begun before
    for connection in connections:
        connection.close()


def test_a_thousand_idle_streams_cost_the_others_nothing(tiny):
    """They wait in the queue behind eight endless ones; what they hold is memory, not time."""
    body = json.dumps({"prompt": "a", "max_tokens": 30000, "ignore_eos": True, "stream": True}).encode()
    request = (b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)) + body
    streams = []
    try:
        for _ in range(1000):
            connection = socket.create_connection(("127.0.0.1", tiny.port))
            connection.sendall(request)
            streams.append(connection)
        deadline = time.monotonic() + 30
        while tiny.metric("vllm:num_requests_waiting") < 900:  # some may have ended already
            assert time.monotonic() < deadline
            time.sleep(0.02)
        readers = [threading.Thread(target=drain, args=(stream,)) for stream in streams[:8]]
        for reader in readers:
            reader.start()
        memory = tiny.metric("process_resident_memory_bytes")
        assert memory < 400e6
        with_many = generation_speed(tiny)
        for stream in streams[8:]:
            stream.close()
        tiny.wait_for_metric("vllm:num_requests_waiting", 0)
        alone = generation_speed(tiny)
        print(f"{with_many:.0f} tokens/s beside them, {alone:.0f} without")
        assert with_many > 0.7 * alone
    finally:
        for stream in streams:
            stream.close()
    tiny.wait_until_idle()


def drain(stream):
    try:
        while stream.recv(65536):
            pass
    except OSError:
        pass


def generation_speed(server):
    """Tokens a second: the best of a few moments, as the machine has other work too."""
    speeds = []
    for _ in range(4):
        before, begin = server.metric("vllm:generation_tokens_total"), time.monotonic()
        time.sleep(0.4)
        speeds.append((server.metric("vllm:generation_tokens_total") - before) / (time.monotonic() - begin))
    return max(speeds)
