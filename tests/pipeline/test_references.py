"""Values from the environment and secrets in URIs are neither written nor printed."""

from dataclasses import asdict

import pytest
import yaml

from pipeline import references
from pipeline.config import load, to_yaml
from pipeline.errors import ResumeError
from pipeline.generate.config import GenerateConfig
from pipeline.references import redacted, referenced, shown_uri
from pipeline.store.checks.config_check import check_config, digest
from pipeline.store.checks.owner import Owner
from pipeline.store.files import Folder

OWNER = Owner("generate")


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    monkeypatch.setattr(references, "_REFERENCES", {})


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://KEY:SECRET@bucket/a?region=x", "s3://***@bucket/a?region=x"),
        ("s3://KEY:SE/CR+ET@bucket/a", "s3://***@bucket/a"),
        ("cannot open 's3://K:S@b/c': no", "cannot open 's3://***@b/c': no"),
        (
            "https://h/a?x=1&X-Amz-Signature=abc&sig=d",
            "https://h/a?x=1&X-Amz-Signature=***&sig=***",
        ),
        ("s3://KEY:${oc.env:S}@b/a", "s3://***:${oc.env:S}@b/a"),
        ("s3://b/a?secret_key=${oc.env:S}", "s3://b/a?secret_key=${oc.env:S}"),
        ("s3://b/a?secret_key=a%2Fb", "s3://b/a?secret_key=***"),
        ("abfs://container@account.net/a", "abfs://container@account.net/a"),
        ("hdfs://user@host:8020/a", "hdfs://user@host:8020/a"),
        ("http://host:8265/a and mail@example.org", "http://host:8265/a and mail@example.org"),
        ("/data/a:b@c.jsonl", "/data/a:b@c.jsonl"),
    ],
)
def test_secrets_in_uris_are_hidden_and_nothing_else(uri, shown):
    assert shown_uri(uri) == shown


def test_a_config_is_written_with_its_references_and_read_back(monkeypatch, tmp_path):
    values = {"KEY": "AKIA7", "SECRET": "wJal/rX+tn", "OUT": str(tmp_path / "out"), "N": "47"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    given = [
        "run_dir=${oc.env:OUT}/run",
        "prompts.path=s3://${oc.env:KEY}:${oc.env:SECRET}@bucket/p.jsonl",
        "decoding.max_tokens=${oc.env:N}",
        "decoding.method=${oc.env:METHOD,greedy}",
        "lm.path=${oc.env:OUT}/lm",
    ]
    config = load(GenerateConfig, [], given)
    assert config.prompts.path == "s3://AKIA7:wJal/rX+tn@bucket/p.jsonl"
    written = yaml.safe_load(to_yaml(config))
    assert written == yaml.safe_load(yaml.safe_dump(referenced(asdict(config))))
    assert written["run_dir"] == "${oc.env:OUT}/run"
    assert written["prompts"]["path"] == "s3://${oc.env:KEY}:${oc.env:SECRET}@bucket/p.jsonl"
    assert written["decoding"]["max_tokens"] == "${oc.env:N}"
    assert written["decoding"]["method"] == "${oc.env:METHOD,greedy}"
    (tmp_path / "again.yaml").write_text(to_yaml(config))
    assert load(GenerateConfig, [tmp_path / "again.yaml"]) == config
    place = f"{config.prompts.path} in {config.run_dir}/data"
    message = f"cannot read {place}: 47 of 47, SECRET wJal%2FrX%2Btn"
    assert redacted([message]) == [
        "cannot read s3://${oc.env:KEY}:${oc.env:SECRET}@bucket/p.jsonl in "
        "${oc.env:OUT}/run/data: 47 of 47, SECRET ${oc.env:SECRET}"
    ]
    # A job that composes others gives its paths to them.
    derived = {"run_dir": f"{config.run_dir}/round-1", "guide": [f"{config.run_dir}/guide"]}
    assert referenced(derived) == {
        "run_dir": "${oc.env:OUT}/run/round-1",
        "guide": ["${oc.env:OUT}/run/guide"],
    }


def test_words_that_files_are_checked_by_stay_in_manifests_and_cards(monkeypatch):
    monkeypatch.setenv("NAME", "guide")
    load(GenerateConfig, [], ["run_dir=runs/${oc.env:NAME}"])
    card = {"schema": "guide/2", "kind": "guide", "notes": ["guide, guides"], "guide": 1}
    assert redacted(card) == card | {"notes": ["${oc.env:NAME}, guides"]}


def test_the_hash_depends_on_no_secret_and_on_every_number(monkeypatch):
    def hashed(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        config = load(GenerateConfig, [], ["lm.path=${oc.env:LM}", "seed=${oc.env:SEED}"])
        return digest(config)

    first = hashed(LM="s3://a:b@c/d", SEED="1")
    assert hashed(LM="s3://e:f@c/d", SEED="1") == first
    assert hashed(LM="s3://e:f@c/d", SEED="2") != first


def test_a_run_resumes_with_a_new_secret_and_not_with_another_number(monkeypatch, tmp_path):
    def loaded(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        given = ["lm.path=${oc.env:LM}", "seed=${oc.env:SEED}", f"run_dir={tmp_path}"]
        return load(GenerateConfig, [], given)

    folder = Folder(str(tmp_path))
    config = loaded(LM="first-name", SEED="1")
    check_config(folder, config, OWNER)
    assert b"first-name" not in folder.read("config.yaml")
    monkeypatch.setattr(
        "pipeline.store.checks.config_check.read_expected",
        lambda folder: type("E", (), {"marks": {b"nabla_config": digest(config).encode()}}),
    )
    check_config(folder, loaded(LM="second-name"), OWNER)
    with pytest.raises(ResumeError, match="other values of seed, which come from the environment"):
        check_config(folder, loaded(SEED="2"), OWNER)
    with pytest.raises(ResumeError, match=r"lm\.path: \$\{oc\.env:LM\} in the folder, x now"):
        check_config(folder, load(GenerateConfig, [], ["lm.path=x", "seed=${oc.env:SEED}"]), OWNER)
