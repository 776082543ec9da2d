"""How a run's rows came to be."""

import json
import re

from pipeline.store import manifest
from tests.pipeline.rows import SCHEMA


def test_the_manifest_is_json_and_keeps_the_totals():
    made = manifest.describe(
        {"means": {"reward": 1.5}},
        config_hash="c0ffee",
        schema=SCHEMA,
        counts={"rows": 2, "finished": 1, "dead": 1},
        checksums={"data/a": "00"},
        notes=iter(["rows made again: torn"]),
    )
    assert json.loads(json.dumps(made)) == made
    assert (made["schema"], made["config_hash"]) == ("traces/5", "c0ffee")
    assert made["counts"] == {"rows": 2, "finished": 1, "dead": 1}
    assert made["means"] == {"reward": 1.5}
    assert (made["checksums"], made["notes"]) == ({"data/a": "00"}, ["rows made again: torn"])


def test_versions_are_of_what_is_installed(monkeypatch):
    monkeypatch.setattr(manifest, "PACKAGES", ("pyarrow", "no-such-package"))
    assert set(manifest.versions()) == {"python", "pyarrow"}


def test_the_commit_is_one_of_this_repository_or_unknown():
    found = manifest.commit()
    assert found is None or re.fullmatch(r"[0-9a-f]{40}\+?", found)
