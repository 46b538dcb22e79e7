"""`tandem bench`: its fields, and that its figures agree with each other and with the file. Speed itself
is not tested."""
import json
import statistics
import subprocess

import gguf
import pytest
from harness import BINARY, SMOLLM2, run_tandem, tiny_model

TINY_SIZES = ["-p", "24,7", "-n", 3, "--streams", "1,3", "--depth", 5, "--chunk_size", 16, "-t", 2]
COMMON = {"build_commit", "build_version", "cpu_info", "cpu_isa", "backends", "model_filename", "model_type",
          "model_size", "model_n_params", "n_batch", "n_ubatch", "n_threads", "type_k", "type_v", "sampled",
          "read_gbps", "copy_gbps", "peak_tops", "load_seconds", "load_gbps"}
OWN = {"n_prompt", "n_gen", "n_depth", "n_streams", "test_time", "avg_ns", "stddev_ns", "avg_ts",
       "stddev_ts", "median_ts", "samples_ns", "samples_ts", "bytes_per_step", "ops_per_token",
       "int8_ops_per_token", "bandwidth_bound_ts", "compute_bound_ts", "percent_of_bound"}


def measure(model, *arguments):
    return json.loads(run_tandem("bench", "--device", "cpu", "--gguf_path", model, "-o", "json", *arguments))


@pytest.fixture(scope="module")
def lines():
    return measure(SMOLLM2, *TINY_SIZES, "-r", 3, "--ops")


def test_every_test_has_every_field(lines):
    tests = [(r["n_prompt"], r["n_gen"], r["n_depth"], r["n_streams"]) for r in lines]
    assert tests == [(24, 0, 0, 1), (7, 0, 0, 1), (0, 3, 5, 1), (0, 3, 5, 3)]
    for result in lines:
        assert set(result) == COMMON | OWN | {"step_ms", "ops"}
        assert {key: result[key] for key in COMMON} == {key: lines[0][key] for key in COMMON}
    common = lines[0]
    assert common["n_threads"] == 2
    assert common["n_batch"] == 16
    assert common["model_size"] == SMOLLM2.stat().st_size
    assert common["load_gbps"] == pytest.approx(
        common["model_size"] / common["load_seconds"] / 1e9)
    for name in ("read_gbps", "copy_gbps", "peak_tops"):
        assert common[name] > 0


def test_statistics_are_of_the_samples(lines):
    for result in lines:
        tokens = result["n_streams"] * (result["n_prompt"] + result["n_gen"])
        assert len(result["samples_ns"]) == len(result["samples_ts"]) == 3
        for ns, rate in zip(result["samples_ns"], result["samples_ts"], strict=True):
            assert rate == pytest.approx(tokens / ns * 1e9, rel=1e-5)
        assert result["median_ts"] == statistics.median(result["samples_ts"])
        assert result["avg_ts"] == pytest.approx(statistics.mean(result["samples_ts"]))
        assert result["stddev_ts"] == pytest.approx(statistics.stdev(result["samples_ts"]))
        assert result["avg_ns"] == pytest.approx(statistics.mean(result["samples_ns"]), rel=1e-6)
        assert result["stddev_ns"] == pytest.approx(
            statistics.stdev(result["samples_ns"]), rel=1e-3, abs=10)


