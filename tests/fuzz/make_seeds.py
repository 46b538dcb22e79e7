#!/usr/bin/env python3
"""Writes the fuzzers' seeds into tests/fuzz/corpus. What the fuzzers found lies beside them, named found-*.

  make_seeds.py
"""
import json
import struct
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from gguf_format import (ARRAY, BOOL, F32, I32, STRING, U32, U64, byte_characters, header,  # noqa: E402
                         key_value, tensor_info)

CORPUS = Path(__file__).resolve().parent / "corpus"


def write(target, name, data):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def model_file(entries, tensors):
    """tensors: (name, dims, type id, bytes) each."""
    table, data = b"", b""
    for name, dims, type_id, size in tensors:
        table += tensor_info(name, dims, type_id, len(data))
        data += bytes(size + -size % 32)
    head = header(len(tensors), entries) + table
    return head + bytes(-len(head) % 32) + data


def bpe_vocabulary():
    characters = byte_characters()
    tokens = [characters[byte] for byte in range(256)] + ["he", "ll", "<s>", "<|im_end|>"]
    return [key_value("tokenizer.ggml.model", STRING, "gpt2"),
            key_value("tokenizer.ggml.pre", STRING, "qwen2"),
            key_value("tokenizer.ggml.tokens", ARRAY, (STRING, tokens)),
            key_value("tokenizer.ggml.token_type", ARRAY, (I32, [1] * 258 + [3, 3])),
            key_value("tokenizer.ggml.merges", ARRAY, (STRING, ["h e", "l l"])),
            key_value("tokenizer.ggml.bos_token_id", U32, 258),
            key_value("tokenizer.ggml.eos_token_id", U32, 259),
            key_value("tokenizer.ggml.add_bos_token", BOOL, True)]


def spm_vocabulary():
    tokens = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % byte for byte in range(256)]
    tokens += ["\u2581", "h", "e", "he", "l", "ll", "\u2581he"]
    types = [2, 3, 3] + [6] * 256 + [1] * 7
    return [key_value("tokenizer.ggml.model", STRING, "llama"),
            key_value("tokenizer.ggml.tokens", ARRAY, (STRING, tokens)),
            key_value("tokenizer.ggml.scores", ARRAY, (F32, [-float(i) for i in range(len(tokens))])),
            key_value("tokenizer.ggml.token_type", ARRAY, (I32, types)),
            key_value("tokenizer.ggml.bos_token_id", U32, 1),
            key_value("tokenizer.ggml.eos_token_id", U32, 2)]


def configuration(architecture, **numbers):
    common = {"block_count": 1, "context_length": 64, "embedding_length": 32,
              "feed_forward_length": 32, "attention.head_count": 2, "attention.head_count_kv": 1}
    entries = [key_value("general.architecture", STRING, architecture),
               key_value(architecture + ".attention.layer_norm_rms_epsilon", F32, 1e-6),
               key_value(architecture + ".rope.freq_base", F32, 1e4)]
    for key, value in {**common, **numbers}.items():
        entries.append(key_value(f"{architecture}.{key}", U32, value))
    return entries


def write_gguf():
    q4, f32 = 2, 0
    weights = [("token_embd.weight", (32, 8), f32, 1024), ("output.weight", (32, 8), q4, 144)]
    write("gguf", "empty", model_file([], []))
    write("gguf", "llama-spm", model_file(configuration("llama") + spm_vocabulary(), weights))
    write("gguf", "qwen3moe-bpe", model_file(
        configuration("qwen3moe", expert_count=4, expert_used_count=2,
                      expert_feed_forward_length=32) + bpe_vocabulary(), weights))
    write("gguf", "deepseek2", model_file(
        configuration("deepseek2", expert_count=4, expert_used_count=2, leading_dense_block_count=1,
                      expert_feed_forward_length=32, expert_shared_count=1, **{
                          "attention.q_lora_rank": 8, "attention.kv_lora_rank": 8,
                          "attention.key_length": 24, "attention.value_length": 16,
                          "rope.dimension_count": 8}), weights))
    write("gguf", "aligned", model_file([key_value("general.alignment", U32, 64)], weights))
    write("gguf", "types", model_file(
        [key_value("a", ARRAY, (U32, [1, 2, 3])), key_value("b", ARRAY, (STRING, ["x", "y"])),
         key_value("c", U64, 1 << 40), key_value("d", BOOL, True), key_value("e", F32, 0.5)], []))
    write("gguf", "vocabulary-bpe", model_file(bpe_vocabulary(), []))
    write("gguf", "vocabulary-spm", model_file(spm_vocabulary(), []))
    huge = header(1, []) + tensor_info("x", (1 << 40, 1 << 40), f32, 0)
    write("gguf", "overflow", huge)
    write("gguf", "counts", b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 1 << 60))


