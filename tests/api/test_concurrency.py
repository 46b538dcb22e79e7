"""Many clients at once, and clients that go away."""
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from tandem_server import TandemServer

QUESTIONS = ["What is the capital of France?", "Count from one to ten.", "Write a haiku about rain.",
             "Name three colours.", "Why is the sky blue?", "Say hello in Spanish.",
             "What is 2 + 2?", "Tell me a short story about a fox who " + "ran and " * 150]


def answer(server, question, stream=False):
    fields = {"temperature": 0, "max_tokens": 32, "stream": stream}
    reply = server.chat(question, **fields)
    assert reply.status_code == 200
    if not stream:
        return reply.json()["choices"][0]["message"]["content"]
    chunks = [json.loads(event.removeprefix("data: "))
              for event in reply.text.split("\n\n") if event.startswith("data: {")]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


def test_eight_clients_get_what_each_gets_alone(server):
    alone = [answer(server, question) for question in QUESTIONS]
    with ThreadPoolExecutor(len(QUESTIONS)) as pool:
        for stream in (False, True):
            together = list(pool.map(lambda q, s=stream: answer(server, q, s), QUESTIONS))
            assert together == alone
    server.wait_until_idle()


def open_stream(server, **fields):
    body = {"messages": [{"role": "user", "content": "Count to a million."}], "stream": True,
            "max_tokens": 8000, "ignore_eos": True, **fields}
    return server.post("/v1/chat/completions", body, stream=True)


def test_a_stream_that_is_left_frees_its_place(server):
    cancelled = server.metric("tandem:requests_cancelled_total")
    stream = open_stream(server)
    pieces = stream.iter_content(64)
    next(pieces)
    assert server.metric("vllm:num_requests_running") == 1
    assert server.metric("tandem:kv_pages_free") < server.metric("tandem:kv_pages_total")
    stream.close()
    server.wait_for_metric("tandem:requests_cancelled_total", cancelled + 1)
    server.wait_until_idle()


def test_a_client_that_waits_and_leaves_frees_its_place(server):
    cancelled = server.metric("tandem:requests_cancelled_total")
    body = {"messages": [{"role": "user", "content": "Count to a million."}], "max_tokens": 8000,
            "ignore_eos": True}
    with ThreadPoolExecutor(1) as pool:
        def leave_soon():
            try:
                requests.post(server.url + "/v1/chat/completions", json=body, timeout=0.5,
                              headers=server.headers)
            except requests.Timeout:
                return True
            return False
        assert pool.submit(leave_soon).result()
    server.wait_for_metric("tandem:requests_cancelled_total", cancelled + 1)
    server.wait_until_idle()


def test_clients_in_the_queue_can_leave(server):
    streams = [open_stream(server) for _ in range(10)]  # more than the batch holds
    deadline = time.monotonic() + 30
    while server.metric("vllm:num_requests_waiting") == 0:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for stream in reversed(streams):
        stream.close()
    server.wait_until_idle()


def test_a_full_queue_is_refused_until_there_is_room():
    with TandemServer("--max_batch_size", "1", "--max_queue", "2") as server:
        streams = [open_stream(server)]
        server.wait_for_metric("vllm:num_requests_running", 1)
        streams += [open_stream(server) for _ in range(2)]
        server.wait_for_metric("vllm:num_requests_waiting", 2)
        refused = open_stream(server)
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) > 0
        assert refused.json()["error"]["code"] == "queue_full"
        for stream in streams:
            stream.close()
        server.wait_until_idle()
        assert server.chat("hello", max_tokens=2).status_code == 200


@pytest.mark.parametrize("strategy", ["FCFS", "FCFS-single-prefill"])
def test_prompts_of_a_step_by_strategy(strategy):
    flags = ("--sched_strategy", strategy, "--chunk_size", "64", "--debug_steps", "--no-prefix_cache")
    with TandemServer(*flags) as server, ThreadPoolExecutor(8) as pool:
        def run(first):
            body = {"prompt": [first + 7 * i for i in range(200)], "max_tokens": 1, "temperature": 0}
            return server.post("/v1/completions", body).json()["choices"][0]["text"]
        together = list(pool.map(run, range(100, 108)))
        steps = [event["args"] for event in server.get("/debug/steps").json()["traceEvents"]
                 if "prefill_tokens" in event.get("args", {})]
        assert sum(step["prefill_tokens"] for step in steps) == 8 * 200
        most = max(step["sequences"] for step in steps)  # none of them generates on
        assert most == 1 if strategy == "FCFS-single-prefill" else most > 1
        assert together == [run(first) for first in range(100, 108)]


def test_a_prompt_alone_takes_longer_steps():
    body = {"prompt": list(range(100, 300)), "max_tokens": 1, "temperature": 0}
    texts = []
    for flags, expected in ((), [64, 64, 64, 8]), (("--long_chunk_size", "128"), [128, 72]):
        with TandemServer("--chunk_size", "64", "--debug_steps", "--no-prefix_cache", *flags) as server:
            texts.append(server.post("/v1/completions", body).json()["choices"][0]["text"])
            steps = [event["args"]["prefill_tokens"] for event in server.get("/debug/steps").json()["traceEvents"]
                     if "prefill_tokens" in event.get("args", {})]
            assert steps == expected
    assert texts[0] == texts[1]


def test_metrics_count(server):
    before = {name: server.metric(name) for name in (
        "vllm:generation_tokens_total", "vllm:prompt_tokens_total", "vllm:request_success_total",
        "vllm:time_to_first_token_seconds_count", "vllm:inter_token_latency_seconds_count",
        "vllm:e2e_request_latency_seconds_count")}
    usage = server.chat("hello there", max_tokens=6, ignore_eos=True).json()["usage"]
    gained = {name: server.metric(name) - value for name, value in before.items()}
    assert gained == {"vllm:generation_tokens_total": 6,
                      "vllm:prompt_tokens_total": usage["prompt_tokens"]
                      - usage["prompt_tokens_details"]["cached_tokens"],
                      "vllm:request_success_total": 1,
                      "vllm:time_to_first_token_seconds_count": 1,
                      "vllm:inter_token_latency_seconds_count": 5,
                      "vllm:e2e_request_latency_seconds_count": 1}
