"""A request beyond its time ends with 504 wherever it is, its pages are free again, and others go on."""
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from tandem_server import TandemServer

PAGE = 32
PAGES = 16


@pytest.fixture(scope="module")
def server():
    with TandemServer("--cache_lens", PAGE * PAGES, "--page_size", PAGE, "--max_batch_size", "2",
                      "--no-prefix_cache") as running:
        yield running


def complete(server, first, length, tokens, **fields):
    prompt = [(first + 7 * i) % 40000 + 20 for i in range(length)]
    body = {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, **fields}
    return server.post("/v1/completions", body, stream=fields.get("stream", False))


def expect_late(reply):
    assert reply.status_code == 504, reply.text
    assert reply.json()["error"]["code"] == "request_timeout"


def text_of(reply):
    assert reply.status_code == 200, reply.text
    return reply.json()["choices"][0]["text"]


def test_running_and_queued_ones_end_alone(server):
    alone = text_of(complete(server, 1, 20, 200))
    late = server.metric("tandem:requests_timed_out_total")
    with ThreadPoolExecutor(8) as pool:
        goes_on = pool.submit(complete, server, 1, 20, 200)
        server.wait_for_metric("vllm:num_requests_running", 1)
        runs = pool.submit(complete, server, 2, 20, 200, timeout=0.4)
        server.wait_for_metric("vllm:num_requests_running", 2)
        queued = [pool.submit(complete, server, 3, 20, 200, timeout=0.2) for _ in range(4)]
        for reply in [*queued, runs]:
            expect_late(reply.result())
        assert text_of(goes_on.result()) == alone
    assert server.metric("tandem:requests_timed_out_total") == late + 5
    server.wait_until_idle()


def test_a_long_prompt_ends_within_it(server):
    """After at most one step of --chunk_size tokens."""
    expect_late(complete(server, 4, 500, 2, timeout=0.05))
    server.wait_until_idle()


def test_a_stream_says_so_at_its_end(server):
    reply = complete(server, 5, 20, 450, timeout=0.5, stream=True)
    events = []
    with pytest.raises(requests.exceptions.ChunkedEncodingError):  # cut short is not complete
        for line in reply.iter_lines(decode_unicode=True):
            if line.startswith("data: "):
                events.append(line[6:])
    assert len(events) > 2
    assert json.loads(events[-1])["error"]["code"] == "request_timeout"
    server.wait_until_idle()


def test_a_preempted_one_ends_in_the_queue(server):
    """The younger one loses its pages to the older one about a third into the older one's answer."""
    begin = time.monotonic()
    alone = text_of(complete(server, 6, 20, 480))
    whole = time.monotonic() - begin
    for share in (1.0, 0.8, 1.3, 0.6, 1.6):  # two at once take longer, how much depends on the machine
        preempted = server.metric("vllm:num_preemptions_total")
        with ThreadPoolExecutor(2) as pool:
            older = pool.submit(complete, server, 6, 20, 480)
            server.wait_for_metric("vllm:num_requests_running", 1)
            younger = pool.submit(complete, server, 7, 200, 300, timeout=share * whole)
            reply = younger.result()
            assert server.metric("vllm:num_requests_waiting") == 0
            assert text_of(older.result()) == alone
        server.wait_until_idle()
        if reply.status_code == 504 and server.metric("vllm:num_preemptions_total") > preempted:
            return
    raise AssertionError("it was never preempted when its time was over")
