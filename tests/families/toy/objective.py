"""The toy learns where the target is, and whether it is there."""

from dataclasses import dataclass

from torch.nn import functional as F

from jntrt.runtime.errors import UserError

from .family import plain

FINE_TUNING = None


@dataclass(frozen=True)
class Settings:
    shift: float = 1.0  # jitter in target sizes


class Objective:
    parts = ("l1", "bce")

    def __init__(self, recipe, settings):
        self.recipe, self.settings = recipe, settings

    def network(self):
        return plain(self.recipe)

    def initialise(self, model, start, photos, seed):
        if start != "plain":
            raise UserError(f"start: {start}: the toy has plain alone")

    def optimised(self, name, parameter):
        return 1.0, False

    def jitter(self, box, rng):
        x, y, w, h = box
        dx, dy = self.settings.shift * (rng.random(2) - 0.5)
        return x + dx * w, y + dy * h, w, h

    def side_inputs(self, box):
        return {}

    def mirrored(self, side_inputs):
        return side_inputs

    def loss(self, network, batch, step):
        crops = [network.normalise(batch[name]) for name in ("template", "search")]
        out = network(*crops, batch["previous_size"])
        present = batch["present"].float()
        l1 = ((out["box"] - batch["box"]).abs().mean(dim=1) * present).sum() / present.sum().clamp(min=1)
        bce = F.binary_cross_entropy_with_logits(out["logit"], present)
        return {"loss": l1 + bce, "l1": l1.detach(), "bce": bce.detach()}

    def distillation(self, model, channels):
        raise UserError("the toy has no distillation")

    def finished(self, weights):
        return weights

    def at(self, step):
        return self.recipe
