"""Layers on the CPU and on the GPU behind one server: pages found again, and from host memory, have both sides' keys."""
import json
import subprocess

import pytest
from tandem_server import BINARY, TandemServer
from test_prefix_cache import complete, prompt_of

# Prompts cut at other places round differently on a GPU.
LOGPROB_TOLERANCE = 5e-2
HALF = ("-ngl", "16", "--kv_type", "f16")


@pytest.fixture(scope="module", autouse=True)
def gpu():
    """Skips where there is no GPU."""
    planned = subprocess.run([BINARY, "plan", "--synthetic", "ds-v2-lite", "--layers", "1", "--read_gbps", "1",
                              "--peak_tops", "1", "-o", "json"], capture_output=True, text=True, check=True, timeout=60)
    machine = json.loads(planned.stdout)["machine"]
    if "gpu_free_bytes" not in machine:
        pytest.skip(machine["gpu"])


def assert_same(ours, expected):
    """The first token's distribution; later ones may follow another token of a tie."""
    assert ours[1][0] == pytest.approx(expected[1][0], abs=LOGPROB_TOLERANCE)
    for token in set(ours[2][0]) & set(expected[2][0]):
        assert ours[2][0][token] == pytest.approx(expected[2][0][token], abs=LOGPROB_TOLERANCE)


def test_a_prompt_is_computed_once():
    prompt = prompt_of(1, 300)
    with TandemServer(*HALF, "--no-prefix_cache", device="cuda") as server:
        expected, *_ = complete(server, prompt, 4)
    with TandemServer(*HALF, device="cuda") as server:
        first, cached, _ = complete(server, prompt, 4)
        assert (first, cached) == (expected, 0)
        again, cached, _ = complete(server, prompt, 4)
        assert cached == 256
        assert_same(again, expected)
        server.wait_until_idle()


def test_host_memory_keeps_what_the_engine_gives_up():
    with TandemServer(*HALF, "--cache_lens", "1100", "--host_cache_gb", "0.2", device="cuda") as server:
        answers = [complete(server, prompt_of(seed, 500), 4)[0] for seed in range(20, 25)]
        again = [complete(server, prompt_of(seed, 500), 4) for seed in range(20, 25)]
        assert all(cached >= 448 for _, cached, _ in again)
        for (ours, *_), expected in zip(again, answers, strict=True):
            assert_same(ours, expected)
        server.wait_until_idle()


def test_another_division_does_not_read_the_pages(tmp_path):
    prompt = prompt_of(7, 200)
    for layers, expected in (("16", 0), ("16", 192), ("15", 0)):
        flags = ("--kv_cache_dir", tmp_path, "-ngl", layers, "--kv_type", "f16")
        with TandemServer(*flags, device="cuda") as server:
            assert complete(server, prompt, 4)[1] == expected
            assert server.stop() == 0
