"""Runs `tandem` on model files, and finds the models and recorded outputs that the tests compare with."""
import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BINARY = Path(os.environ.get("TANDEM_BINARY", ROOT / "build/release/tandem"))
MODELS = ROOT / "build/models"
SMOLLM2 = MODELS / "SmolLM2-135M-Instruct.Q4_1.gguf"
GOLDEN_FOLDERS = (ROOT / "tests/golden", ROOT.parent / "shared/golden")


def golden_path(name):
    """A recorded file: a copy in the tree, or in place beside the checkout."""
    for folder in GOLDEN_FOLDERS:
        if (folder / name).exists():
            return folder / name
    pytest.skip(f"golden file {name} is neither in tests/golden nor in ../shared/golden")


def golden(name):
    return json.loads(golden_path(name).read_text())


def golden_names(pattern):
    """Stems of the recorded files that match, from all folders."""
    found = {path.name for folder in GOLDEN_FOLDERS for path in folder.glob(pattern)}
    return sorted(name.split(".")[0] for name in found)


def run_tool(tool, *arguments):
    subprocess.run([sys.executable, ROOT / "tools" / tool, *map(str, arguments)], check=True)


def write_once(path, write):
    """The file, written through write(path) unless it is there from an earlier run."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_suffix(".part")
        write(scratch)
        scratch.rename(path)
    return path


def tiny_model(preset):
    """The preset's file, whose bytes must be those that the outputs were recorded from."""
    path = write_once(MODELS / "tiny" / f"{preset}.gguf",
                      lambda out: run_tool("tiny_gguf.py", preset, out))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == golden(f"{preset}.f32.json")["sha256"], f"{path} differs; delete it"
    return path


def smollm2_as_experts():
    """The default model as a mixture of 8 experts that computes the same function."""
    return write_once(MODELS / "SmolLM2-135M-Instruct.Q4_1.experts8.gguf",
                      lambda out: run_tool("gguf_rewrite.py", "experts", 8, SMOLLM2, out))


def run_tandem(*arguments, stdin=None):
    """Standard output of the program, as text."""
    command = [str(BINARY), *map(str, arguments)]
    # The deadline only ends a hang; it is far above what the slowest kernels need.
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=300)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr.decode(errors='replace')}"
    return done.stdout.decode()


def evaluate(model, prompts, folder, generate=1, top=1, **flags):
    """Greedy continuations of prompts (lists of ids), one dict each; see `tandem eval --help`.
    On the CPU, whose bits are promised, unless `device` says otherwise. A flag of value None stands alone."""
    cases = folder / "cases.json"
    cases.write_text(json.dumps({"cases": [{"ids": ids} for ids in prompts]}))
    arguments = ["eval", "--gguf_path", model, "--prompts", cases, "--generate", generate,
                 "--top", top]
    for name, value in {"device": "cpu", **flags}.items():
        arguments += ["--" + name] if value is None else ["--" + name, value]
    lines = [json.loads(line) for line in run_tandem(*arguments).splitlines()]
    assert len(lines) == len(prompts)
    return lines


# Of a sum of recorded probabilities: their logarithms have four decimals at least.
ROUNDING = 1e-4


def kl_divergence(recorded, ours):
    """The recorded distribution's KL divergence from ours, with the tokens that were recorded one by one and all others
    as one, so that it is never negative; both are lists of [id, log probability], ours has all that are recorded."""
    ours = dict(map(tuple, ours))
    p = [math.exp(logprob) for _, logprob in recorded]
    q = [math.exp(ours[token]) for token, _ in recorded]
    if 1 - sum(p) > ROUNDING:
        p, q = p + [1 - sum(p)], q + [max(1 - sum(q), 1e-12)]
    # What is missing to 1, or too much, is rounding.
    return sum(a / sum(p) * math.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q, strict=True))
