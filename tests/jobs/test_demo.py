"""The demo, and what it says to do next."""

import shlex
import shutil
import subprocess
from pathlib import Path

from jobs import cli, demo
from nabla_core.embedded.weights import folder

ROOT = Path(__file__).parents[2]


def test_the_demo_shows_a_trace_and_a_second_one_is_fresh(cluster, tmp_path, monkeypatch, capsys):
    config = tmp_path / "demo.yaml"
    config.write_text(
        "prompts: {limit: 16}\nlm: {path: scripted}\nverify: {method: embedded}\n"
        "decoding: {nabla: {max_rollouts: 1}}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "CONFIG", config)
    assert demo.main([]) == 0
    output = capsys.readouterr().out
    for words in ("runs/demo-1: done", "mean reward", "accuracy", "  before  ", "next:"):
        assert words in output
    before, after = (x for x in output.splitlines() if x.startswith(("  before", "  after")))
    assert before.count("[") == after.count("[") == 1
    assert "[9]" in after
    assert "open runs/demo-1-report/index.html" in output
    assert Path("runs/demo-1-report/index.html").is_file()

    (tmp_path / "runs" / "demo-1" / "_SUCCESS").unlink()
    assert demo.main([]) == 0
    assert "resuming runs/demo-1" in capsys.readouterr().out
    assert demo.main([]) == 0
    assert "runs/demo-2: done" in capsys.readouterr().out


def test_the_next_lines_fit_prompts_and_models_of_the_reader(tmp_path, monkeypatch, capsys):
    demo._print_next_steps(Path("runs/demo-1"))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    script = "\n".join(
        lines[next(n for n, x in enumerate(lines) if x.startswith("# answer more")) + 3 : -1]
    )
    prompts = tmp_path / "yours.jsonl"
    prompts.write_text('{"question": "4-9-3*8*5+9*5-7*8", "answer": "4"}\n' * 60)
    models = {"YOUR_LM": folder("lm"), "YOUR_JUDGE": folder("judge"), "yours.jsonl": prompts}
    for name, path in models.items():
        assert name in script
        script = script.replace(name, shlex.quote(str(path)))
    commands = words_passed("bash", script)
    assert [words[0] for words in commands] == OWN_VERBS
    if shutil.which("zsh"):  # does not split the words of a plain variable
        assert words_passed("zsh", script) == commands
    monkeypatch.chdir(ROOT)
    for words in commands:
        kept = [word for word in words if word != "--dry-run"]
        assert cli.main([*kept, "--print-config"]) == 0, words
        printed = capsys.readouterr().out
        for path in models.values():
            assert str(path) in printed


OWN_VERBS = ["generate", "counterfactuals", "train-guide", "generate"]


def words_passed(shell, script):
    """The words that a shell passes to each `nabla` of a script."""
    stub = "nabla() { for word; do printf '%s\\t' \"$word\"; done; echo; }\n"
    ran = subprocess.run([shell, "-c", stub + script], check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    return [line.split("\t")[:-1] for line in ran.stdout.splitlines()]


def test_a_package_without_the_projects_configs_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "CONFIG", tmp_path / "configs" / "embedded.yaml")
    assert demo.main([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: nabla demo needs {tmp_path}/configs/embedded.yaml, which an ")
    assert not list(tmp_path.iterdir())
