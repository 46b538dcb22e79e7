"""Flags, start and end of the program."""
import json
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
import yaml
from tandem_server import ROOT, TandemServer, refusal


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_ends_in_good_order(signal_number):
    with TandemServer() as server:
        assert server.chat("hi", max_tokens=1).status_code == 200
        assert server.stop(signal_number) == 0


def test_finishes_what_runs():
    with TandemServer() as server:
        replies = []
        thread = threading.Thread(target=lambda: replies.append(
            server.chat("hi", max_tokens=100, ignore_eos=True)))
        thread.start()
        server.wait_for_metric("vllm:num_requests_running", 1)
        assert server.stop() == 0
        thread.join()
        assert replies[0].json()["usage"]["completion_tokens"] == 100


def test_a_second_signal_ends_at_once():
    with TandemServer("--drain_seconds", 1000) as server:
        body = {"prompt": "a", "max_tokens": 8000, "ignore_eos": True, "stream": True}
        stream = requests.post(server.url + "/v1/completions", json=body, stream=True, timeout=60)
        pieces = stream.iter_content(16)
        next(pieces)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            server.process.wait(0.5)
        assert server.stop() == 0


def test_a_lost_engine_ends_requests_and_process(tmp_path):
    with open(tmp_path / "log", "w") as log, \
            TandemServer("--max_batch_size", 2, "--debug_fail_step", 200, stderr=log) as server:
        body = {"prompt": "a", "max_tokens": 8000, "ignore_eos": True}
        stream = server.post("/v1/completions", {**body, "stream": True}, stream=True)
        assert stream.status_code == 200
        # One runs beside the stream, the other waits.
        with ThreadPoolExecutor() as clients:
            replies = [clients.submit(server.post, "/v1/completions", body) for _ in range(2)]
            server.wait_for_metric("vllm:num_requests_waiting", 1)
            events = []
            with pytest.raises(requests.exceptions.ChunkedEncodingError):  # it has no end, so that nobody takes it for whole
                events.extend(line for line in stream.iter_lines() if line)
            statuses = [reply.result().status_code for reply in replies]
        assert server.process.wait(10) == 1
    reason = "step 200 was made to fail by --debug_fail_step"
    error = json.loads(events[-1].removeprefix(b"data: "))["error"]
    assert error["type"] == "server_error" and reason in error["message"]
    assert statuses == [500, 500]
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[-1] == f"tandem: ended because the engine failed: {reason}"
    assert [line.split()[1] for line in lines].count("error") == 1, lines  # the log's level, where it happened


def test_health_answers_while_the_model_loads():
    with TandemServer(ready=False) as server:
        statuses = set()
        while 200 not in statuses:
            try:
                statuses.add(server.get("/health").status_code)
            except requests.ConnectionError:
                assert server.process.poll() is None
        assert statuses <= {200, 503}


def test_key():
    flags = ("--api_key", "secret", "--model-name", "served", "--strict_params")
    with TandemServer(*flags) as server:
        assert server.get("/v1/models").status_code == 401
        assert server.chat("hi").status_code == 401
        assert server.get("/health").status_code == 200
        for headers in ({"Authorization": "Bearer secret"}, {"x-api-key": "secret"}):
            reply = server.get("/v1/models", headers=headers)
            assert reply.json()["data"][0]["id"] == "served"
        body = {"messages": [{"role": "user", "content": "hi"}], "colour": 1}
        reply = server.post("/v1/chat/completions", body, headers={"x-api-key": "secret"})
        assert reply.json()["error"]["param"] == "colour"


def test_force_think():
    with TandemServer("--force_think") as server:
        reply = server.chat("hi", max_tokens=5, temperature=0).json()["choices"][0]["message"]
        assert reply["reasoning_content"] and not reply["content"]
        raw = server.chat("hi", max_tokens=5, temperature=0, reasoning_format="none").json()
        assert raw["choices"][0]["message"]["content"].startswith("<think>\n")


def test_default_sampling():
    with TandemServer("--temperature", "0") as server:
        texts = {server.chat("Tell me a joke.", max_tokens=12).text.split('"content":')[1][:40]
                 for _ in range(3)}
        assert len(texts) == 1


