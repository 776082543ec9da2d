"""`ray job submit` with buckets: traces in S3 become a dataset in S3, and that a student in S3."""

import json
import sys
from pathlib import Path

import pytest
from pyarrow import fs
from transformers import AutoModelForCausalLM

from nabla_core.embedded import task
from pipeline.store.files import Folder
from tests.jobs.test_submit import head, submit  # noqa: F401 - head is a fixture
from tests.pipeline.export.runs import trace, write_run
from tests.pipeline.export.servers import s3_bucket

CONFIG = Path(__file__).parents[2] / "configs" / "distill_embedded.yaml"


@pytest.fixture
def bucket(monkeypatch):
    """The query of URIs in the bucket. It comes before `head`, whose workers need the keys."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    with s3_bucket() as query:
        yield query


@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_workers_train_from_a_bucket_into_a_bucket(bucket, head, tmp_path):  # noqa: F811
    prompts = task.prompts(40, seed=0, split="train")
    traces = [
        trace(p.id, task.solve(p.text), question=p.text, answer=p.answer, correct=n < 32)
        for n, p in enumerate(prompts)
    ]
    local = write_run(tmp_path / "teacher", traces)
    remote = Folder(uri := f"s3://bucket/teacher?{bucket}")
    fs.copy_files(
        local,
        remote.root,
        source_filesystem=fs.LocalFileSystem(),
        destination_filesystem=remote.fs,
    )
    data, student = f"s3://bucket/data?{bucket}", f"s3://bucket/student?{bucket}"
    exported = submit(
        head,
        "export",
        *(sys.executable, "-m", "jobs.export", f"run_dir={uri}", f"out={data}"),
        *("format=tokens", "filters.verified=true"),
    )
    assert exported == ("SUCCEEDED", 0)
    trained = submit(
        head,
        "distill",
        *(sys.executable, "-m", "jobs.distill", "--config", str(CONFIG), f"run_dir={student}"),
        *(f"data.exports=[{data}]", "export.run_dir=[]", "optimise.steps=4", "optimise.batch=8"),
        *("workers.count=2", "validation.every=2", "validation.prompts.limit=20"),
    )
    assert trained == ("SUCCEEDED", 0)
    folder = Folder(student)
    card = json.loads(folder.read("student/card.json"))
    assert (card["workers"], card["data"]["rows"]) == (2, 32)
    assert card["data"]["exports"][0]["name"] == "data"
    (tmp_path / "student").mkdir()
    fs.copy_files(
        folder.path("student"),
        str(tmp_path / "student"),
        source_filesystem=folder.fs,
        destination_filesystem=fs.LocalFileSystem(),
    )
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "student")
    assert model.config.vocab_size == 24