def test_bounds_follow_from_their_parts(lines):
    for result in lines:
        prompt = result["n_prompt"]
        steps = -(-prompt // 16) if prompt else result["n_gen"]
        tokens_per_step = result["n_streams"] * (prompt + result["n_gen"]) / steps
        bandwidth = result["read_gbps"] * 1e9 / result["bytes_per_step"] * tokens_per_step
        compute = result["peak_tops"] * 1e12 / result["ops_per_token"]
        assert result["bandwidth_bound_ts"] == pytest.approx(bandwidth)
        assert result["compute_bound_ts"] == pytest.approx(compute)
        assert result["percent_of_bound"] == pytest.approx(
            100 * result["median_ts"] / (compute if prompt else bandwidth))


def multiply_adds(tensors):
    """Elements of the matrices among them."""
    return sum(int(tensor.n_elements) for tensor in tensors if len(tensor.shape) > 1)


def test_bytes_and_operations_are_the_files(lines):
    tensors = gguf.GGUFReader(SMOLLM2).tensors
    layers = multiply_adds(t for t in tensors if t.name.startswith("blk."))
    embedding = [t for t in tensors if t.name == "token_embd.weight"]  # the output matrix too
    output = multiply_adds(embedding)
    total_bytes = sum(int(tensor.n_bytes) for tensor in tensors)
    for result in lines:
        # Of a prompt's steps only the last one reads the output matrix.
        steps = -(-result["n_prompt"] // result["n_batch"]) if result["n_prompt"] else 1
        unread = int(embedding[0].n_bytes) * (1 - 1 / steps)
        assert result["bytes_per_step"] == total_bytes - unread
        outputs = 1 / result["n_prompt"] if result["n_prompt"] else 1
        assert result["ops_per_token"] == pytest.approx(2 * (layers + outputs * output))
        # Q4_1 and Q8_0 are multiplied with two int8 operands.
        assert result["int8_ops_per_token"] == pytest.approx(2 * result["ops_per_token"])


def test_operators_add_up_to_the_step(lines):
    for result in lines:
        ops = {op["op"]: op for op in result["ops"]}
        assert sum(op["ms_per_step"] for op in result["ops"]) == pytest.approx(result["step_ms"])
        assert sum(op["share"] for op in result["ops"]) == pytest.approx(1)
        assert all(op["ms_per_step"] > 0 for op in result["ops"])
        steps = 2 if result["n_prompt"] == 24 else 1
        # Two in each of 30 layers; one before the output matrix, in one of a prompt's steps.
        assert ops["norm"]["calls_per_step"] == 60 + 1 / steps
        assert ops["embed"]["calls_per_step"] == 1
        assert ops["output"]["calls_per_step"] == 1 / steps
        assert ops["attention"]["calls_per_step"] == ops["append_kv"]["calls_per_step"] == 30
        if result["n_gen"]:  # what products say they read is what the step reads
            read = sum(ops[name]["gbps"] * ops[name]["ms_per_step"] for name in ("linear", "output"))
            assert read * 1e6 == pytest.approx(result["bytes_per_step"], rel=0.01)
    # No operator is forgotten: on a quiet machine 0.2 % lies between them, in every result. On a busy
    # one a step may be interrupted anywhere.
    assert min(op["share"] for result in lines for op in result["ops"] if op["op"] == "other") < 0.1


def test_a_token_pays_for_the_experts_it_uses():
    """Of random tokens, one stream touches the fewest experts."""
    model = tiny_model("qwen3moe")
    few, many = measure(model, "-p", 0, "-n", 4, "--streams", "1,8", "-r", 1, "--depth", 0)
    reader = gguf.GGUFReader(model)
    experts, used = (reader.fields[f"qwen3moe.{key}"].contents()
                     for key in ("expert_count", "expert_used_count"))
    layers = [t for t in reader.tensors if t.name.startswith("blk.")]
    routed = multiply_adds(t for t in layers if "_exps." in t.name)
    output = multiply_adds(t for t in reader.tensors if t.name == "output.weight")
    per_token = multiply_adds(layers) + output - routed * (1 - used / experts)
    assert few["ops_per_token"] == many["ops_per_token"] == pytest.approx(2 * per_token)
    assert few["int8_ops_per_token"] == 0  # float32 weights
    assert few["bytes_per_step"] < many["bytes_per_step"] <= reader.data.nbytes


def test_runs_a_model_without_a_file():
    (result,) = json.loads(run_tandem("bench", "--device", "cpu", "--synthetic", "ds-v2-lite", "--layers", 2, "-p", 8,
                                      "-n", 0, "-r", 1, "-o", "json"))
    assert result["model_type"] == "deepseek2"
    assert result["n_prompt"] == 8
    # Experts that no token went to are not read.
    assert 0 < result["bytes_per_step"] < result["model_size"]
    assert result["median_ts"] > 0


def test_the_table_has_a_line_for_each_test():
    out = run_tandem("bench", "--device", "cpu", "--gguf_path", SMOLLM2, "-p", 8, "-n", 2, "--streams", "2", "-r", 1,
                     "-d", 0)
    rows = out.splitlines()[2:]
    assert [row.split("  ")[0] for row in rows] == ["test", "pp8", "tg2 x 2"]


@pytest.mark.parametrize("flags, complaint", [
    (["-p", "9000"], "context has 8192"),
    (["-d", "8190"], "context has 8192"),
    (["-p", "0", "-n", "0"], "nothing to measure"),
    (["-p", "x"], "--prompt"),
    (["-n", "-1"], "--generate"),
    (["--streams", "0"], "--streams"),
    (["-r", "0"], "--repetitions"),
    (["-o", "csv"], "--output"),
    (["--cpu_isa", "sse9"], "sse9"),
    (["--kv_type", "f8"], "--kv_type f8"),
    (["--gguf_path", "/nowhere.gguf"], "/nowhere.gguf"),
    (["--frobnicate"], "--frobnicate"),
    (["--layers", "3"], "--layers"),
    (["--synthetic", "ds-v2-lite"], "--synthetic"),  # and a file
])
def test_refuses(flags, complaint):
    model = [] if "--gguf_path" in flags else ["--gguf_path", SMOLLM2]
    done = subprocess.run([BINARY, "bench", "--device", "cpu", *model, *flags], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode != 0
    assert done.stdout == ""
    assert complaint in done.stderr.splitlines()[0]
