"""The bare protocol: the original's example call, hang-ups, and everything a client can get wrong."""
import http.client
import json
import signal
import socket
import time

import pytest
from conftest import API_KEY, BINARY, Server

HEADERS = {"accept": "application/json", "Content-Type": "application/json", "Authorization": f"Bearer {API_KEY}"}
HELLO = {"messages": [{"role": "user", "content": "hello"}], "model": "DeepSeek-R1", "max_tokens": 4}


def call(server, method, path, body=None, headers=HEADERS):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    data = body if isinstance(body, (bytes, str, type(None))) else json.dumps(body)
    connection.request(method, path, data, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


def error_of(server, body, path="/v1/chat/completions"):
    answer, text = call(server, "POST", path, body)
    error = json.loads(text)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status, error


def test_the_originals_example(server):
    body = {"messages": [{"role": "user", "content": "hello"}], "model": "DeepSeek-R1", "temperature": 0.3,
            "top_p": 1.0, "stream": True}
    answer, text = call(server, "POST", "/v1/chat/completions", body)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = text.split("\n\n")
    assert events[-1] == "" and events[-2] == "data: [DONE]"
    chunks = [json.loads(e.removeprefix("data: ")) for e in events[:-2] if not e.startswith(":")]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length")


def test_a_client_that_hangs_up_frees_its_place(server):
    free = server.metric("tandem:kv_pages_free")
    cancelled = server.metric("tandem:requests_cancelled_total")
    for stream in (True, False):
        body = json.dumps({"messages": [{"role": "user", "content": "Count to a thousand."}], "ignore_eos": True,
                           "max_tokens": 4000, "stream": stream})
        with socket.create_connection(("127.0.0.1", server.port)) as s:
            s.sendall((f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n"
                       f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode())
            deadline = time.monotonic() + 20
            while server.metric("vllm:num_requests_running") == 0:
                assert time.monotonic() < deadline
            time.sleep(0.2)
        # Within a step, and a step takes some milliseconds; the rest is this test's own way to the metrics.
        deadline = time.monotonic() + 5
        while server.metric("vllm:num_requests_running") > 0:
            assert time.monotonic() < deadline, "still running after the client left"
        assert server.metric("tandem:kv_pages_free") == free
    assert server.metric("tandem:requests_cancelled_total") == cancelled + 2


@pytest.mark.parametrize(("change", "param"), [
    ({"temperature": "hot"}, "temperature"), ({"temperature": 3}, "temperature"), ({"top_p": -1}, "top_p"),
    ({"messages": []}, "messages"), ({"messages": "hi"}, "messages"), ({"messages": [{"content": "x"}]}, "messages"),
    ({"messages": [{"role": "owner", "content": "x"}]}, "messages"), ({"messages": [{"role": "user"}]}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages"),
    ({"n": 0}, "n"), ({"n": 1000}, "n"), ({"max_tokens": 0}, "max_tokens"), ({"max_tokens": "many"}, "max_tokens"),
    ({"stop": 5}, "stop"), ({"stop": [1]}, "stop"), ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"99999999": 1}}, "logit_bias"), ({"logit_bias": {"5": 1000}}, "logit_bias"),
    ({"top_logprobs": 5}, "top_logprobs"), ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"stream": "yes"}, "stream"), ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"response_format": {"type": "json_object"}}, "response_format"), ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [{"type": "custom"}]}, "tools"), ({"functions": [{"name": "f"}]}, "functions"),
    ({"seed": "x"}, "seed"), ({"frequency_penalty": 5}, "frequency_penalty"),
    ({"presence_penalty": "x"}, "presence_penalty"), ({"audio": {"voice": "x"}}, "audio"),
    ({"modalities": ["audio"]}, "modalities"), ({"reasoning_effort": 5}, "reasoning_effort"),
])
def test_wrong_fields_are_named(server, change, param):
    status, error = error_of(server, HELLO | change)
    assert status == 400
    assert error["param"].split("[")[0].split(".")[0] == param
    assert error["type"] == "invalid_request_error"


def test_too_long_a_prompt_names_both_numbers(server):
    status, error = error_of(server, HELLO | {"messages": [{"role": "user", "content": "word " * 20000}]})
    assert status == 400
    assert error["code"] == "context_length_exceeded"
    assert sum(c.isdigit() for c in error["message"]) >= 6


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '"x"', '{"messages":', "{" * 100000, b"\xff\xfe{}",
                                  '{"messages":[{"role":"user","content":"\\ud800"}]}'])
