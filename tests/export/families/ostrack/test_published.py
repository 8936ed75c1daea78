"""Published figures go with the published networks alone; the networks have experiment files that say all."""

import pytest
import torch

from jntrt.export.experiment_yaml import ExperimentYaml
from jntrt.export.families.ostrack import family
from jntrt.export.families.ostrack.published import NETWORKS, published


def test_publisheds_belong_to_the_same_recipe_only() -> None:
    recipe = {
        "family": "ostrack", "template_size": 128, "search_size": 256, "dim": 768, "depth": 12, "heads": 12,
        "mlp_dim": 3072, "head": "center", "ce_layers": [3, 6, 9], "keep_ratio": [0.7, 0.7, 0.7],
    }  # fmt: skip
    figure = published(recipe)
    assert figure is not None
    assert (figure.model, figure.fps) == ("OSTrack-256", 105.4)
    without = published({**recipe, "ce_layers": [], "keep_ratio": []})
    assert without is not None
    assert without.fps == 93.1
    jn = {"family": "jn", "template_size": 144, "head": "distribution", "ce_layers": [], "keep_ratio": []}
    negative = published({**recipe, **jn})
    assert negative is not None
    assert (negative.fps, negative.scope) == (114, "scope not stated")
    for other in ({"dim": 192}, {"keep_ratio": [0.5] * 3}, {"template_size": 144}, {"head": "corner"}):
        assert published({**recipe, **other}) is None
    for nonsense in ({"search_size": "x"}, {"search_size": []}, {"ce_layers": 5}, {"family": ["ostrack"]}):
        assert published({**recipe, **nonsense}) is None


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_inferred_from_its_own_experiment_file(name: str) -> None:
    recipe = NETWORKS[name]
    with torch.device("meta"):
        weights = family.plain(recipe).state_dict()
    assert family.recognise(weights)
    config = ExperimentYaml("own", family.experiment(recipe))
    assert family.infer(weights, config, family.Flags(), ()).recipe == recipe
