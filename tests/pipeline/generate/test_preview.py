import json

from nabla_core.model_config import LM
from pipeline.generate.config import GenerateConfig
from pipeline.generate.preview import preview
from pipeline.inputs.prompts import Prompts


def test_a_dry_run_counts_prompts_and_rows_and_changes_nothing(tmp_path):
    path, run = tmp_path / "prompts.jsonl", tmp_path / "run"
    path.write_text("".join(json.dumps({"prompt": f"q{n}", "id": f"p{n}"}) + "\n" for n in "ab"))
    config = GenerateConfig(
        run_dir=str(run), prompts=Prompts(str(path)), lm=LM("scripted"), samples_per_prompt=3
    )
    found = preview(config)
    assert (found.prompts, found.rows, found.finished, found.dead) == (2, 6, 0, 0)
    assert (found.first.id, found.rendered) == ("pa", "qa")
    assert not run.exists()
