"""The losses against the golden values, and a step of training of both trackers."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from jntrt.export.families.iou import box_iou
from jntrt.export.families.siamese.objective import Objective, Settings
from jntrt.export.families.siamese.plain.decode import points
from jntrt.export.families.siamese.published import NETWORKS
from jntrt.export.families.siamese.training import losses
from jntrt.export.families.siamese.training.emphasis import choose_regions
from jntrt.runtime.errors import UserError

from .golden_siamese import GOLDEN, recipe_of

FILE = json.loads((GOLDEN / "hne" / "losses.json").read_text())


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def test_contrastive():
    for case in FILE["contrastive"]:
        exemplar, vectors = double(case["exemplar"]), double(case["vectors"])
        got = losses.contrastive(exemplar, vectors, torch.tensor(case["y"]) == 1, case["margin"])
        assert got.item() == pytest.approx(case["loss"], abs=1e-12)


def test_iou():
    for case in FILE["iou"]:
        at, predicted, true = (double([case[k]]) for k in ("point", "predicted_xyxy", "true_xyxy"))
        sides = [losses.side_distances(at, box)[0, 0] for box in (predicted, true)]
        iou = losses.distance_iou(*sides)
        assert iou.item() == pytest.approx(case["iou"], abs=1e-12)
        assert -iou.log().item() == pytest.approx(case["loss"], abs=1e-12)
        assert box_iou(predicted, true)[0].item() == pytest.approx(case["iou"], abs=1e-12)


def test_centerness():
    for case in FILE["centerness"]:
        got = losses.centerness_targets(double([case["point"]]), double([case["true_xyxy"]])).item()
        assert got == pytest.approx(case["target"], abs=1e-12)
        assert (got > 0) == case["positive"]
    whole = FILE["centerness_map"]
    at = torch.from_numpy(points(recipe_of("hne")) + 127)
    got = losses.centerness_targets(at, double([whole["true_xyxy"]])).reshape(26, 26)
    np.testing.assert_allclose(got.numpy(), whole["map"], atol=1e-12)
    assert (got > 0).sum() == whole["positives"]


def test_centerness_bce():
    for case in FILE["centerness_bce"]:
        got = functional.binary_cross_entropy_with_logits(double(case["logit"]), double(case["target"]))
        assert got.item() == pytest.approx(case["loss"], abs=1e-12)


def test_focal():
    for case in FILE["focal"]:
        got = losses.focal(double(case["p"]), torch.tensor(case["y"] == 1)).item()
        assert (case["alpha"], case["gamma"]) == (losses.FOCAL_ALPHA, losses.FOCAL_GAMMA)
        assert got == pytest.approx(case["loss"], abs=1e-12)


def test_ellipses_and_drawn_cells():
    at = torch.from_numpy(points(recipe_of("v3")))
    boxes = double([[-60.0, -40.0, 60.0, 40.0]])
    labels = losses.ellipse_labels(at, boxes)
    for (x, y), label in zip(at.tolist(), labels[0].tolist(), strict=True):
        inner, outer = (x / 30) ** 2 + (y / 20) ** 2, (x / 60) ** 2 + (y / 40) ** 2
        assert label == (1 if inner < 1 else 0 if outer > 1 else -1)
    generator = torch.Generator().manual_seed(0)
    drawn = losses.draw_cells(labels.repeat(2, 1), torch.tensor([True, False]), generator)
    few = int((labels == 1).sum())
    assert [(drawn[0] == k).sum().item() for k in (1, 0)] == [min(few, 16), 48]
    assert [(drawn[1] == k).sum().item() for k in (1, 0)] == [0, min(few, 16)]
    assert (labels[0][drawn[1] == 0] == 1).all()


def test_nll_weighs_both_sides_alike():
    logits = double([[[0.0, 1.0, 2.0], [0.5, -1.0, 3.0]]])
    log = logits.log_softmax(dim=1)[0]
    want = 0.5 * -log[1, 0] + 0.5 * (-log[0, 1] - log[0, 2]) / 2
    got = losses.balanced_nll(logits, torch.tensor([[1, 0, 0]]))
    assert got.item() == pytest.approx(want.item())
    assert losses.balanced_nll(logits, torch.tensor([[-1, -1, -1]])).item() == 0


def test_nms_keeps_the_best_of_neighbours():
    boxes = double([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]])
    assert losses.nms(boxes, double([0.5, 0.9, 0.1]), 0.7).tolist() == [1, 2]
    assert losses.nms(boxes, double([0.5, 0.9, 0.1]), 0.9).tolist() == [1, 0, 2]


def test_roi_align_of_a_slope_is_its_value_at_the_bins_centres():
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    box = torch.tensor([[40.0, 60.0, 140.0, 100.0]])
    got = losses.roi_align(torch.stack((x, y)), box, 5, 8)[0]
    centres = (torch.arange(5) + 0.5) / 5
    torch.testing.assert_close(got[0], ((40 + 100 * centres) / 8 - 0.5).expand(5, 5))
    torch.testing.assert_close(got[1], ((60 + 40 * centres) / 8 - 0.5)[:, None].expand(5, 5))


def test_regions_are_the_true_box_positives_and_hard_negatives():
    true = torch.tensor([-40.0, -40.0, 40.0, 40.0])
    found = torch.stack((true + 4, true + 60, true + 70, true + 20))
    chosen, same = choose_regions(found, torch.tensor([0.9, 0.8, 0.7, 0.6]), true)
    overlap, _ = box_iou(chosen, true[None])
    assert same.tolist() == [True] * 6 + [False] * (len(chosen) - 6)
    assert (overlap[same] > 0.8).all()
    assert (overlap[~same] < 0.3).all()
    assert overlap[0] == 1
    assert torch.equal(chosen[1], found[0])
    assert torch.equal(chosen[6], found[1])


HNE = replace(
    NETWORKS["hne"], stem=8, blocks=((1, 4, 8), (1, 4, 8), (2, 4, 8), (1, 4, 8)), width=8, cls_width=8
)


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [(NETWORKS["tiny"], Settings()), (NETWORKS["tiny"], Settings(emphasis=0.1)), (HNE, Settings())],
    ids=["nanotrack", "nanotrack with emphasis", "hne"],
)
def test_training_lowers_the_loss_and_reaches_every_weight(recipe, settings):
    torch.manual_seed(0)
    objective = Objective(recipe, settings)
    model = objective.network().train()
    generator = torch.Generator().manual_seed(1)
    batch = {
        name: torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8, generator=generator)
        for name, side in (("template", 127), ("search", 255))
    }
    batch["box"] = torch.tensor([[0.5, 0.45, 0.4, 0.35], [0.5, 0.5, 0.3, 0.3]])
    batch["present"] = torch.tensor([True, False])
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    seen = []
    for step in range(6):
        torch.manual_seed(2)  # the same cells every time
        out = objective.loss(model, batch, step)
        assert set(out) == {"loss", *objective.parts}
        optimiser.zero_grad()
        out["loss"].backward()
        optimiser.step()
        seen.append(out["loss"].item())
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    assert min(seen[-3:]) < 0.8 * seen[0]


def test_the_backbone_can_be_frozen_for_a_while():
    objective = Objective(NETWORKS["tiny"], Settings(frozen=1))
    model = objective.network().train()
    batch = {
        "template": torch.zeros(2, 127, 127, 3, dtype=torch.uint8),
        "search": torch.zeros(2, 255, 255, 3, dtype=torch.uint8),
        "box": torch.full((2, 4), 0.5),
        "present": torch.tensor([True, True]),
    }
    objective.loss(model, batch, 0)["loss"].backward()
    assert all(p.grad is None for p in model.backbone.parameters())
    model.train()
    objective.loss(model, batch, 1)["loss"].backward()
    assert all(p.grad is not None for p in model.backbone.parameters())
    with pytest.raises(UserError, match="frozen -1"):
        Settings(frozen=-1)


def test_a_trained_state_loads_into_the_plain_form(tmp_path):
    """What training adds is no part of the network: weights of either go into the other."""
    from safetensors.torch import save_file

    objective = Objective(HNE, Settings())
    bare = objective.network()
    save_file({k: v for k, v in bare.state_dict().items() if "emphasis" not in k}, tmp_path / "w.safetensors")
    other = objective.network()
    objective.initialise(other, str(tmp_path / "w.safetensors"), None, 0)
    for name, value in bare.state_dict().items():
        if "emphasis" not in name:
            assert torch.equal(other.state_dict()[name], value)


def test_departure_is_the_scores_divergence_and_the_seen_distances_change():
    logits = torch.tensor([[0.0, 3.0], [0.0, 1.0]]).reshape(1, 2, 1, 2)
    distances = torch.full((1, 4, 1, 2), 20.0)
    assert losses.departure(logits, distances, logits, distances) == 0
    p, q = logits[0, :, 0, 1].softmax(dim=0), torch.tensor([0.5, 0.5])
    divergence = (p * (p / q).log()).sum() / 2  # one of the two cells differs
    got = losses.departure(torch.zeros_like(logits), distances, logits, distances)
    torch.testing.assert_close(got, divergence)
    got = losses.departure(logits, 2 * distances, logits, distances)
    torch.testing.assert_close(got, torch.tensor(2.0).log())


def original_file(folder):
    """A tiny NanoTrack's checkpoint, and a batch of an object and a region of a photograph."""
    from safetensors.torch import save_file

    torch.manual_seed(3)
    model = Objective(NETWORKS["tiny"], Settings()).network()
    save_file(model.state_dict(), folder / "original.safetensors")
    generator = torch.Generator().manual_seed(1)
    batch = {
        name: torch.randint(0, 256, (2, side, side, 3), dtype=torch.uint8, generator=generator)
        for name, side in (("template", 127), ("search", 255))
    }
    batch["box"] = torch.tensor([[0.5, 0.45, 0.4, 0.35], [0.5, 0.5, 0.3, 0.3]])
    batch["present"] = torch.tensor([True, True])
    batch["region"] = torch.tensor([False, True])
    return str(folder / "original.safetensors"), batch


