"""Many more requests than the KV cache holds: all finish with the text that each gets alone."""
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tandem_server import TandemServer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models"))
from harness import SMOLLM2, tiny_model  # noqa: E402

CLIENTS = 32
OUTPUT_TOKENS = 24
PAGE = 32


@pytest.fixture(scope="module", params=["smollm2", "deepseek2-v3"])
def case(request):
    """A model, prompts of which some begin alike, and their texts alone without any cache."""
    model = SMOLLM2 if request.param == "smollm2" else tiny_model(request.param)
    vocabulary = 40000 if request.param == "smollm2" else 200
    generator = random.Random(1)
    shared = [generator.randrange(20, vocabulary) for _ in range(50)]
    prompts = []
    for index in range(CLIENTS):
        length = generator.randrange(20, 90)
        own = [generator.randrange(20, vocabulary) for _ in range(length)]
        prompts.append(own if index % 2 else (shared + own)[:length])
    with TandemServer("--gguf_path", model, "--no-prefix_cache") as server:
        with ThreadPoolExecutor(4) as pool:
            alone = list(pool.map(lambda prompt: text_of(server, prompt), prompts))
    return model, prompts, alone


def body_of(prompt, **fields):
    return {"prompt": prompt, "max_tokens": OUTPUT_TOKENS, "temperature": 0, "ignore_eos": True,
            **fields}


def text_of(server, prompt):
    reply = server.post("/v1/completions", body_of(prompt))
    assert reply.status_code == 200, reply.text
    usage = reply.json()["usage"]
    assert usage["completion_tokens"] == OUTPUT_TOKENS
    assert usage["prompt_tokens_details"]["cached_tokens"] < len(prompt)
    return reply.json()["choices"][0]["text"]


def small_server(model, *flags):
    """Places for all clients, but pages for 8 of the longest."""
    room = 8 * (90 + OUTPUT_TOKENS)
    return TandemServer("--gguf_path", model, "--cache_lens", room, "--page_size", PAGE,
                        "--max_batch_size", CLIENTS, *flags)


def test_alone_means_one_at_a_time(case):
    """What the others are compared with was computed four at a time."""
    model, prompts, alone = case
    with TandemServer("--gguf_path", model, "--no-prefix_cache") as server:
        assert [text_of(server, prompt) for prompt in prompts[:4]] == alone[:4]


@pytest.mark.parametrize("tiers", ["device", "host", "disk"])
def test_all_finish_with_their_text(case, tiers, tmp_path):
    model, prompts, alone = case
    flags = {"device": (), "host": ("--host_cache_gb", "0.1"), "disk": ("--kv_cache_dir", tmp_path)}
    with small_server(model, *flags[tiers]) as server, ThreadPoolExecutor(CLIENTS) as pool:
        assert list(pool.map(lambda prompt: text_of(server, prompt), prompts)) == alone
        assert server.metric("vllm:num_preemptions_total") > 0
        assert list(pool.map(lambda prompt: text_of(server, prompt), prompts)) == alone
        server.wait_until_idle()


def test_clients_leave_in_every_phase(case):
    """Half of them hang up after a while: queued, in their prompt, decoding or preempted."""
    model, prompts, alone = case
    generator = random.Random(2)
    start = threading.Barrier(CLIENTS)

    def leave(index, server):
        stream = server.post("/v1/completions", body_of(prompts[index], stream=True), stream=True)
        stream.close()

    def run(index, delay, server):
        start.wait()
        if index % 2:
            return text_of(server, prompts[index]) == alone[index]
        time.sleep(delay)
        leave(index, server)
        return True

    with small_server(model) as server, ThreadPoolExecutor(CLIENTS) as pool:
        for _ in range(3):
            delays = [generator.uniform(0.0, 0.5) for _ in range(CLIENTS)]
            assert all(pool.map(run, range(CLIENTS), delays, [server] * CLIENTS))
            server.wait_until_idle()
        assert server.metric("tandem:requests_cancelled_total") > 0