TEMPLATES = {
    "chatml": "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
              "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "namespace": "{%- set ns = namespace(n=0, last='') -%}{% for m in messages|reverse %}"
                 "{% set ns.n = ns.n + loop.index0 %}{% if loop.first %}{{ loop.length }}{% endif %}"
                 "{% endfor %}{{ ns.n }}",
    "macro": "{% macro show(x, deep=true) -%}{% if x is mapping %}{% for k, v in x|dictsort %}"
             "{{ k }}={{ show(v) }};{% endfor %}{% elif x is iterable and x is not string %}"
             "[{% for i in x %}{{ show(i) }}{{ ',' if not loop.last }}{% endfor %}]{% else %}{{ x }}"
             "{% endif %}{%- endmacro %}{{ show(messages) }}",
    "tools": "{% if tools %}{% for t in tools %}{{ t.function | tojson(indent=2) }}{% endfor %}"
             "{% endif %}{% for c in messages[2].tool_calls %}{{ c.function.arguments.items() | list }}"
             "{% endfor %}",
    "slices": "{{ messages[1:][::-1] | length }}{{ 'abc'[-2:] ~ 'x' * 3 }}{{ (1, 2.5, none, true) }}"
              "{{ [1, 2] + [3] }}{{ -7 % 3 }}",
    "methods": "{{ ' a b '.strip().split(' ')|join('-') }}{{ 'x'.replace('x', 'yy').upper() }}"
               "{{ {'a': 1}.get('b', 'none') }}{{ '%s-%d'|format('q', 3) }}"
               "{{ 'ab'.startswith('a') and 'ab'.endswith('b') }}",
    "filters": "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | "
               "list | tojson }}{{ undefined_name | default('d', true) }}{{ 'x' | indent(2) }}",
    "raise": "{{ raise_exception('no ' ~ messages[0].role) }}",
    "blocks": "{% set text %}a{{ 1 }}b{% endset %}{% generation %}{{ text|trim }}{% endgeneration %}"
              "{% filter upper %}x{% endfilter %}{# note #}{{- strftime_now('%Y') -}}",
    "loops": "{% for i in range(10) %}{% if i == 3 %}{% continue %}{% endif %}"
             "{% if i > 6 %}{% break %}{% endif %}{{ loop.cycle('a', 'b') }}{{ loop.previtem }}"
             "{% endfor %}",
}


def write_jinja():
    for name, source in TEMPLATES.items():
        write("jinja", name, source)


