"""The losses against an independent reference, and their gradients in double precision."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from jntrt.export.families.ostrack.training import losses

GOLDEN = json.loads((Path(__file__).parents[3] / "data/golden/jn/losses.json").read_text())
EXACT = {"rtol": 1e-9, "atol": 1e-13}


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def test_quality_focal():
    cases = GOLDEN["qfl"]
    got = losses.quality_focal(double([c["sigma"] for c in cases]), double([c["y"] for c in cases]))
    np.testing.assert_allclose(got, [c["loss"] for c in cases], **EXACT)


def test_distribution_focal():
    cases = GOLDEN["dfl"]
    got = losses.distribution_focal(double([c["logits"] for c in cases]), double([c["d"] for c in cases]))
    np.testing.assert_allclose(got, [c["loss"] for c in cases], **EXACT)


def test_giou():
    cases = GOLDEN["giou"]
    iou, loss = losses.iou_and_giou_loss(
        double([c["predicted_xyxy"] for c in cases]), double([c["true_xyxy"] for c in cases])
    )
    np.testing.assert_allclose(iou, [c["iou"] for c in cases], **EXACT)
    np.testing.assert_allclose(loss, [c["loss"] for c in cases], **EXACT)


def test_gaussian_radius():
    for case in GOLDEN["gaussian_radius"]:
        radius = losses.gaussian_radius(case["w"], case["h"], case["overlap"])
        assert radius == pytest.approx(case["radius"], abs=1e-12)
        assert int(radius) == case["r"]


@pytest.mark.parametrize("case", GOLDEN["weighted_focal"])
def test_weighted_focal_and_its_map(case):
    x, y, w, h = case["box_xywh"]
    target = losses.gaussian_map(double([[x + w / 2, y + h / 2, w, h]]), case["n"])
    np.testing.assert_allclose(target[0], case["gaussian"], **EXACT)
    got = losses.weighted_focal(double([case["prediction"]]), target)
    assert float(got) == pytest.approx(case["loss"], rel=1e-9)


def test_keep_ratio():
    for case in GOLDEN["keep_ratio"]:
        got = losses.keep_ratio_at(case["epoch"], case["ratio"], case["start"], case["warm"])
        assert got == pytest.approx(case["value"], abs=1e-12)


def test_gradients():
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    logits = random(3, 4, 9).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: losses.distribution_focal(v, random(3, 4) * 0 + 2.3), (logits,))
    labels = double([0, 0, 0.2, 0.5, 0.9, 1, 0.3])
    sigma = (0.1 + 0.8 * random(7)).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: losses.quality_focal(v, labels), (sigma,))
    low = random(6, 2)
    boxes = torch.cat((low, low + 0.2 + random(6, 2)), dim=1).requires_grad_()
    true = double([[0.21, 0.32, 0.83, 0.94]]).expand(6, 4)
    assert torch.autograd.gradcheck(lambda v: losses.iou_and_giou_loss(v, true)[1], (boxes,))
    score = (0.05 + 0.9 * random(1, 5, 5)).requires_grad_()
    target = losses.gaussian_map(double([[0.5, 0.4, 0.6, 0.6]]), 5)
    assert torch.autograd.gradcheck(lambda v: losses.weighted_focal(v, target), (score,))


def test_focal_of_an_empty_map():
    for case in GOLDEN["weighted_focal"]:
        score = double([case["prediction"]])
        assert float(losses.weighted_focal(score, torch.zeros_like(score))) == pytest.approx(
            case["loss_all_zero_map"], rel=1e-9
        )


def head_maps(requires_grad=False):
    case = GOLDEN["distribution_head_pair"]
    logits = double(case["logits"])[None]
    sigma = double([c["sigma"] for c in case["cells"]]).reshape(1, 1, case["n"], case["n"])
    bins = torch.arange(17, dtype=torch.float64)
    distances = (logits.softmax(dim=2) * bins[:, None, None]).sum(dim=2)
    return {"reg_logits": logits, "sigma": sigma, "distances": distances}, double([case["true_xyxy"]])


@pytest.mark.parametrize("present", [True, False])
def test_distribution_head_cell_by_cell(present):
    case = GOLDEN["distribution_head_pair"]
    out, true = head_maps()
    terms = losses.distribution_terms(out, true, torch.tensor([present]))
    for cell in case["cells"]:
        row, column = cell["cell"]
        at = {name: term[0, row, column] for name, term in terms.items()}
        expected = cell["qfl"] if present else cell["qfl_negative_pair"]
        assert float(at["qfl"]) == pytest.approx(expected, rel=1e-9)
        assert bool(at["inside"]) == (cell["inside"] and present)
        if cell["inside"] and present:
            assert float(at["quality"]) == pytest.approx(cell["y"], rel=1e-9)
            for name in ("l1", "giou", "dfl"):
                assert float(at[name]) == pytest.approx(np.mean(cell[name]), rel=1e-9)


def test_distribution_loss_puts_the_cells_together():
    case = GOLDEN["distribution_head_pair"]
    out, true = head_maps()
    out = {k: torch.cat((v, v)) for k, v in out.items()}
    x1, y1, x2, y2 = true[0].tolist()
    box = double([[(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]] * 2)
    got = losses.distribution_loss(out, box, torch.tensor([True, False]))["loss"]
    inside = [c for c in case["cells"] if c["inside"]]
    total = sum(c["sigma"] for c in inside)
    mean = {n: sum(c["sigma"] * np.mean(c[n]) for c in inside) / total for n in ("l1", "giou", "dfl")}
    qfl = sum(c["qfl"] for c in case["cells"]) / len(inside)
    qfl_negative = sum(c["qfl_negative_pair"] for c in case["cells"]) / len(inside)
    expected = 5 * mean["l1"] + 2 * mean["giou"] + 0.2 * mean["dfl"] + qfl + qfl_negative
    assert float(got) == pytest.approx(expected, rel=1e-9)


def test_the_centre_head_reads_the_last_cell_for_a_centre_at_the_border():
    size = torch.zeros(1, 2, 16, 16, dtype=torch.float64)
    size[0, :, 8, 15] = double([0.02, 0.02])  # row 8, last column
    offset = torch.zeros_like(size)
    offset[0, :, 8, 15] = double([0.6, 0.0])
    out = {"score": torch.full((1, 1, 16, 16), 0.1, dtype=torch.float64), "size": size, "offset": offset}
    box = double([[15.6 / 16, 0.5, 0.02, 0.02]])  # 15.6 rounds to 16, which is no cell
    got = losses.center_loss(out, box, torch.tensor([True]))
    assert float(got["l1"]) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("present", [[True, True], [True, False], [False, False]])
@pytest.mark.parametrize("head", ["distribution", "center", "corner"])
def test_every_head_has_a_gradient(head, present):
    generator = torch.Generator().manual_seed(1)
    raw = torch.randn(2, 80, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)

    def loss(values):
        if head == "distribution":
            logits = values[:, :68].reshape(2, 4, 17, 4, 4)
            bins = torch.arange(17, dtype=torch.float64)
            out = {
                "reg_logits": logits,
                "distances": (logits.softmax(dim=2) * bins[:, None, None]).sum(dim=2),
                "sigma": values[:, 68:69].sigmoid(),
            }
        elif head == "center":
            out = {
                "score": values[:, :1].sigmoid(),
                "offset": values[:, 1:3],
                "size": values[:, 3:5].sigmoid(),
            }
        else:
            out = {"tl_logits": values[:, :1], "br_logits": values[:, 1:2]}
            for name in ("tl", "br"):
                maps = out[f"{name}_logits"]
                out[name] = maps.flatten(1).softmax(dim=1).reshape(maps.shape)
        box = double([[0.5, 0.45, 0.6, 0.5], [0.4, 0.6, 0.5, 0.6]])
        return losses.LOSSES[head](out, box, torch.tensor(present))["loss"]

    loss(raw).backward()
    assert torch.isfinite(raw.grad).all()
    assert raw.grad.abs().sum() > 0
