"""NanoTrack's heads in their fast form: what the template graph keeps of the target, and maps from that.

Exact savings: `conv_search` of the pixel-wise branches is linear, kernelᵀ·(W·x + b) = (kernelᵀW)·x +
kernelᵀb, so that both factors are memory and the convolution is gone; two 1×1 with nothing between them are
one (v3, before `down` and before the logits); of the two logits only their difference is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jntrt.export.families.siamese.fast.backbones import folded
from jntrt.export.families.siamese.fast.correlation import depthwise_correlation
from jntrt.export.families.siamese.fast.fold import (
    Array,
    Weights,
    chain,
    conv_norm,
    difference,
    f32,
    plain_conv,
)
from jntrt.export.families.siamese.recipe import Recipe
from jntrt.export.onnx.layers import concat, convolution
from jntrt.export.onnx.value import Value

_NAMES = {
    "nanotrack-v1": {"cls": ("cls_tower", "cls_logits"), "reg": ("bbox_tower", "bbox_pred")},
    "nanotrack-v2": {"cls": ("cls_pw_tower", "cls_pred"), "reg": ("bbox_pw_tower", "bbox_pred")},
    "nanotrack-v3": {"cls": ("cls_tower", "cls_logits"), "reg": ("bbox_tower", "bbox_pred")},
}


@dataclass(frozen=True)
class NanoTrackHead:
    """Writes the head of a recipe and its weights for a fixed batch."""

    recipe: Recipe
    weights: Weights
    batch: int

    # ---- template

    def memory(self, z: Value) -> dict[str, Value]:
        """Template features B×C×k×k → memory tensors: `memory_pw…` B×k²×C, `memory_bias_…` B×k²×1,
        `memory_dw_…` B×C×k/2×k/2."""
        if self.recipe.version == "nanotrack-v1":
            with z.graph.scope("memory"):
                return {"memory_pw": self._rows(z)}
        kept = {}
        for branch in ("cls", "reg"):
            with z.graph.scope(f"memory/{branch}"):
                pixelwise = f"ban_head.corr_pw_{branch}"
                rows = self._rows(self._adjusted(z, f"{pixelwise}.conv_kernel", "pw_kernel"))
                kernel, bias = conv_norm(
                    self.weights, f"{pixelwise}.conv_search.0", f"{pixelwise}.conv_search.1"
                )
                matrix = z.graph.constant(f32(kernel[:, :, 0, 0]), "pw_search")
                column = z.graph.constant(f32(bias[:, None]), "pw_search_bias")
                kept[f"memory_pw_{branch}"] = (rows @ matrix).named("pw")
                kept[f"memory_bias_{branch}"] = (rows @ column).named("pw_bias")
                if self.recipe.version == "nanotrack-v3":
                    edge, side = self.recipe.template_side // 4, self.recipe.template_side // 2
                    centre = z.crop(edge, edge, side, side, "dw_centre")
                    name = f"ban_head.corr_dw_{branch}.conv_kernel"
                    kept[f"memory_dw_{branch}"] = self._adjusted(centre, name, "dw_kernel")
        return kept

    def _rows(self, z: Value) -> Value:
        """B×C×k×k → B×k²×C."""
        cells, width = self.recipe.template_side**2, self.recipe.width
        return z.reshape(self.batch, width, cells, name="pw_flat").transpose(0, 2, 1, name="pw_rows")

    # ---- track

    def maps(self, x: Value, memory: Mapping[str, Value]) -> tuple[Value, Value]:
        """Instance features B×C×n×n → foreground's logit (the difference) B×1×n×n, log-distances B×4×n×n."""
        graph, version = x.graph, self.recipe.version
        if version == "nanotrack-v1":
            with graph.scope("head/correlation"):
                shared = self._pixelwise(x, memory["memory_pw"], None, "ban_head.corr_pw")
        maps = []
        for branch, (tower, last) in _NAMES[version].items():
            with graph.scope(f"head/{branch}"):
                if version == "nanotrack-v1":
                    y = shared
                else:
                    matrix, bias = memory[f"memory_pw_{branch}"], memory[f"memory_bias_{branch}"]
                    y = self._pixelwise(x, matrix, bias, f"ban_head.corr_pw_{branch}")
                conv = plain_conv(self.weights, f"ban_head.{last}.0")
                if version == "nanotrack-v3":
                    y = self._beside_depthwise(y, x, memory[f"memory_dw_{branch}"], branch)
                    y, end = self._normalised_tower(y, branch, f"ban_head.{tower}")
                    conv = chain(end, conv)
                else:
                    y = self._tower(y, branch, f"ban_head.{tower}")
                kernel, bias_ = difference(conv) if branch == "cls" else conv
                name = "logit" if branch == "cls" else "log_distance"
                maps.append(convolution(y, f32(kernel), f32(bias_), name))
        return maps[0], maps[1]

    def _pixelwise(self, x: Value, matrix: Value, bias: Value | None, name: str) -> Value:
        """Pixel-wise correlation and channel attention: B×k²×n×n."""
        recipe = self.recipe
        cells, side = recipe.template_side**2, recipe.search_side
        flat = x.reshape(self.batch, recipe.width, side**2, name="pw_flat")
        y = (matrix @ flat).named("pw_product")
        if bias is not None:
            y = (y + bias).named("pw_sum")
        y = y.reshape(self.batch, cells, side, side, name="pw_map")
        weight = y.global_average_pool("attention/mean")
        for layer in ("fc1", "fc2"):
            weight = folded(weight, self.weights, f"{name}.CA_layer.{layer}", None, f"attention/{layer}")
            weight = weight.relu("attention/relu") if layer == "fc1" else weight.sigmoid("attention/weight")
        return (y * weight).named("pw")

    def _beside_depthwise(self, y: Value, x: Value, kernel: Value, branch: str) -> Value:
        """v3: the pixel-wise map shrunk by a 2×2, the depth-wise one beside it, both brought to one width.

        The 1×1 after the 2×2 goes into the last one: `down` is linear too.
        """
        graph, w, recipe = y.graph, self.weights, self.recipe
        shrink, correlate = f"ban_head.corr_pw_{branch}.conv", f"ban_head.corr_dw_{branch}.conv_search"
        cells = recipe.template_side**2
        with graph.role("int8"):
            y = folded(y, w, f"{shrink}.0", f"{shrink}.1", "shrink", padding=0, groups=cells)
            y = self._relu6(y, "shrink/relu6")
            x = self._adjusted(x, correlate, "dw_search")
        shape = (self.batch, recipe.width, recipe.search_side, recipe.template_side // 2)
        x = depthwise_correlation(x, kernel, "dw", shape, padding=1)
        kernel_down, bias = plain_conv(w, f"ban_head.down_{branch}.0")
        inner, inner_bias = conv_norm(w, f"{shrink}.3", f"{shrink}.4")
        outer = (kernel_down[:, :cells], bias)
        folded_part, bias = chain((inner, inner_bias), outer)
        both = np.concatenate((folded_part, kernel_down[:, cells:]), axis=1)
        with graph.role("int8"):
            return convolution(concat([y, x], axis=1, name="both"), f32(both), f32(bias), "down")

    def _tower(self, x: Value, branch: str, name: str) -> Value:
        """v1 and v2: depth-wise k×k straight into 1×1 with batch norm, ReLU6."""
        for i in range(len(self._kernels(branch))):
            groups = len(self.weights[f"{name}.{4 * i}.weight"])
            with x.graph.scope(f"tower.{i}"), x.graph.role("int8"):
                x = folded(x, self.weights, f"{name}.{4 * i}", None, "depthwise", groups=groups)
                x = folded(x, self.weights, f"{name}.{4 * i + 1}", f"{name}.{4 * i + 2}", "pointwise")
                x = self._relu6(x, "relu6")
        return x

    def _normalised_tower(self, x: Value, branch: str, name: str) -> tuple[Value, tuple[Array, Array]]:
        """v3: depth-wise k×k with batch norm, ReLU6, 1×1 with batch norm. The last 1×1 is not written but
        returned."""
        last = len(self._kernels(branch)) - 1
        for i in range(last + 1):
            n = 5 * i
            groups = len(self.weights[f"{name}.{n}.weight"])
            with x.graph.scope(f"tower.{i}"), x.graph.role("int8"):
                x = folded(x, self.weights, f"{name}.{n}", f"{name}.{n + 1}", "depthwise", groups=groups)
                x = self._relu6(x, "relu6")
                if i < last:
                    x = folded(x, self.weights, f"{name}.{n + 3}", f"{name}.{n + 4}", "pointwise")
        return x, conv_norm(self.weights, f"{name}.{5 * last + 3}", f"{name}.{5 * last + 4}")

    def _kernels(self, branch: str) -> tuple[int, ...]:
        return self.recipe.cls_tower if branch == "cls" else self.recipe.reg_tower

    def _adjusted(self, x: Value, name: str, place: str) -> Value:
        return folded(x, self.weights, f"{name}.0", f"{name}.1", place)

    def _relu6(self, x: Value, name: str) -> Value:
        low, high = (x.graph.constant(np.float32(v), f"/relu6/{k}") for k, v in (("low", 0), ("high", 6)))
        return x.clip(low, high, name)
