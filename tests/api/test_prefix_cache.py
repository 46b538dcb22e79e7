"""The prefix cache on the real program: hits in usage, equal text, a restart, damage, and kill -9."""
import json
import os
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import requests
from tandem_server import TandemServer

PROMPT_TOKENS = 2000
KILLS = int(os.environ.get("TANDEM_KILLS", "10"))


def prompt_of(seed, tokens=PROMPT_TOKENS):
    """Ids that no other seed begins with."""
    generator = random.Random(seed)
    return [generator.randrange(1000, 40000) for _ in range(tokens)]


def complete(server, prompt, max_tokens=16):
    """The answer with its tokens' probabilities to the last bit, cached tokens and seconds."""
    begin = time.monotonic()
    reply = server.post("/v1/completions", {"prompt": prompt, "max_tokens": max_tokens,
                                            "temperature": 0, "ignore_eos": True, "logprobs": 3})
    seconds = time.monotonic() - begin
    assert reply.status_code == 200, reply.text
    choice = reply.json()["choices"][0]
    answer = (choice["text"], choice["logprobs"]["token_logprobs"],
              choice["logprobs"]["top_logprobs"])
    return answer, reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"], seconds


def files_of(folder):
    return sorted(folder.glob("tandem-records/*/*.rec"))


def wait_for_files(folder, count, seconds=30):
    deadline = time.monotonic() + seconds
    while len(files_of(folder)) < count:
        assert time.monotonic() < deadline, f"{len(files_of(folder))} files"
        time.sleep(0.02)


def test_a_prompt_is_computed_once():
    with TandemServer() as server:
        prompt = prompt_of(1, 300)
        first, cached, _ = complete(server, prompt)
        assert cached == 0
        again, cached, _ = complete(server, prompt)
        assert (again, cached) == (first, 256), "four pages of 64"
        longer, cached, _ = complete(server, prompt + prompt_of(2, 50))
        assert cached == 256
        _, cached, _ = complete(server, prompt + prompt_of(3, 50))
        assert cached == 300, "and what the fifth page of the longer one begins with"
        server.wait_until_idle()
    with TandemServer("--no-prefix_cache") as server:
        assert complete(server, prompt)[:2] == (first, 0)
        assert complete(server, prompt)[:2] == (first, 0)
        assert complete(server, prompt + prompt_of(2, 50))[:2] == (longer, 0)


def test_a_restart_finds_the_pages_on_disk(tmp_path):
    flags = ("--kv_cache_dir", tmp_path, "--disk_cache_gb", "0.2")
    prompt = prompt_of(3)
    full_pages = PROMPT_TOKENS // 64
    with TandemServer(*flags) as server:
        complete(server, prompt_of(4, 100), max_tokens=1)  # what is cold at the start of a process
        cold_text, cached, _ = complete(server, prompt)
        assert cached == 0
        *_, cold = complete(server, prompt_of(5), max_tokens=1)
        wait_for_files(tmp_path, 2 * full_pages + 1)
        assert server.stop() == 0
    with TandemServer(*flags) as server:
        complete(server, prompt_of(6, 100), max_tokens=1)
        _, cached, warm = complete(server, prompt_of(5), max_tokens=1)
        assert cached == full_pages * 64
        assert complete(server, prompt)[:2] == (cold_text, full_pages * 64)
    print(f"first token after {cold * 1e3:.0f} ms cold, {warm * 1e3:.0f} ms from disk: "
          f"{cold / warm:.1f} times sooner")
    assert cold / warm >= 10


def test_another_page_form_finds_nothing(tmp_path):
    prompt = prompt_of(7, 200)
    with TandemServer("--kv_cache_dir", tmp_path) as server:
        complete(server, prompt)
        wait_for_files(tmp_path, 3)
        assert server.stop() == 0
    for flags in (("--kv_type", "f32"), ("--page_size", "32")):
        with TandemServer("--kv_cache_dir", tmp_path, *flags) as server:
            assert complete(server, prompt)[1] == 0
    with TandemServer("--kv_cache_dir", tmp_path) as server:
        assert complete(server, prompt)[1] == 192


