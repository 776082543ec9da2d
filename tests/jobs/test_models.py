"""`jobs.generate` on real models, tiny and random."""

import json

import pyarrow.parquet as pq

from jobs import generate


def test_models_in_folders_answer_judge_and_guide(cluster, plain, tmp_path):
    path, run = tmp_path / "p.jsonl", tmp_path / "run"
    texts = ["1+2", "3*4", "0" * 4000]
    path.write_text("".join(json.dumps({"prompt": t, "id": t[:3]}) + "\n" for t in texts))
    arguments = [
        *(f"run_dir={run}", f"prompts.path={path}", f"lm.path={plain.lm}"),
        *(f"reward.judge={plain.judge}", f"reward.guide={plain.guide}", "runtime.device=cpu"),
        *("decoding.max_tokens=6", "decoding.nabla.proposals=ranked", "max_dead_fraction=1"),
    ]
    assert generate.main(arguments) == 3
    rows = pq.read_table(run / "data").to_pylist()
    assert [row["prompt_id"] for row in rows] == ["1+2", "3*4"]
    for row in rows:
        assert row["generation_model"] == plain.lm.name
        assert (row["judge_model"], row["guide_model"]) == (plain.judge.name, plain.guide.name)
        assert row["judge_revision"] != row["guide_revision"]
        assert 1 <= len(row["response_token_ids"]) <= 6
        assert row["reward"] >= row["base_reward"]
        assert row["cost"]["rm_backward"] >= 1
        assert row["cost"]["rollouts"] == 1 + len(row["revisions"])
    (dead,) = pq.read_table(run / "dead_letter").to_pylist()
    assert dead["error"].startswith("ContextError: prompt 000 is 4000 tokens long")
