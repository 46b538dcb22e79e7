"""Text completions."""
import json

import pytest

PROMPT = "The capital of France is"


def complete(client, prompt=PROMPT, **fields):
    fields = {"model": "any", "max_tokens": 8, "temperature": 0, **fields}
    return client.completions.create(prompt=prompt, **fields)


def test_completes(client):
    answer = complete(client)
    assert answer.choices[0].text.startswith(" Paris")
    assert answer.object == "text_completion"
    assert answer.usage.completion_tokens == 8


def test_stream_has_its_own_shape(server):
    reply = server.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 4, "temperature": 0,
                                            "stream": True})
    events = [event.removeprefix("data: ") for event in reply.text.split("\n\n")[:-1]]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert all(chunk["object"] == "text_completion" for chunk in chunks)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks).startswith(" Paris")
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_many_prompts_and_choices(client):
    answer = complete(client, ["A", PROMPT], n=2, max_tokens=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[2].text == answer.choices[3].text == complete(
        client, max_tokens=3).choices[0].text


def test_token_ids_as_prompt(client):
    ids = [504, 3575, 282, 4649, 314]
    one = complete(client, ids).choices[0].text
    two = complete(client, [ids, ids])
    assert [choice.text for choice in two.choices] == [one, one]
    assert two.usage.prompt_tokens == 2 * len(ids)


def test_echo(client):
    assert complete(client, echo=True).choices[0].text.startswith(PROMPT + " Paris")


def test_legacy_logprobs(client):
    logprobs = complete(client, logprobs=3).choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset) == 8
    assert logprobs.text_offset[0] == 0
    assert logprobs.text_offset[1] == len(logprobs.tokens[0])
    assert all(len(top) == 3 for top in logprobs.top_logprobs)
    assert logprobs.tokens[0] in logprobs.top_logprobs[0]


@pytest.mark.parametrize("fields", [{"best_of": 1}, {"ignore_eos": True, "repetition_penalty": 1.0},
                                    {"logprobs": None, "stop": None}])
def test_what_benchmark_clients_send(server, fields):
    body = {"model": "any", "prompt": PROMPT, "max_tokens": 5, "temperature": 0.0, **fields}
    reply = server.post("/v1/completions", body)
    assert reply.status_code == 200
    assert reply.json()["usage"]["completion_tokens"] == 5
