"""Part checkpoints without Ray: the rows of a worker, and the findings they become."""

import math

import pytest
import torch
from transformers import AutoModelForCausalLM

from nabla_core import Runtime, drive
from nabla_core.embedded import task
from nabla_core.embedded.tokenizer import encode
from nabla_core.embedded.weights import folder
from nabla_core.errors import NonFiniteError, VocabularyError
from nabla_core.model_config import LM
from pipeline.duality.checkpoints.config import CheckpointsConfig
from pipeline.duality.checkpoints.measure import measure
from pipeline.duality.checkpoints.recipe import CheckpointsRecipe
from pipeline.grading.graders import Verify
from pipeline.inputs.prompts import Prompts
from tests.pipeline.duality.checkpoints.tuned import tuned


def settings(policy, **changes) -> CheckpointsConfig:
    return CheckpointsConfig(
        reference=LM("embedded"),
        policy=LM(str(policy)),
        prompts=Prompts(limit=2),
        samples=8,
        reference_samples=400,
        max_tokens=16,
        betas=(8.0, 0.05),
        runtime=Runtime(device="cpu", max_batch=256),
        verify=Verify("embedded"),
        **changes,
    )


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Every row of two prompts, the settings, and the path of the policy."""
    path = tuned(tmp_path_factory.mktemp("tuned") / "lm")
    asked = settings(path)
    maker = CheckpointsRecipe(asked, 3, "hash").open()
    prompts = {p.id: p for p in task.prompts(2, seed=0, split="test")}
    wanted = [
        type(p)(p.id, p.messages, p.system, p.answer, sample)
        for p in prompts.values()
        for sample in range(asked.samples + asked.reference_samples)
    ]
    made = []
    for trace in drive((maker.flow(p) for p in wanted), maker.engines, in_flight=768):
        prompt = prompts[trace.prompt_id]
        sampled = type(prompt)(
            prompt.id, prompt.messages, answer=prompt.answer, sample=trace.sample
        )
        made.append({"prompt_id": prompt.id, "sample": trace.sample, **maker.row(sampled, trace)})
    return made, asked, path


def test_likelihoods_are_those_of_the_models(rows):
    made, _asked, path = rows
    assert len(made) == 2 * 408
    mine = [row for row in made if row["arm"] == "policy"]
    assert {row["sample"] for row in mine} == set(range(8))
    for name, model_path in (("log_p_ref", folder("lm")), ("log_p_policy", path)):
        model = AutoModelForCausalLM.from_pretrained(model_path).eval()
        for row in made[:3] + mine[:3]:
            prompt, tokens = encode(row["question"]), row["response_token_ids"]
            with torch.no_grad():
                log_p = model(torch.tensor([[*prompt, *tokens]])).logits[0].log_softmax(-1)
            start = len(prompt) - 1
            total = sum(float(log_p[start + t, token]) for t, token in enumerate(tokens))
            assert row[name] == pytest.approx(total, abs=1e-3)


def test_findings_are_means_of_rows_and_what_cannot_be_estimated_says_so(rows):
    made, asked, _ = rows
    results = measure(made, asked, 3)
    here = {(f.arm, f.check): f for f in results.findings}
    mine = [row for row in made if row["arm"] == "policy"]
    kl = sum(row["log_p_policy"] - row["log_p_ref"] for row in mine) / len(mine)
    assert here["policy", "KL to the reference"].value == pytest.approx(kl)
    right = sum(row["correct"] for row in mine) / len(mine)
    assert here["policy", "accuracy"].value == pytest.approx(right)
    assert here["reference", "KL to the reference"].value == 0
    assert here["reference", "KL(reference || policy)"].value > 0
    refused = {f.arm for f in results.findings if f.verdict == "not estimable"}
    assert "pi*, beta 0.05" in refused
    assert all(beta != 0.05 for beta, _, _ in results.plot_data["frontier"])


def test_another_tokenizer_is_refused(grouped):
    with pytest.raises(VocabularyError, match="the tokenizers of reference and policy"):
        CheckpointsRecipe(settings(grouped.lm), 0, "hash").open()


def test_a_likelihood_that_is_not_finite_is_that_rows_error(rows, monkeypatch):
    from nabla_core.models import readers as guide  # noqa: PLC0415

    _made, asked, _path = rows
    maker = CheckpointsRecipe(asked, 3, "hash").open()
    original = guide.likelihood

    def spoiled(*args, **kwargs):
        found = original(*args, **kwargs)
        found.log_probability[0] = math.nan
        return found

    monkeypatch.setattr(guide, "likelihood", spoiled)
    failures = []
    flows = [maker.flow(p) for p in task.prompts(1, seed=0, split="test")]
    assert list(drive(flows, maker.engines, failed=lambda i, e: failures.append(e))) == []
    assert isinstance(failures[0], NonFiniteError)
    assert "log-likelihood is not finite" in str(failures[0])