def write_json():
    user = [{"role": "user", "content": "hi"}]
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": schema}}
    bodies = {
        "plain": {"messages": user},
        "sampling": {"messages": user, "temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.1,
                     "seed": 7, "frequency_penalty": 1, "presence_penalty": -1, "logprobs": True,
                     "top_logprobs": 3, "repetition_penalty": 1.1, "logit_bias": {"5": -100}, "n": 2},
        "lengths": {"messages": user, "max_completion_tokens": 5, "min_tokens": 2, "ignore_eos": True,
                    "stop": ["a", "b"], "stop_token_ids": [1], "include_stop_str_in_output": True,
                    "stream": True, "stream_options": {"include_usage": True}},
        "parts": {"messages": [{"role": "system", "content": [{"type": "text", "text": "<|end|>"}]},
                               {"role": "user", "content": [{"type": "text", "text": "a"}]}],
                  "chat_template_kwargs": {"mood": "x", "enable_thinking": True}},
        "tools": {"messages": user + [
            {"role": "assistant", "content": None, "reasoning_content": "r", "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "2"}],
            "tools": [tool], "tool_choice": {"type": "function", "function": {"name": "f"}},
            "parallel_tool_calls": False, "response_format": {"type": "text"}},
        "completion": {"prompt": ["a", "b"], "max_tokens": 3, "echo": True, "logprobs": 2, "best_of": 1},
        "ids": {"prompt": [[1, 2, 3], [4]], "suffix": None, "user": "u"},
    }
    for name, body in bodies.items():
        write("json_body", name, json.dumps(body))
    write("json_body", "escapes", '{"prompt": "\\ud83d\\ude00\\u0000 \\n", "x": [1e308, -0.0, 5E-1]}')
    write("json_body", "deep", "[" * 300)


def write_http():
    body = b'{"messages": [{"role": "user", "content": "hi"}]}'
    post = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    stream = body[:-1] + b', "stream": true}'
    write("http", "get", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    write("http", "post", post + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    write("http", "stream", post + b"Content-Length: %d\r\n\r\n" % len(stream) + stream)
    write("http", "chunked", post + b"Transfer-Encoding: chunked\r\n\r\n%x;a=b\r\n" % len(body) + body
          + b"\r\n0\r\nX-T: 1\r\n\r\n")
    write("http", "pipelined", b"GET /metrics HTTP/1.1\r\n\r\nHEAD /v1/models HTTP/1.1\r\n\r\n"
          b"OPTIONS /v1/completions HTTP/1.1\r\nOrigin: http://x\r\n\r\nDELETE / HTTP/1.0\r\n\r\n")
    write("http", "expect", post + b"Expect: 100-continue\r\nContent-Length: 5000\r\n\r\n")
    write("http", "target", b"GET http://x/v1/models/%41%zz?a=b HTTP/1.1\r\nX-Request-Id: a\r\n\r\n")
    write("http", "nonsense", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    write("http", "completion", b"POST /v1/completions HTTP/1.0\r\nContent-Length: 34\r\n\r\n"
          b'{"prompt": "a", "stream": true   }')


def write_encode():
    texts = ["Hello, world! It's 12345 o'clock.", "  spaces\t\n\r\n\n   ", "caf\u00e9 \u4f60\u597d \U0001f600\u200d\U0001f4bb",
             "<s>shielded <|im_end|>", "CamelCaseWords HTTPServer x1y2z3", "'LL 're'S a'b", "\u0301\u0301combining",
             "if (x) {\n    return y;\n}\n"]
    for number, text in enumerate(texts):
        write("encode", f"text-{number}", bytes([number * 5 % 13]) + text.encode())
    write("encode", "no-utf8", b"\x03\xc3\x28\xff\xfe\xe2\x82 \xf0\x9f ok \xed\xa0\x80")


def write_output():
    texts = {
        b"\x00": "<think>why</think>Yes.<tool_call>\n{\"name\": \"multiply\", \"arguments\": "
                 "{\"a\": 6}}\n</tool_call>",
        b"\x01": "<think>\n</think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>multiply\n"
                 "```json\n{\"a\": 6}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        b"\x02": "<|tool_calls_section_begin|><|tool_call_begin|>functions.multiply:0"
                 "<|tool_call_argument_begin|>{\"a\": 6}<|tool_call_end|><|tool_calls_section_end|>",
        b"\x03": "<tool_call>\n<function=multiply>\n<parameter=a>\n6\n</parameter>\n</function>\n"
                 "</tool_call>",
        b"\x04": "<tool_call>multiply\n<arg_key>a</arg_key>\n<arg_value>6</arg_value>\n</tool_call>",
        b"\x45": "still thinking</think>done",
        b"\x80": "<think>kept</think>",
    }
    for number, (choice, text) in enumerate(texts.items()):
        write("output", f"format-{number}", choice + b"\x03" + text.encode())


def write_records():
    """Damages to files of the disk cache, each with the store alone and with a scheduler."""
    overwrite, cut, append, replace, swap, remove, rename, seal = range(8)

    def damage(file, what, offset=0, data=b""):
        return struct.pack("<BBHB", file, what, offset, len(data)) + data

    damages = {
        "none": b"",
        "contents": damage(1, overwrite, 4100, b"\0"),
        "magic": damage(0, overwrite, 0, b"X"),
        "version": damage(0, overwrite, 8, b"\2") + damage(0, seal),
        "owner": damage(2, overwrite, 16, b"\7") + damage(2, seal),
        "length": damage(1, overwrite, 48, b"\xff" * 7) + damage(1, seal),
        "cut": damage(0, cut, 4096) + damage(1, cut, 4110) + damage(2, cut, 70) + damage(3, cut),
        "longer": damage(1, append, 0, b"more"),
        "replaced": damage(1, replace, 0, b"no record"),
        "swapped": damage(0, swap, 1) + damage(2, swap, 3),
        "removed": damage(1, remove) + damage(1, remove),
        "renamed": damage(0, rename, 0, b"ab" + b"0123456789abcdef" * 2) + damage(1, rename, 0, b"abx"),
        "elsewhere": damage(0, rename, 0, b"no folder of records"),
    }
    for name, data in damages.items():
        write("records", name, b"\0" + data)
        write("records", name + "-served", b"\1" + data)


if __name__ == "__main__":
    write_gguf()
    write_jinja()
    write_json()
    write_http()
    write_encode()
    write_output()
    write_records()