def test_small_cache_serves_more_than_it_holds():
    flags = ("--cache_lens", 512, "--page_size", 32, "--max_batch_size", 4)
    with TandemServer(*flags) as server:
        assert server.metric("tandem:kv_pages_total") == 16
        replies = []

        def run(index):
            replies.append(server.chat(f"Question {index}?", max_tokens=120, ignore_eos=True))
        threads = [threading.Thread(target=run, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [r.json()["usage"]["completion_tokens"] for r in replies] == [120] * 6
        assert server.metric("vllm:num_preemptions_total") > 0
        server.wait_until_idle()


def test_tls(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl program to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key,
                    "-out", certificate, "-days", "1", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    flags = ("--ssl_keyfile", key, "--ssl_certfile", certificate)
    with TandemServer(*flags, scheme="https", ready=False) as server:
        with requests.Session() as session:
            session.verify = str(certificate)
            session.trust_env = False  # else REQUESTS_CA_BUNDLE wins over verify
            session.mount("https://", requests.adapters.HTTPAdapter(max_retries=0))
            url = server.url + "/v1/chat/completions"
            wait_for_tls(session, server)
            for stream in (False, True) * 3:  # over one connection
                body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3,
                        "stream": stream}
                reply = session.post(url, json=body, timeout=60)
                assert reply.status_code == 200
                assert ("[DONE]" in reply.text) == stream
            hang_up = session.post(url, json={**body, "max_tokens": 8000, "ignore_eos": True},
                                   stream=True, timeout=60)
            pieces = hang_up.iter_content(16)
            next(pieces)
            hang_up.close()
            wait_for_cancellation(session, server)
        assert server.stop() == 0


def wait_for_tls(session, server):
    for _ in range(600):
        try:
            if session.get(server.url + "/health", timeout=5).status_code == 200:
                return
        except requests.ConnectionError:
            assert server.process.poll() is None
        time.sleep(0.1)
    raise AssertionError("no answer over TLS")


def wait_for_cancellation(session, server):
    for _ in range(600):
        lines = session.get(server.url + "/metrics", timeout=5).text.splitlines()
        if any(line.startswith("tandem:requests_cancelled_total") and line.endswith(" 1")
               for line in lines):
            return
        time.sleep(0.1)
    raise AssertionError(lines)


def test_config_file(tmp_path):
    config = tmp_path / "flags.yaml"
    config.write_text(yaml.safe_dump({"model_name": "from-file", "max_batch_size": 2,
                                      "force_think": True, "cache_lens": 4096}))
    with TandemServer("--config", config, "--model_name", "from-flag") as server:
        assert server.get("/v1/models").json()["data"][0]["id"] == "from-flag"
        assert server.get("/v1/models").json()["data"][0]["max_model_len"] == 4096
    config.write_text("no_such_flag: 1\n")
    assert "no_such_flag" in refusal("--config", config)


@pytest.mark.parametrize("flags, word", [
    (["--backend_type", "ktransformers"], "balance_serve"),
    (["--optimize_config_path", "rules.yaml"], "rules.yaml"),
    (["--db_type", "sqllite"], "database"), (["--web"], "web page"), (["--no_flash_attn"], "effect"), (["--device", "cuda:0"], "device"),
    (["--no_such_flag"], "no_such_flag"), (["--port", "99999"], "port"),
    (["--sched_strategy", "random"], "FCFS"), (["--kv_type", "q4"], "kv_type"),
    (["--gguf_path", "/no/such/file.gguf"], "/no/such/file.gguf"),
    (["--model_path", "deepseek-ai/DeepSeek-R1"], "gguf_path"),
    (["--ssl_keyfile", "key.pem"], "ssl_certfile"), (["--host", "256.1.1.1"], "256.1.1.1")])
def test_flags_that_cannot_be(flags, word):
    message = refusal(*flags)
    assert word in message
    assert "terminate" not in message and "unexpected" not in message


def test_model_path_must_be_the_same_model(tmp_path):
    model = ROOT / "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"
    (tmp_path / "config.json").write_text('{"hidden_size": 577, "vocab_size": 49152}')
    message = refusal("--gguf_path", model, "--model_path", tmp_path)
    assert "hidden_size" in message and "577" in message and "576" in message
