"""A directory beside the weights, as models are published: its tokenizer and template are used."""
import json
import subprocess

import gguf
import pytest
from tandem_server import BINARY, ROOT, TandemServer

MODEL = ROOT / "build/models/SmolLM2-135M-Instruct.Q4_1.gguf"
NORMAL, CONTROL = 1, 3  # token types of GGUF
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
TEXTS = ["Hello, world!", "  two  spaces\n\n\tand 12345 digits", "naïve café 東京 🙂", "don't I'LL",
         "<|im_start|>user\nhi<|im_end|>\n", "x" * 300]


def contents(fields, name):
    return fields[name].contents()


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """The default model's tokenizer as Hugging Face writes it, and a template of its own."""
    fields = gguf.GGUFReader(MODEL).fields
    tokens = contents(fields, "tokenizer.ggml.tokens")
    types = contents(fields, "tokenizer.ggml.token_type")
    folder = tmp_path_factory.mktemp("model")
    tokenizer = {
        "added_tokens": [{"id": i, "content": token, "special": True}
                         for i, token in enumerate(tokens) if types[i] == CONTROL],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}]},
        "model": {"type": "BPE", "merges": contents(fields, "tokenizer.ggml.merges"),
                  "vocab": {token: i for i, token in enumerate(tokens) if types[i] == NORMAL}}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"},
         "add_bos_token": False, "chat_template": TEMPLATE}))
    (folder / "config.json").write_text(json.dumps(
        {"hidden_size": 576, "num_hidden_layers": 30, "num_attention_heads": 9,
         "vocab_size": len(tokens)}))
    return folder


def tokenize(text, *flags):
    done = subprocess.run([BINARY, "tokenize", *flags], input=text.encode(), capture_output=True,
                          check=True, timeout=60)
    return json.loads(done.stdout)


@pytest.mark.parametrize("text", TEXTS)
def test_tokenizer_json_equals_the_files_own(directory, text):
    assert tokenize(text, "--model_path", directory) == tokenize(text, "--gguf_path", MODEL)


def test_template_and_tokenizer_of_the_directory_are_served(directory):
    with TandemServer("--gguf_path", MODEL, "--model_path", directory) as server:
        reply = server.chat("hi", max_tokens=1).json()
        expected = tokenize("<|im_start|>user: hi<|im_end|>", "--model_path", directory)
        assert reply["usage"]["prompt_tokens"] == len(expected)


def test_directory_may_hold_the_weights(directory, tmp_path):
    for name in ("config.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((directory / name).read_bytes())
    (tmp_path / MODEL.name).symlink_to(MODEL)
    with TandemServer("--model_path", tmp_path) as server:  # no tokenizer.json: the file's own
        assert server.chat("hi", max_tokens=1).status_code == 200
