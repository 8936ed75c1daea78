"""The fused baseline computes what the plain form computes."""

import pytest
import torch

from jntrt.bench.gpu.sdpa import with_fused_attention
from jntrt.bench.latency.plain_network import Positional, example_inputs, plain_form
from jntrt.runtime.bundle import open_bundle


def test_the_same_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = open_bundle("jn-nano")
    plain = plain_form(bundle)
    example = example_inputs(bundle, plain)
    model = Positional(plain, list(example)).eval()
    torch.manual_seed(1)
    inputs = [torch.rand(value.shape) if value.dim() == 4 else value for value in example.values()]
    calls: list[torch.Size] = []
    original = torch.nn.functional.scaled_dot_product_attention

    def followed(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        calls.append(q.shape)
        return original(q, k, v)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", followed)
    fused = with_fused_attention(model)
    assert fused is not None
    with torch.inference_mode():
        wanted, got = model(*inputs), fused(*inputs)
    assert len(calls) == bundle.recipe["depth"]
    for one, other in zip(wanted, got, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_a_network_without_attention() -> None:
    bundle = open_bundle("nanotrack-v3")
    plain = plain_form(bundle)
    assert with_fused_attention(Positional(plain, list(example_inputs(bundle, plain)))) is None