def test_damaged_files_are_missed_and_removed(tmp_path):
    prompt = prompt_of(8, 400)
    with TandemServer("--kv_cache_dir", tmp_path) as server:
        text, *_ = complete(server, prompt)
        wait_for_files(tmp_path, 6)
        assert server.stop() == 0
    generator = random.Random(9)
    for damage in (lambda b: b[:len(b) // 2], lambda b: b"", lambda b: bytes(len(b)),
                   lambda b: b[:9000] + bytes([b[9000] ^ 1]) + b[9001:]):
        files = files_of(tmp_path)
        for path in generator.sample(files, 3):
            path.write_bytes(damage(path.read_bytes()))
        (tmp_path / "tandem-records" / "00").mkdir(exist_ok=True)
        (tmp_path / "tandem-records" / "00" / "foreign").write_text("foreign")
        with TandemServer("--kv_cache_dir", tmp_path) as server:
            assert complete(server, prompt)[0] == text
            assert not (tmp_path / "tandem-records" / "00" / "foreign").exists()
            wait_for_files(tmp_path, 6)  # those that were damaged are written again
            assert server.stop() == 0


def test_keys_share_pages_or_not():
    prompt = prompt_of(40, 200)
    for scope, of_others in (("shared", 192), ("key", 0)):
        with TandemServer("--api_key", "second", "--cache_scope", scope, key="first") as server:
            assert complete(server, prompt, 2)[1] == 0
            assert complete(server, prompt, 2)[1] == 192
            server.headers["Authorization"] = "Bearer second"
            assert complete(server, prompt, 2)[1] == of_others


def test_a_key_has_its_share_of_the_places_and_the_queue():
    flags = ("--max_running_per_key", "1", "--max_queue_per_key", "1", "--api_key", "second")
    with TandemServer(*flags, key="first") as server:
        body = {"prompt": prompt_of(41, 5), "max_tokens": 7000, "ignore_eos": True, "stream": True}
        streams = [server.post("/v1/completions", body, stream=True) for _ in range(2)]
        server.wait_for_metric("vllm:num_requests_waiting", 1)
        assert server.metric("vllm:num_requests_running") == 1
        refused = server.post("/v1/completions", body)
        assert refused.status_code == 429 and refused.headers["Retry-After"]
        assert refused.json()["error"]["code"] == "key_queue_full"
        server.headers["Authorization"] = "Bearer second"
        assert complete(server, prompt_of(42, 5), 2)[1] == 0  # passes the one that waits
        for stream in streams:
            stream.close()
        server.wait_until_idle()


def test_a_key_over_its_share_is_refused_before_its_body_is_parsed():
    flags = ("--max_running_per_key", "1", "--max_queue_per_key", "1", "--api_key", "second")
    with TandemServer(*flags, key="first") as server:
        def status(body, key):
            return requests.post(server.url + "/v1/completions", data=body,
                                 headers={"Authorization": f"Bearer {key}"}).status_code

        body = {"prompt": prompt_of(43, 5), "max_tokens": 7000, "ignore_eos": True, "stream": True}
        streams = [server.post("/v1/completions", body, stream=True) for _ in range(2)]
        server.wait_for_metric("vllm:num_requests_waiting", 1)
        assert status(b"{", "first") == 429
        assert status(b"{", "second") == 400
        for stream in streams:
            stream.close()
        server.wait_until_idle()
        # More ends of all kinds than the key has places, and afterwards it has them all.
        large = json.dumps({"prompt": "word " * 200_000, "max_tokens": 1}).encode()
        for _ in range(3):
            assert status(b"{", "first") == 400
            assert status(b'{"prompt": [1], "max_tokens": "many"}', "first") == 400
            assert status(large, "first") == 400  # longer than the context
            with socket.create_connection(("127.0.0.1", server.port)) as client:  # gone while it is parsed
                client.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer first\r\n"
                               b"Content-Length: %d\r\n\r\n" % len(large) + large)
            server.wait_until_idle()
        def stream_when_parsed():
            deadline = time.monotonic() + 30  # the place of the client that has gone is free when its body is parsed
            while (stream := server.post("/v1/completions", body, stream=True)).status_code == 429:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            return stream

        streams = [stream_when_parsed() for _ in range(2)]
        assert [stream.status_code for stream in streams] == [200, 200]
        assert status(b"{", "first") == 429
        for stream in streams:
            stream.close()
        server.wait_until_idle()


def test_one_server_a_directory(tmp_path):
    with TandemServer("--kv_cache_dir", tmp_path):
        with TandemServer("--kv_cache_dir", tmp_path, ready=False) as second:
            assert second.process.wait(60) == 1


def test_host_memory_keeps_what_the_engine_gives_up():
    # Room for two prompts of 500 tokens, one at a time.
    with TandemServer("--cache_lens", "1100", "--host_cache_gb", "0.2") as server:
        texts = [complete(server, prompt_of(seed, 500), 4)[0] for seed in range(20, 25)]
        again = [complete(server, prompt_of(seed, 500), 4) for seed in range(20, 25)]
        assert [text for text, *_ in again] == texts
        assert all(cached >= 448 for _, cached, _ in again)
        server.wait_until_idle()


def test_survives_kill_9_during_writes(tmp_path):
    """Each start finds a directory in whatever state the last kill left it."""
    prompts = [prompt_of(seed, 300) for seed in range(30, 34)]
    with TandemServer() as server:
        expected = [complete(server, prompt, 4)[0] for prompt in prompts]
    generator = random.Random(10)
    hits = 0
    for _ in range(KILLS):
        flags = ("--kv_cache_dir", tmp_path, "--disk_cache_gb", "0.02")  # less than all of them
        with TandemServer(*flags) as server, ThreadPoolExecutor(1) as pool:
            order = generator.sample(range(len(prompts)), len(prompts))
            text, cached, _ = complete(server, prompts[order[0]], 4)
            assert text == expected[order[0]]
            hits += cached > 0

            def go_on():
                try:
                    for index in order[1:]:
                        assert complete(server, prompts[index], 4)[0] == expected[index]
                except requests.ConnectionError:
                    pass
            rest = pool.submit(go_on)
            time.sleep(generator.uniform(0.0, 1.0))
            server.process.kill()
            rest.result()
    assert hits > 0
