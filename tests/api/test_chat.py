"""Chat completions with the official client, and by hand."""
import json
import math

import openai
import pytest

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def ask(client, messages=QUESTION, **fields):
    fields = {"model": "any", "max_tokens": 24, "temperature": 0, **fields}
    return client.chat.completions.create(messages=messages, **fields)


def gather(chunks):
    """Text, finish reason and usage of a stream with one choice."""
    text, reason, usage = "", None, None
    for chunk in chunks:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    return text, reason, usage


def test_the_request_of_the_release_notes(server):
    body = {"messages": [{"role": "user", "content": "hello"}], "model": "DeepSeek-R1",
            "temperature": 0.3, "top_p": 1.0, "stream": True}
    reply = server.post("/v1/chat/completions", body, headers={"accept": "application/json"})
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = reply.text.split("\n\n")
    assert events[-1] == "" and events[-2] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1]["choices"][0]["delta"] == {}
    assert chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length")
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)
    assert all("usage" not in chunk for chunk in chunks)
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_answers(client):
    answer = ask(client)
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].message.role == "assistant"
    assert answer.id.startswith("chatcmpl-")
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens <= 24


def test_streams_what_it_answers(client):
    whole = ask(client)
    text, reason, usage = gather(
        ask(client, stream=True, stream_options={"include_usage": True}))
    assert text == whole.choices[0].message.content
    assert reason == whole.choices[0].finish_reason
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert usage.prompt_tokens == whole.usage.prompt_tokens


def test_one_token_a_chunk(client):
    chunks = list(ask(client, stream=True, max_tokens=6))
    texts = [chunk for chunk in chunks if chunk.choices[0].delta.content]
    assert len(texts) == 6


def test_running_usage(client):
    chunks = list(ask(client, stream=True, max_tokens=5, stream_options={
        "include_usage": True, "continuous_usage_stats": True}))
    counts = [chunk.usage.completion_tokens for chunk in chunks]
    assert counts == sorted(counts) and counts[-1] == 5


def test_max_tokens(client):
    answer = ask(client, max_tokens=3)
    assert answer.usage.completion_tokens == 3
    assert answer.choices[0].finish_reason == "length"
    assert ask(client, max_completion_tokens=2).usage.completion_tokens == 2


def test_exact_length_for_benchmarks(client):
    answer = ask(client, max_tokens=40, extra_body={"ignore_eos": True, "min_tokens": 40})
    assert answer.usage.completion_tokens == 40


def test_min_tokens(client):
    # Without it the answer would be over sooner.
    short = ask(client, [{"role": "user", "content": "Say only: ok"}], max_tokens=200)
    longer = short.usage.completion_tokens + 10
    answer = ask(client, [{"role": "user", "content": "Say only: ok"}], max_tokens=200,
                 extra_body={"min_tokens": longer})
    assert short.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens >= longer


@pytest.mark.parametrize("stream", [False, True])
def test_stop(client, stream):
    whole = ask(client).choices[0].message.content
    stop = whole[5:9]  # begins and ends anywhere in tokens
    answer = ask(client, stop=[stop, "never said"], stream=stream)
    if stream:
        text, reason, _ = gather(answer)
    else:
        text, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
    assert text == whole[:whole.index(stop)]
    assert reason == "stop"
    kept = ask(client, stop=stop, extra_body={"include_stop_str_in_output": True})
    assert kept.choices[0].message.content == whole[:whole.index(stop) + len(stop)]


def test_seed(client):
    def text(seed):
        return ask(client, temperature=1.5, seed=seed).choices[0].message.content
    assert text(7) == text(7)
    assert len({text(seed) for seed in range(4)}) > 1


def test_several_choices(client):
    answer = ask(client, n=3, temperature=1.2, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in answer.choices]
    assert len(set(texts)) > 1
    assert answer.usage.completion_tokens > max(len(text.split()) for text in texts)
    streamed = {}
    for chunk in ask(client, n=3, temperature=1.2, seed=1, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] = streamed.get(choice.index, "") + (choice.delta.content or "")
    assert [streamed[i] for i in range(3)] == texts


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs(client, stream):
    answer = ask(client, logprobs=True, top_logprobs=4, stream=stream)
    if stream:
        entries = [entry for chunk in answer for choice in chunk.choices if choice.logprobs
                   for entry in choice.logprobs.content]
    else:
        entries = answer.choices[0].logprobs.content
    assert b"".join(bytes(entry.bytes) for entry in entries).decode().startswith("The capital")
    for entry in entries:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 4
        best = entry.top_logprobs[0]
        assert best.token == entry.token  # greedy
        assert best.logprob == pytest.approx(entry.logprob)
        assert sum(math.exp(top.logprob) for top in entry.top_logprobs) <= 1.0001
        assert [top.logprob for top in entry.top_logprobs] == sorted(
            (top.logprob for top in entry.top_logprobs), reverse=True)


def test_logit_bias(client, server):
    first = ask(client, max_tokens=1, logprobs=True).choices[0].logprobs.content[0].token
    reply = server.post("/v1/completions", {"prompt": first, "max_tokens": 1, "echo": True})
    assert reply.status_code == 200
    # Each token that may begin the answer is banned in turn, by an id found in no other way than
    # by trying: the most likely token must change.
    banned = {str(token): -100 for token in range(20000)}
    other = ask(client, max_tokens=1, logprobs=True, logit_bias=banned)
    assert other.choices[0].logprobs.content[0].token != first


def test_system_message_and_history(client):
    def conversation(question):
        return ask(client, [
            {"role": "system", "content": ""},
            {"role": "user", "content": question},
            {"role": "assistant", "content": "Hello Zorro!"},
            {"role": "user", "content": "What is my name?"}])

    whole = conversation("My name is Zorro.")
    parts = conversation([{"type": "text", "text": "My name is "}, {"type": "text", "text": "Zorro."}])
    assert parts.usage.prompt_tokens == whole.usage.prompt_tokens
    assert parts.choices[0].message.content == whole.choices[0].message.content
    shorter = ask(client, [{"role": "user", "content": "What is my name?"}])
    assert shorter.usage.prompt_tokens < whole.usage.prompt_tokens


def test_special_tokens_in_user_text_stay_text(client):
    plain = ask(client, [{"role": "user", "content": "<|im_end|>"}], max_tokens=1)
    empty = ask(client, [{"role": "user", "content": ""}], max_tokens=1)
    # As a control token it would be one.
    assert plain.usage.prompt_tokens > empty.usage.prompt_tokens + 1


def test_continue_final_message(client):
    answer = ask(client, QUESTION + [{"role": "assistant", "content": "The capital of France is"}],
                 extra_body={"continue_final_message": True}, max_tokens=4)
    assert "Paris" in answer.choices[0].message.content


def test_unicode_comes_whole(client):
    text, _, _ = gather(ask(client, [{"role": "user", "content": "Repeat: 你好，世界 🌍 é"}],
                            stream=True, max_tokens=60))
    text.encode("utf-8")  # no halves of characters


def test_refusals_have_the_clients_exception(client):
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, response_format={"type": "json_object"})
    assert refused.value.code == "unsupported_parameter"
    assert refused.value.param == "response_format"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no such model")


def test_models(client):
    models = list(client.models.list())
    assert len(models) == 1
    assert client.models.retrieve(models[0].id).id == models[0].id
    assert models[0].max_model_len > 1000
    assert ask(client, max_tokens=1).model == models[0].id
