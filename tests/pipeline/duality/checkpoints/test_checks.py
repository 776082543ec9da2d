"""Part checkpoints with Ray: sharded, resumed, refused. Its numbers are tested in test_recipe."""

import pyarrow.parquet as pq

from jobs import duality
from tests.pipeline.duality.checkpoints.tuned import tuned


def run(run_dir, policy, *more: str) -> int:
    return duality.main(
        [
            *(f"run_dir={run_dir}", "parts=[checkpoints]", "seeds=[3]"),
            *("checkpoints.reference.path=embedded", f"checkpoints.policy.path={policy}"),
            *(
                "checkpoints.reward.judge=embedded",
                "checkpoints.prompts.limit=3",
                "checkpoints.samples=4",
            ),
            *("checkpoints.reference_samples=12", "checkpoints.max_tokens=16"),
            *("checkpoints.betas=[8.0,0.05]", "checkpoints.verify.method=embedded"),
            *("checkpoints.store.flush_rows=200", "checkpoints.runtime.device=cpu", *more),
        ]
    )


def test_two_checkpoints_from_rows_to_a_report(cluster, tmp_path, capsys):
    policy, out = tuned(tmp_path / "tuned"), tmp_path / "run"
    assert run(out, policy) == 0
    rows = pq.read_table(out / "checkpoints" / "data").to_pylist()
    assert len(rows) == 3 * 16
    assert {row["policy_model"] for row in rows} == {policy.name}
    assert {row["error"] for row in rows} == {None}
    mine = [row for row in rows if row["arm"] == "policy"]
    found = pq.read_table(out / "results.parquet").to_pylist()
    here = {(f["arm"], f["check"]): f for f in found}
    kl = sum(row["log_p_policy"] - row["log_p_ref"] for row in mine) / len(mine)
    assert abs(here["policy", "KL to the reference"]["value"] - kl) < 1e-9
    assert "not estimable" in (out / "report.md").read_text()

    # Resumed: no row is generated again; another config is refused.
    before = (out / "checkpoints" / "manifest.json").read_text()
    assert run(out, policy) == 0
    assert (out / "checkpoints" / "manifest.json").read_text() == before
    assert run(out, policy, "checkpoints.max_tokens=12") == 2
    assert "max_tokens: 16 in the folder, 12 now" in capsys.readouterr().err


def test_another_tokenizer_exits_2(cluster, tmp_path, grouped, capsys):
    assert run(tmp_path / "other", grouped.lm) == 2
    assert "the tokenizers of reference and policy" in capsys.readouterr().err
