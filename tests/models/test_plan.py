"""`tandem plan` and `tandem doctor`: what they print, that rules reach the plan, and what is refused."""
import json
import subprocess

import gguf
import pytest
from harness import BINARY, SMOLLM2, evaluate, run_tandem, tiny_model

LITE = ["--synthetic", "ds-v2-lite"]
# Measuring a machine takes seconds.
MACHINE = ["--read_gbps", 50, "--peak_tops", 1]


def plan(*arguments, machine=MACHINE):
    return json.loads(run_tandem("plan", "-o", "json", *machine, *arguments))


def has_gpu():
    return "gpu_free_bytes" in plan("--gguf_path", SMOLLM2)["machine"]


def refusal(*arguments, verb="plan"):
    done = subprocess.run([BINARY, verb, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0, done.stdout
    return done.stderr


def test_a_plan_of_the_cpu_counts_the_file():
    result = plan("--gguf_path", SMOLLM2, "--device", "cpu", "--cache_lens", 1000)
    planned = result["plan"]
    assert planned["device"] == "cpu"
    assert "gpu_bytes" not in planned
    tensors = gguf.GGUFReader(SMOLLM2).tensors
    weights = sum(int(t.n_bytes) for t in tensors if t.name != "output_norm.weight")
    assert planned["host_bytes"]["weights"] == weights
    # 30 layers with 3 heads of 64, keys and values of two bytes.
    assert planned["host_bytes"]["cache"] == 1000 * 30 * 3 * 64 * 2 * 2
    assert planned["host_bytes"]["total"] == sum(
        planned["host_bytes"][part] for part in ("weights", "experts", "cache", "working"))
    assert planned["fits"]
    assert planned["experts"] == [None] * 30


def test_every_alternative_has_every_prediction():
    result = plan(*LITE, "-p", "0,64", "--streams", "1,4", machine=[])
    for alternative in [result["plan"], *result["alternatives"]]:
        tests = [p["test"] for p in alternative["predictions"]]
        assert tests == ["pp64", "tg x 1", "tg x 4"]
        for p in alternative["predictions"]:
            assert p["tokens_per_second"] > 0
            assert (p["gpu_seconds"] > 0) == (alternative["device"] == "cuda")
    assert result["machine"]["read_gbps"] > 0 and result["machine"]["peak_tops"] > 0


def test_a_faster_machine_is_predicted_faster():
    def rates(read, peak):
        result = plan(*LITE, "--device", "cpu",
                      machine=["--read_gbps", read, "--peak_tops", peak])
        assert (result["machine"]["read_gbps"], result["machine"]["peak_tops"]) == (read, peak)
        return [p["tokens_per_second"] for p in result["plan"]["predictions"]]
    slow, quick = rates(50, 1), rates(100, 2)
    assert all(1.8 < b / a < 2.01 for a, b in zip(slow, quick, strict=True))


def test_streams_share_experts_as_chance_has_it():
    def distinct(*flags):
        result = plan(*flags, "--device", "cpu", "-p", "0", "--streams", "1,2")
        return [entry["experts"] for entry in result["distinct_experts"]]
    # Of 64, 6 a token: the second stream finds 6 / 64 of its own taken.
    assert distinct(*LITE) == pytest.approx([6, 12 - 6 * 6 / 64])
    assert distinct(*LITE, "--spread", 16) == pytest.approx([6, 12 - 6 * 6 / 16])
    assert distinct("--gguf_path", SMOLLM2) == [0, 0]


def test_without_a_gpu_a_limit_on_its_memory_is_said_to_change_nothing():
    if has_gpu():
        pytest.skip("there is a GPU")
    out = run_tandem("plan", *LITE, "--gpu_memory_gb", 24, *MACHINE)
    assert "--gpu_memory_gb changes nothing" in out
    assert "everything on the CPU" in out
    assert "layers 0: none, layers 1-26: CPU" in out


def test_a_limit_on_the_gpus_memory_divides_the_experts():
    if not has_gpu():
        pytest.skip("there is no GPU")
    limit = ("--gpu_memory_gb", 8, "--cache_lens", 4096)
    hot = plan(*LITE, *limit)["plan"]
    assert hot["experts"].count("cuda") == 0
    assert 3e9 < hot["gpu_bytes"]["hot_experts"] < hot["gpu_bytes"]["total"] <= 8e9
    result = plan(*LITE, *limit, "--hot_experts", "off")
    planned = result["plan"]
    assert planned["gpu_bytes"]["hot_experts"] == 0
    assert planned["gpu_bytes"]["total"] <= result["machine"]["gpu_free_bytes"] <= 8e9
    assert planned["experts"].count("cuda") > 0 and planned["experts"].count("cpu") > 0
    assert planned["streams"]
    off = plan(*LITE, *limit, "--hot_experts", "off", "--stream_experts", "off")["plan"]
    assert not off["streams"] and off["experts"].count("cuda") > planned["experts"].count("cuda")
    small = plan(*LITE, "--gpu_memory_gb", 1)
    assert small["plan"]["device"] == "cpu" and "too small" in small["plan"]["reason"]


def test_layers_are_divided():
    if not has_gpu():
        pytest.skip("there is no GPU")
    cpu = plan(*LITE, "--device", "cpu")["plan"]
    assert cpu["cpu_layers"] == 27
    planned = plan(*LITE, "-ngl", 11)["plan"]
    assert planned["device"] == "cuda" and planned["cpu_layers"] == 17
    assert planned["experts"] == [None] + ["cpu"] * 16 + ["cuda"] * 10
    assert planned["summary"] == "the last 10 of 27 layers on the GPU, the others on the CPU"
    # Each side's cache; the embedding and the output are two matrices.
    gpu, host = planned["gpu_bytes"], planned["host_bytes"]
    assert gpu["cache"] * 17 == host["cache"] * 10 and gpu["cache"] > 0
    assert gpu["weights"] + host["weights"] == cpu["host_bytes"]["weights"]
    table = run_tandem("plan", *LITE, "-ngl", 11, *MACHINE)
    assert "embedding: CPU, layers 0-16: CPU, layers 17-26: GPU, output: GPU" in table
    assert plan(*LITE, "-ngl", 1)["plan"]["summary"] == "the output on the GPU, all layers on the CPU"
    assert plan(*LITE, "-ot", "blk.[0-3][.]=CPU")["plan"]["cpu_layers"] == 4


def test_a_small_gpu_takes_the_last_layers():
    """Not even all but the experts fit beside the smallest cache."""
    if not has_gpu():
        pytest.skip("there is no GPU")
    small = ("--gpu_memory_gb", 1.9)
    result = plan(*LITE, *small)
    planned = result["plan"]
    assert planned["device"] == "cuda" and 0 < planned["cpu_layers"] < 27
    assert planned["cache_tokens"] == 32768
    assert planned["gpu_bytes"]["total"] <= result["machine"]["gpu_free_bytes"]
    assert planned["reason"].startswith("all do not fit; ")
    rates = {a["name"]: a["predictions"][1]["tokens_per_second"] for a in [planned, *result["alternatives"]]}
    assert rates["planned"] > rates["everything on the CPU"]
    # On a CPU that reads faster than the GPU it is not worth it, unless it is asked for.
    quick = plan(*LITE, *small, machine=["--read_gbps", 1e5, "--peak_tops", 1e5])["plan"]
    assert quick["device"] == "cpu" and "predicted quicker" in quick["reason"]
    asked = plan(*LITE, *small, "--device", "cuda", machine=["--read_gbps", 1e5, "--peak_tops", 1e5])["plan"]
    assert asked["cpu_layers"] == planned["cpu_layers"]


@pytest.mark.parametrize("flags", [
    ["-ngl", 0], ["--n-gpu-layers", "0"], ["-ot", ".*=CPU"], ["--override_tensor", ".*=CPU"], ["--device", "cpu"]])
def test_the_cpu_alone_can_be_asked_for(flags):
    assert plan(*LITE, *flags)["plan"]["device"] == "cpu"


@pytest.mark.parametrize("flags, complaint", [
    (["-ot", "blk.3.ffn_up_exps=CPU"], "blk.3.ffn_up_exps.weight"),
    (["-ot", "attn_q=CPU"], "attn_q"),
    (["-ot", "exps=CUDA1"], "CUDA1"),
    (["-ot", "exps"], "REGEX=CPU"),
    (["-ngl", "5", "-ot", "blk.0.attn_q=CUDA0"], "blk.0.attn_q.weight"),
    (["-ngl", "5", "--device", "cpu"], "--device cpu"),
    (["-ot", "blk.2.=CPU"], "layers on the CPU come before"),
    (["-ngl", "0", "-ot", "exps=CUDA0"], "--n-gpu-layers 0"),
    (["-ngl", "99", "--device", "cpu"], "--device cpu"),
    (["-cmoe", "-ncmoe", "3"], "--n-cpu-moe"),
    (["--optimize_config_path", "/nowhere.yaml"], "/nowhere.yaml: cannot be read"),
    (["--optimize_config_path", "/tmp"], "/tmp: neither lines"),
    (["--gpu_memory_gb", "-1"], "--gpu_memory_gb"),
    (["--stream_experts", "often"], "--stream_experts often: known are auto, off"),
    (["--stream_experts", "65537"], "--stream_experts 65537"),
])
def test_what_cannot_be_done_is_refused(flags, complaint):
    assert complaint in refusal(*LITE, *flags)
    assert refusal(*LITE, *flags).count("\n") <= 2


def test_rules_reach_the_engine(tmp_path):
    """The same refusal where a model is loaded, and a file of rules for the CPU that is loaded by."""
    model = tiny_model("qwen3moe")
    rules = tmp_path / "rules.yaml"
    rules.write_text("'blk.1.ffn_up_exps': cpu\n")
    asked = tmp_path / "prompts.json"
    asked.write_text('{"cases": [{"ids": [1]}]}')
    complaint = refusal("--gguf_path", model, "--optimize_config_path", rules, "--prompts", asked, verb="eval")
    assert "blk.1.ffn_up_exps.weight" in complaint and str(rules) in complaint
    rules.write_text("'.*': cpu\n")
    prompts = [[1, 2, 3]]
    plain = evaluate(model, prompts, tmp_path)
    assert evaluate(model, prompts, tmp_path, device="auto", optimize_config_path=rules) == plain


def test_the_doctor_has_a_line_for_everything():
    done = subprocess.run([BINARY, "doctor", "-o", "json"], capture_output=True, text=True, timeout=60)
    checks = json.loads(done.stdout)
    assert all(set(check) == {"status", "name", "value", "advice"} for check in checks)
    assert {check["status"] for check in checks} <= {"ok", "warn", "fail"}
    assert done.returncode == (1 if any(c["status"] == "fail" for c in checks) else 0)
    names = {check["name"] for check in checks}
    assert {"gpu", "cpu", "kernels", "governor", "numa", "memory", "memory limit", "huge pages", "locked memory",
            "io_uring", "port 10002"} <= names
    for check in checks:
        assert check["value"]
        assert bool(check["advice"]) == (check["status"] != "ok")


def test_the_doctor_finds_a_port_in_use():
    import socket
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen(1)
        port = listener.getsockname()[1]
        out = run_tandem("doctor", "--port", port)
        line = next(line for line in out.splitlines() if f"port {port}" in line)
        assert line.startswith("warn") and "--port" in line
