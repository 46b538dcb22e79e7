"""What clients get wrong: each gets its own answer, and the server goes on."""
import socket

import pytest

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def still_alive(server):
    yield
    server.wait_until_idle()
    assert server.process.poll() is None
    assert server.chat("hi", max_tokens=1).status_code == 200


def assert_error(reply, status, code, param=None):
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param)


@pytest.mark.parametrize("data", [
    b"", b"{", b'{"messages": [', b"[]", b'"text"', b"null", b"\xff\xfe\x00", b"[" * 100000,
    b'{"messages": ' + b'{"a":' * 10000 + b"1" + b"}" * 10001, b'{"a": 1} trailing',
    '{"messages": [{"role": "user", "content": "\ud800"}]}'.encode("utf-8", "surrogatepass")])
def test_malformed_json(server, data):
    assert_error(server.post(CHAT, data=data), 400, "invalid_json")


@pytest.mark.parametrize("fields, param", [
    ({"messages": []}, "messages"), ({"messages": "hi"}, "messages"),
    ({"messages": [{"role": "user"}]}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
     "messages"),
    ({"temperature": "hot"}, "temperature"), ({"temperature": -1}, "temperature"),
    ({"top_p": 2}, "top_p"), ({"max_tokens": 0}, "max_tokens"), ({"max_tokens": 1.5}, "max_tokens"),
    ({"n": 0}, "n"), ({"n": 100000}, "n"), ({"stop": 5}, "stop"), ({"stream": "yes"}, "stream"),
    ({"top_logprobs": 5}, "top_logprobs"), ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"99999999": 1}}, "logit_bias"), ({"seed": "lucky"}, "seed"),
    ({"stream_options": {"include_usage": True}}, "stream_options")])
def test_wrong_values(server, fields, param):
    assert_error(server.post(CHAT, {"messages": HELLO, **fields}), 400, "invalid_value", param)


@pytest.mark.parametrize("fields, param", [
    ({"response_format": {"type": "json_object"}}, "response_format"),
    ({"tool_choice": "required", "tools": []}, "tool_choice"),
    ({"functions": [{"name": "f"}]}, "functions"), ({"audio": {}}, "audio")])
def test_what_is_not_there(server, fields, param):
    assert_error(server.post(CHAT, {"messages": HELLO, **fields}), 400, "unsupported_parameter",
                 param)


def test_missing_fields(server):
    assert_error(server.post(CHAT, {}), 400, "missing_required_parameter", "messages")
    assert_error(server.post("/v1/completions", {}), 400, "missing_required_parameter", "prompt")


@pytest.mark.parametrize("prompt", [[-1], [10**9], [1.5], [[]], [], {}, 5, ["a", 5]])
def test_bad_prompts(server, prompt):
    assert_error(server.post("/v1/completions", {"prompt": prompt}), 400, "invalid_value", "prompt")


def test_unknown_fields_are_named(server):
    reply = server.chat("hi", max_tokens=1, colour="red", shape=None)
    assert reply.status_code == 200
    assert reply.headers["x-ignored-params"] == "colour"
    reply = server.post(CHAT, {"messages": HELLO, "max_tokens": 1, "a\r\nx-evil: 1": 1})
    assert reply.status_code == 200 and "x-evil" not in reply.headers


def test_prompt_too_long(server):
    longest = server.get("/v1/models").json()["data"][0]["max_model_len"]
    reply = server.chat("word " * (longest + 10), max_tokens=1)
    assert_error(reply, 400, "context_length_exceeded", "messages")
    assert str(longest) in reply.json()["error"]["message"]
    reply = server.post("/v1/completions", {"prompt": [1] * longest, "max_tokens": 1})
    assert_error(reply, 400, "context_length_exceeded", "prompt")


def test_body_too_large(server):
    assert_error(server.post(CHAT, data=b"x" * (10 << 20)), 413, "request_too_large")


def test_wrong_method_and_route(server):
    reply = server.get(CHAT)
    assert_error(reply, 405, "method_not_allowed")
    assert reply.headers["allow"] == "POST, OPTIONS"
    assert_error(server.post("/v1/models", {}), 405, "method_not_allowed")
    assert_error(server.get("/v2/nothing"), 404, "not_found")


def test_wrong_content_type(server):
    reply = server.post(CHAT, data=b"a=b",
                        headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert_error(reply, 415, "unsupported_media_type")


@pytest.mark.parametrize("data", [
    b"\x00" * 64, b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20000 + b"\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"POST / HTTP/1.1\r\nContent-Length: 99999999"
    b"999999999999999\r\n\r\n"])
def test_no_http(server, data):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        try:
            reply = connection.recv(65536)
        except ConnectionResetError:
            reply = b""
    assert reply == b"" or reply.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431", b"HTTP/1.1 413"))


def test_hang_up_in_the_middle_of_a_request(server):
    for size in (1, 20, 150):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall((b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
                                b"Content-Length: 100\r\n\r\n" + b"{" * 50)[:size])
