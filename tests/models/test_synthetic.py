"""The synthetic models of the program have the lay-out of those that tools/synth_gguf.py writes."""
import json
import math
import sys

import pytest
from harness import ROOT, run_tandem

sys.path.insert(0, str(ROOT / "tools"))
import synth_gguf  # noqa: E402


@pytest.mark.parametrize("layers", [None, 1, 9])
@pytest.mark.parametrize("name", ["ds-v2-lite", "ds-v3", "qwen3-30b-a3b", "qwen3-235b-a22b", "qwen3-14b"])
def test_same_tensors_and_metadata(name, layers, monkeypatch):
    model = dict(synth_gguf.MODELS[name])
    model["n_layer"] = layers or model["n_layer"]
    if model.get("dense", 0) >= model["n_layer"]:
        model["dense"] = 1
    flags = ["--layers", layers] if layers else []
    ours = json.loads(run_tandem("inspect", "--synthetic", name, *flags, "--json"))

    tensors = synth_gguf.tensors(model, model["vocab"], "q4_k_m")
    assert len(ours["tensors"]) == len(tensors)
    for tensor, (tensor_name, dims, dtype, _) in zip(ours["tensors"], tensors, strict=True):
        shape = list(reversed(dims))
        assert (tensor["name"], tensor["type"], tensor["shape"]) == (tensor_name, dtype, shape)
        assert tensor["bytes"] == synth_gguf.sizes(dims, dtype)[1]

    monkeypatch.setattr(synth_gguf, "key_value", lambda key, _, value: (key, value))
    metadata = dict(synth_gguf.metadata(name, model, model["vocab"], "q4_k_m"))
    assert ours["metadata"].keys() == metadata.keys()
    for key, value in metadata.items():
        written = ours["metadata"][key]
        same = math.isclose(written, value) if isinstance(value, float) else written == value
        assert same, f"{key} is {written}, not {value}"
