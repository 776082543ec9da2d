"""Part policy on a real Ray: two checkpoints of one tokenizer, sharded, resumed, refused."""

import shutil

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForCausalLM

from jobs import duality
from nabla_core.embedded.weights import folder
from tests.jobs.conftest import cluster  # noqa: F401 - the session's Ray


def tuned(path, scale: float = 1.2):
    """The embedded LM with a sharper head, as a checkpoint of its own."""
    model = AutoModelForCausalLM.from_pretrained(folder("lm"))
    with torch.no_grad():
        model.lm_head.weight.mul_(scale)
    model.save_pretrained(path)
    for file in folder("lm").glob("tokenizer*"):
        shutil.copy(file, path)
    return path


def run(run_dir, policy, *more: str) -> int:
    return duality.main(
        [
            *(f"run_dir={run_dir}", "parts=[policy]", "seeds=[3]"),
            *("policy.reference.path=embedded", f"policy.policy.path={policy}"),
            *("policy.reward.judge=embedded", "policy.prompts.limit=3", "policy.samples=6"),
            *("policy.reference_samples=400", "policy.max_tokens=16"),
            *("policy.betas=[8.0,0.05]", "policy.verify.method=embedded"),
            *("policy.engine.max_batch=128", "policy.cluster.in_flight=384"),
            *("policy.store.flush_rows=200", "policy.engine.device=cpu", *more),
        ]
    )


def test_two_checkpoints_from_rows_to_verdicts(cluster, tmp_path, capsys):  # noqa: F811
    policy = tuned(tmp_path / "tuned")
    assert run(tmp_path / "run", policy) == 0
    rows = pq.read_table(tmp_path / "run" / "policy" / "data").to_pylist()
    assert len(rows) == 3 * 406
    mine = [r for r in rows if r["arm"] == "policy"]
    assert len(mine) == 18
    assert {r["policy_model"] for r in rows} == {str(policy)}
    _check_likelihoods(mine, policy)
    found = pq.read_table(tmp_path / "run" / "results.parquet").to_pylist()
    here = {(f["arm"], f["check"]): f for f in found}
    kl = sum(r["log_p_policy"] - r["log_p_ref"] for r in mine) / 18
    assert here["policy", "KL to the reference"]["value"] == pytest.approx(kl)
    reward = sum(r["reward"] for r in mine) / 18
    assert here["policy", "E[r]"]["value"] == pytest.approx(reward)
    assert here["reference", "KL to the reference"]["value"] == 0
    refused = [f for f in found if f["verdict"] == "not estimable"]
    assert "pi*, beta 0.05" in {f["arm"] for f in refused}
    # Resumed: no row is made again.
    before = (tmp_path / "run" / "policy" / "manifest.json").read_text()
    assert run(tmp_path / "run", policy) == 0
    assert (tmp_path / "run" / "policy" / "manifest.json").read_text() == before
    assert run(tmp_path / "run", policy, "policy.max_tokens=12") == 2
    assert "max_tokens: 16 there, 12 here" in capsys.readouterr().err


def _check_likelihoods(rows, policy):
    """Against the models as transformers runs them."""
    for name, path in (("log_p_ref", folder("lm")), ("log_p_policy", policy)):
        model = AutoModelForCausalLM.from_pretrained(path).eval()
        for row in rows[:3]:
            prompt = [*row["question"].encode()]
            tokens = row["response_token_ids"]
            ids = torch.tensor([[*_encode(row["question"]), *tokens]])
            assert len(prompt) == ids.size(1) - len(tokens)
            with torch.no_grad():
                log_p = model(ids).logits[0].log_softmax(-1)
            start = ids.size(1) - len(tokens) - 1
            total = sum(float(log_p[start + t, token]) for t, token in enumerate(tokens))
            assert row[name] == pytest.approx(total, abs=1e-3)


def _encode(text: str) -> list[int]:
    from nabla_core.embedded.tokenizer import encode  # noqa: PLC0415

    return encode(text)


def test_what_cannot_be_compared_is_refused(cluster, tmp_path, grouped, capsys):  # noqa: F811
    assert run(tmp_path / "other", grouped.lm) == 2
    assert "the tokenizers of reference and policy" in capsys.readouterr().err

    broken = tuned(tmp_path / "broken", scale=float("nan"))
    assert run(tmp_path / "nan", broken) == 2
    complaint = capsys.readouterr().err
    assert "could not be measured" in complaint or "cannot" in complaint or "off by" in complaint
