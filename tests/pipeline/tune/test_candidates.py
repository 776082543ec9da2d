import pytest

from nabla_core.config import DTO, Decoding, NablaConfig, Sampling
from nabla_core.model_config import LM, Reward
from pipeline.config import load, overrides_yaml
from pipeline.generate.config import GenerateConfig
from pipeline.run.config import generation_settings
from pipeline.tune.candidates import candidates
from pipeline.tune.config import Grid


def test_left_to_right_varies_what_its_optimiser_goes_by():
    grid = Grid(beta=(1.0, 2.0), learning_rate=(0.1,))
    for optimizer, names in (
        ("mirror", ["beta=null", "beta=2", "beta=1"]),
        ("adam", ["learning_rate=0", "learning_rate=0.1"]),
    ):
        dto = DTO(optimizer=optimizer)
        found = candidates(Decoding(nabla=NablaConfig(dto=dto)), grid)
        assert [c.name for c in found] == names
        assert [c.gradient for c in found] == [False] + [True] * (len(names) - 1)
        assert len({c.decoding.nabla.dto for c in found}) == len(names)


def test_ranked_candidates_are_the_product_of_the_grid_and_those_without_a_guide_are_first():
    grid = Grid(beta=(1.0, 2.0), min_score=(-3.0,), reward_weight=(0.0, 1.0))
    found = candidates(Decoding(nabla=NablaConfig(proposals="ranked")), grid)
    assert [c.name for c in found] == [
        f"beta={beta} min_score=-3 reward_weight={weight}"
        for beta in ("null", 2, 1)
        for weight in (0, 1)
    ]
    assert [c.gradient for c in found] == [False] * 2 + [True] * 4


@pytest.mark.parametrize("number", range(6))
def test_the_overrides_of_a_candidate_are_the_settings_of_its_decoding(number):
    grid = Grid(beta=(1.0, 2.0), min_score=(-3.0,), reward_weight=(0.0, 1.0))
    candidate = candidates(Decoding(nabla=NablaConfig(proposals="ranked")), grid)[number]
    ranked = candidate.decoding.nabla.ranked
    assert dict(candidate.overrides) == {
        "decoding.nabla.ranked.beta": ranked.beta,
        "decoding.nabla.ranked.min_score": ranked.min_score,
        "decoding.nabla.ranked.reward_weight": ranked.reward_weight,
    }


def test_guided_decoding_is_compared_with_the_same_sampling_without_a_guide():
    grid = Grid(guided_beta=(0.25, 1.0))
    asked = Decoding(method="guided", guided=Sampling(0.7, 0.9, 5, beta=0.5))
    found = candidates(asked, grid)
    assert [c.gradient for c in found] == [False, True, True]
    assert [c.name for c in found[1:]] == ["beta=1", "beta=0.25"]
    assert [c.decoding.rollout for c in found] == [
        Sampling(0.7, 0.9, 5),
        Sampling(0.7, 0.9, 5, beta=1.0),
        Sampling(0.7, 0.9, 5, beta=0.25),
    ]
    assert dict(found[0].overrides) == {
        "decoding.method": "sample",
        "decoding.sample.temperature": 0.7,
        "decoding.sample.top_p": 0.9,
        "decoding.sample.top_k": 5,
        "decoding.sample.min_p": 0.0,
    }
    assert dict(found[2].overrides) == {"decoding.guided.beta": 0.25}


@pytest.mark.parametrize("file", ["configs/embedded.yaml", "configs/own/generate.yaml"])
@pytest.mark.parametrize(
    ("guide", "decoding"),
    [
        # The files before guide every token with a head; the judge, its own guide, cannot do that.
        (None, Decoding(nabla=NablaConfig(proposals="ranked"))),
        (None, Decoding(nabla=NablaConfig(dto=DTO(optimizer="mirror")))),
        ("my/head", Decoding(method="guided", guided=Sampling(0.7, 0.9, 5, beta=0.5))),
    ],
)
def test_what_is_chosen_is_used_with_any_files_before_it(guide, decoding, file, tmp_path):
    models = LM("my/lm"), Reward("my/judge", judge_revision="main", guide=guide)
    chosen = tmp_path / "chosen.yaml"
    grid = Grid(beta=(0.3,), min_score=(-2.0,), reward_weight=(1.0,), guided_beta=(0.125,))
    for candidate in candidates(decoding, grid):
        settings = generation_settings(*models, candidate.decoding)
        chosen.write_text(overrides_yaml(settings))
        found = load(GenerateConfig, [file, str(chosen)])
        assert (found.lm, found.reward) == models
        method = candidate.decoding.method
        assert found.decoding.method == method
        assert found.decoding.max_tokens == decoding.max_tokens
        assert getattr(found.decoding, method) == getattr(candidate.decoding, method)