def test_malformed_bodies(server, body):
    assert error_of(server, body)[0] == 400


def test_deep_nesting_and_large_bodies(server):
    assert error_of(server, '{"messages":' + "[" * 5000 + "]" * 5000 + "}")[0] == 400
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request("POST", "/v1/chat/completions", b" " * (10 << 20), HEADERS)
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # refused while still sending


def test_unknown_fields_are_ignored_by_name(server):
    answer, _ = call(server, "POST", "/v1/chat/completions", HELLO | {"frobnicate": 1})
    assert answer.status == 200
    assert "frobnicate" in answer.headers["x-ignored-params"]
    assert call(server, "POST", "/v1/chat/completions", HELLO | {"seed": None, "stop": None})[0].status == 200


def test_keys_methods_and_routes(server):
    no_key = {"Content-Type": "application/json"}
    for headers in (no_key, no_key | {"Authorization": "Bearer wrong"}, no_key | {"Authorization": API_KEY}):
        answer, text = call(server, "POST", "/v1/chat/completions", HELLO, headers)
        assert answer.status == 401
        assert json.loads(text)["error"]["code"] == "invalid_api_key"
        assert call(server, "GET", "/v1/models", None, headers)[0].status == 401
    assert call(server, "POST", "/v1/chat/completions", HELLO, no_key | {"x-api-key": API_KEY})[0].status == 200
    answer, _ = call(server, "GET", "/v1/chat/completions")
    assert answer.status == 405 and "POST" in answer.headers["Allow"]
    assert call(server, "GET", "/nothing")[0].status == 404
    assert call(server, "GET", "/v1/models/none")[0].status == 404
    answer, _ = call(server, "OPTIONS", "/v1/chat/completions", None, {"Origin": "http://x"})
    assert answer.status in (200, 204) and answer.headers["Access-Control-Allow-Origin"]
    assert call(server, "GET", "/health", None, {})[0].status == 200


@pytest.mark.parametrize("raw", [b"\x00\x01\x02\x03\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n",
                                 b"POST /v1/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
                                 b"GET / HTTP/1.1\r\nA: " + b"x" * 100000 + b"\r\n\r\n"])
def test_malformed_http_harms_nobody(server, raw):
    with socket.create_connection(("127.0.0.1", server.port)) as s:
        s.settimeout(20)
        try:
            s.sendall(raw)
            s.shutdown(socket.SHUT_WR)
            first = s.recv(100)
            assert first == b"" or first.startswith(b"HTTP/1.1 4")
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert call(server, "GET", "/health")[0].status == 200


def test_the_server_is_alive_after_all(server):
    answer, text = call(server, "POST", "/v1/chat/completions", HELLO | {"temperature": 0})
    assert answer.status == 200
    assert json.loads(text)["choices"][0]["message"]["content"]


def test_thinking_is_kept_apart():
    server = Server("--force_think", "--max_new_tokens", "16").wait_until_ready()
    try:
        _, text = call(server, "POST", "/v1/chat/completions", HELLO)
        message = json.loads(text)["choices"][0]["message"]
        assert message["reasoning_content"]
        _, text = call(server, "POST", "/v1/chat/completions", HELLO | {"reasoning_format": "none"})
        assert json.loads(text)["choices"][0]["message"]["content"].startswith("<think>\n")
    finally:
        assert server.stop() == 0


def test_start_and_end():
    server = Server("--cache_lens", "1024", "--max_batch_size", "4", "--max_new_tokens", "1024", "--chunk_size", "256",
                    "--backend_type", "balance_serve").wait_until_ready()
    server.process.send_signal(signal.SIGINT)
    _, log = server.process.communicate(timeout=30)
    assert server.process.returncode == 0
    assert "room for" in log  # what concurrency is left


@pytest.mark.parametrize("flags", [["--optimize_config_path", "x.yaml"], ["--backend_type", "exllamav2"],
                                   ["--gguf_path", "/nonexistent.gguf"], ["--kv_type", "q4"], ["--page_size", "7"],
                                   ["--cpu_isa", "sse2"], ["--nonsense"]])
def test_flags_that_cannot_work_are_refused_in_one_line(flags):
    server = Server(*flags)
    _, log = server.process.communicate(timeout=30)
    assert server.process.returncode != 0
    assert BINARY.exists() and log.strip()