def test_the_brake_holds_regions_of_photographs_to_the_originals_outputs(tmp_path):
    original, batch = original_file(tmp_path)
    settings = Settings(original=original, brake=2.0, frozen_norm=True)
    objective = Objective(NETWORKS["tiny"], settings)
    model = objective.network().train()
    objective.initialise(model, original, None, 0)
    before = {name: value.clone() for name, value in model.named_buffers()}
    out = objective.loss(model, batch, 0)
    torch.testing.assert_close(out["brake"], torch.tensor(0.0), atol=1e-6, rtol=0)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    # What such a pair's box says has no part in the loss.
    torch.manual_seed(0)
    once = objective.loss(model, batch, 0)["loss"]
    torch.manual_seed(0)
    moved = batch | {"box": torch.tensor([[0.5, 0.45, 0.4, 0.35], [0.3, 0.7, 0.1, 0.1]])}
    assert objective.loss(model, moved, 0)["loss"] == once
    with torch.no_grad():
        model.ban_head.cls_logits[0].bias += torch.tensor([0.0, 1.0])
    assert objective.loss(model, batch, 0)["brake"] > 0.01


def test_finished_weights_lie_half_way_to_the_original(tmp_path):
    original, _ = original_file(tmp_path)
    settings = Settings(original=original, half_way=0.25, emphasis=0.1)
    objective = Objective(NETWORKS["tiny"], settings)
    model = objective.network()
    objective.initialise(model, original, None, 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 4
    done = objective.finished(model.state_dict())
    assert not [name for name in done if name.startswith("emphasis")]
    name = "ban_head.cls_logits.0.weight"
    torch.testing.assert_close(done[name], before[name] + 3)
    objective.network().__class__(NETWORKS["tiny"]).load_state_dict(done)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"brake": 2.0}, "need original"),
        ({"half_way": 1.5, "original": "x"}, "half_way 1.5"),
        ({"emphasis": -1.0}, "emphasis -1"),
        ({"frozen_norm": 1}, "frozen_norm 1"),
    ],
)
def test_settings_that_cannot_be(values, message):
    with pytest.raises(UserError, match=message):
        Settings(**values)


def test_hne_has_no_brake():
    with pytest.raises(UserError, match="brake is for NanoTrack"):
        Objective(HNE, Settings(original="x", brake=1.0))
