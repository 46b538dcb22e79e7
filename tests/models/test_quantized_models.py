"""One small MoE model in every quantisation against llama.cpp's distribution on the same file."""
import pytest
from harness import evaluate, golden, golden_names, golden_path, kl_divergence

BELOW_FOUR_BITS = ("Q2_K", "Q3_K_M", "IQ3_S")


@pytest.mark.parametrize("file_type", golden_names("quant/*.json"))
def test_distribution_is_close(file_type, tmp_path):
    # The weights are the same bits; what differs is how finely each engine rounds activations.
    limit = 5e-2 if file_type in BELOW_FOUR_BITS else 1e-2
    cases = golden(f"quant/{file_type}.json")["cases"]
    results = evaluate(golden_path(f"quant/{file_type}.gguf"), [case["prompt"] for case in cases],
                       tmp_path, top=320)
    for case, ours in zip(cases, results, strict=True):
        assert kl_divergence(case["logprobs"], ours["logprobs"][0]) <= limit
