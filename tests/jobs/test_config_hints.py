"""What a command says where it is not told enough, or something that it cannot use."""

import subprocess
import sys
from pathlib import Path

import pytest

from jobs import cli
from jobs.cli import command
from jobs.config_hints import EMBEDDED, OWN, PROMPTS, models_of
from jobs.exit_codes import ExitCode

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"


@pytest.fixture
def refused(capsys):
    """Runs a command that must be refused as invalid; gives its message."""

    def run(verb: str, *words: str) -> str:
        assert command(verb).main(words) == ExitCode.INVALID
        output = capsys.readouterr()
        assert output.out == ""
        return output.err

    return run


@pytest.mark.parametrize("verb", PROMPTS)
def test_a_command_without_anything_says_what_to_give(refused, verb):
    lm, *others = models_of(verb)
    for said in (refused(verb), refused(verb, *_data(verb), "seed=3", f"{lm}=models/lm")):
        assert f"  nabla {verb} --config {EMBEDDED[verb]}\n" in said
        models = (f"{key}=DIR" for key in (lm, *others))
        for key in (*models, *(f"{key}=FILE" for key in PROMPTS[verb])):
            assert key in said
    assert said.startswith(f"error: not given: {', '.join((*others, *PROMPTS[verb]))}; ")
    for file in (EMBEDDED[verb], OWN.get(verb, EMBEDDED[verb])):
        assert (ROOT / file).exists()


def _data(verb: str) -> list[str]:
    named = {
        "train-guide": "data.counterfactuals=[x]",
        "train-judge": "data.runs=[x]",
        "distill": "data.exports=[x]",
    }
    return [named[verb]] if verb in named else []


def test_models_named_as_the_embedded_ones_are_enough(monkeypatch, capsys):
    """And a scripted LM has no judge: neither is refused before its prompts are read."""
    for lm in ("embedded", "scripted", "scripted?delay=1"):
        words = [f"lm.path={lm}", "prompts.path=/no/such.jsonl"]
        assert command("generate").main(words) == ExitCode.INVALID
        assert "/no/such.jsonl" in capsys.readouterr().err


def test_a_config_of_another_command_is_named_with_the_command_to_run(refused):
    for verb, file, others in (
        ("generate", "tune_embedded.yaml", ["tune"]),
        ("generate", "train_head_embedded.yaml", ["train-guide"]),
        ("train-guide", "counterfactuals_embedded.yaml", ["counterfactuals"]),
        # Its sections fit others too; its first line says what it was made for.
        ("counterfactuals", "embedded.yaml", ["generate"]),
        ("improve", "duality.yaml", ["duality"]),
    ):
        path = CONFIGS / file
        commands = " or ".join(f"`nabla {other} --config {path}`" for other in others)
        expected = f"error: {path} is a config of {' or '.join(others)}: run {commands}\n"
        assert refused(verb, "--config", str(path)) == expected


def test_a_config_without_a_first_line_is_named_with_all_commands_that_it_fits(refused, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("lm: {path: x}\nexplore: {positions: 3}\n")
    said = refused("generate", "--config", str(path))
    assert f"{path} is a config of counterfactuals or improve: run" in said


def test_a_mistake_in_a_config_of_the_commands_own_is_no_other_commands_config(refused):
    said = refused("generate", "--config", str(CONFIGS / "embedded.yaml"), "sed=1")
    assert said == "error: override 'sed=1': sed: no such key; did you mean seed?\n"


def test_a_key_of_another_command_is_named_with_it(refused):
    assert "grid.beta is a key of `nabla tune`\n" in refused("generate", "grid.beta=[1]")
    assert "kind is a key of `nabla train-guide`\n" in refused("generate", "kind=head")
    # What the command has in another section is meant.
    assert "is a key of" not in refused("generate", "max_tokens=40")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--config a.yaml seed", "'seed' behind --config is no file; it is a key: write seed="),
        ("--config a.yaml seed = 3", "'seed' behind --config is no file; it is a key: write seed="),
        ("--config a.yaml nonsense", "'nonsense' behind --config is no file and no key=value"),
        ("--config folder/a", "cannot read config folder/a: No such file"),
        ("a.yaml", "'a.yaml': a config file stands behind --config"),
        ("seed", "'seed' is not of the form key=value; it is a key: write seed=VALUE"),
        ("seed = 3", "'seed' is not of the form key=value; it is a key: write seed=VALUE"),
        ("decoding.method", "'decoding.method' is not of the form key=value; it is a key: write"),
        ("nonsense", "'nonsense' is not of the form key=value\n"),
    ],
)
def test_a_bare_word_is_no_file(refused, words, message):
    assert f"error: {message}" in refused("generate", *words.split())


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("--retry", "did you mean --retry-dead?"),
        ("--seed 3", "settings are written without dashes: seed=VALUE"),
        ("--lm.path=x", "settings are written without dashes: lm.path=VALUE"),
    ],
)
def test_an_unknown_option_is_named_before_any_file_is_read(words, hint, capsys):
    with pytest.raises(SystemExit) as done:
        command("generate").main(["--config", "/no/such/file.yaml", *words.split()])
    assert done.value.code == ExitCode.INVALID
    assert hint in capsys.readouterr().err


def test_help_of_every_verb_touches_no_file_and_imports_nothing_heavy(tmp_path):
    """Whatever stands beside it. Python's own caches are no files of the command's."""
    script = f"""
import io, os, sys
from contextlib import redirect_stdout, suppress
sys.path.insert(0, {str(ROOT)!r})
sys.dont_write_bytecode = True
from jobs.cli import main
touched = []
def watch(event, arguments):
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        touched.append(arguments[0])
    elif event in ("os.mkdir", "os.remove", "os.rename", "socket.connect", "subprocess.Popen"):
        touched.append(event)
sys.addaudithook(watch)
for verb in {cli.verbs()!r}:
    for more in ([], ["--config", "/no/such.yaml"], ["sed=1"]):
        if verb in ("demo", "status") and more:
            continue
        with suppress(SystemExit), redirect_stdout(io.StringIO()) as shown:
            main([verb, *more, "--help"])
        assert shown.getvalue().startswith(f"usage: nabla {{verb}} "), verb
        heavy = {{"torch", "ray", "transformers", "datasets", "pyarrow"}} & set(sys.modules)
        assert not heavy, (verb, heavy)
assert not touched, touched
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
