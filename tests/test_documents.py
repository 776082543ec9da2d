"""What the documents name exists: files, headings, modules, verbs, config keys."""

import re
import shlex
from dataclasses import fields, is_dataclass
from functools import cache
from html import unescape
from importlib.util import find_spec
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from jobs import cli
from jobs.command import runs_as_list
from pipeline.config import load
from pipeline.config_reference import COMMANDS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "*/README.md", "*/*/README.md")
    for path in ROOT.glob(pattern)
    if not path.relative_to(ROOT).parts[0].startswith((".", "runs"))
)
CONFIGS = {job.replace("_", "-"): config for job, config in COMMANDS.items()}
LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
BLOCK = re.compile(r"^( *)```.*?\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
# A dotted name in backticks: a config key where its first part is a section of a config.
SPAN = re.compile(r"`([a-z_]+(?:\.[a-z_]+)+)(?:=[^`]*)?`")

each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT))
)


def test_the_front_page_is_short():
    assert len(_front_page().splitlines()) <= 200


def test_the_library_example_runs(capsys):
    (example,) = re.findall(r"^```python\n(.*?)^```", _front_page(), re.MULTILINE | re.DOTALL)
    exec(example, {})
    assert "p0 5;4;0;1;9;4;9;9 -> 5;5;1;2;0;0;5;6" in capsys.readouterr().out


@each_document
def test_links_resolve(document):
    for match in LINK.finditer(_prose(document)):
        link = match[1] or match[2]
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), f"{link}: no such file"
        if anchor:
            assert anchor in _anchors(target), f"{link}: no such heading"


@each_document
def test_modules_and_verbs_exist(document):
    if document.name == "CHANGELOG.md":
        pytest.skip("names commands that are gone")
    text = document.read_text()
    for module in re.findall(r"python -m ([\w.]+)", text):
        if module.partition(".")[0] in ("jobs", "pipeline", "nabla_core", "tests"):
            placeholder = module.rpartition(".")[2].isupper()
            assert placeholder or find_spec(module), f"python -m {module}"
    for verb in re.findall(r"(?:`|^ *)nabla ([a-z][\w-]*)", text, re.MULTILINE):
        assert verb in cli.verbs(), f"nabla {verb}"


@each_document
def test_commands_name_keys_of_their_job(document):
    for verb, arguments in _commands(document):
        files = [ROOT / word for word in arguments if word.endswith((".yaml", ".yml"))]
        overrides = [
            word
            for word in arguments
            if re.match(r"[a-z_]+(\.[a-z_]+)*=", word) and not word.endswith("=...")
        ]
        if verb in ("export", "report"):
            overrides = [runs_as_list(override) for override in overrides]
        load(CONFIGS[verb], [file for file in files if file.exists()], overrides)


@each_document
def test_keys_in_the_text_are_keys_of_a_job(document):
    if document.name == "CHANGELOG.md":
        pytest.skip("names keys that are gone")
    sections = {field.name for cls in CONFIGS.values() for field in fields(cls)}
    for key in SPAN.findall(_prose(document)):
        is_file = key.endswith((".py", ".md", ".yaml", ".json", ".js"))
        if key.partition(".")[0] in sections and not is_file:
            assert any(_has_key(cls, key) for cls in CONFIGS.values()), key


def _front_page():
    return (ROOT / "README.md").read_text()


def _prose(document):
    return BLOCK.sub("", document.read_text())


@cache
def _anchors(document):
    """The anchors that GitHub makes of the headings of a document."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.*)$", _prose(document), re.MULTILINE):
        plain = unescape(re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", heading)).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-")
        again = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", old) is not None for old in found)
        found.append(f"{slug}-{again}" if again else slug)
    return found


def _commands(document):
    """(verb, words behind it) of the commands in code blocks that have a config."""
    for _, block in BLOCK.findall(document.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            match = re.search(r"(?:^|\s)(?:nabla |python -m jobs\.)([a-z_-]+)(.*)", line)
            verb = match[1].replace("_", "-") if match else None
            if verb in CONFIGS:
                yield verb, shlex.split(match[2], comments=True)


def _has_key(cls, key):
    """Whether a config has a dotted key. Required sections have no default, so types are read."""
    for name in key.split("."):
        kinds = get_type_hints(cls) if is_dataclass(cls) else {}
        if name not in kinds:
            return False
        cls = next((k for k in (kinds[name], *get_args(kinds[name])) if is_dataclass(k)), None)
    return True
