"""`--dry-run` of every command: what a run would fail at, and what it would do."""

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Qwen2Config

from jobs.cli import command
from nabla_core.embedded.weights import folder
from pipeline.store.files import Folder

ROOT = Path(__file__).parents[2]
EMBEDDED = ["lm.path=embedded", "reward.judge=embedded"]
ROWS = ("1+2", "3*4-5", "7")


@pytest.fixture
def asked(tmp_path):
    """A file of prompts with answers, and the settings that read it."""

    def write(*texts, **more):
        path = tmp_path / "prompts.jsonl"
        rows = [{"question": t, "answer": str(n), **more} for n, t in enumerate(texts or ROWS)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return [f"prompts.path={path}", f"run_dir={tmp_path / 'run'}"]

    return write


def models(family, *more):
    paths = [f"lm.path={family.lm}", f"reward.judge={family.judge}", "reward.min_coverage=0.5"]
    return [*paths, "decoding.max_tokens=8", "decoding.nabla.proposals=ranked", *more]


@pytest.fixture
def dry(tmp_path, capsys):
    """Runs a command dry; gives exit code, standard output and standard error."""

    def run(verb, *words):
        before = sorted(tmp_path.rglob("*"))
        code = command(verb).main([*words, "--dry-run"])
        output = capsys.readouterr()
        assert sorted(tmp_path.rglob("*")) == before
        return code, output.out, output.err

    return run


def in_order(text, *parts):
    place = -1
    for part in parts:
        found = text.find(part, place + 1)
        assert found > place, f"{part!r} is missing or out of order in\n{text}"
        place = found


def test_a_dry_run_shows_prompts_rows_answers_columns_and_cost_in_this_order(
    dry, asked, grouped, tmp_path
):
    """The LM's tokenizer adds <bos>; the judge's template has roles."""
    words = [*asked(), *models(grouped, f"reward.guide={grouped.guide}", "samples_per_prompt=2")]
    code, shown, told = dry("generate", *words)
    assert code == 0, told
    in_order(
        shown,
        "as the LM reads it (4 tokens):\n  | <bos>1+2\n",
        "as the judge reads it (9 tokens):\n  | <|user|>1+2<eos>\n",
        "  | <|assistant|>⟦response⟧<eos>\n",
        f"3 prompts x 2 samples = 6 rows; 0 finished and 0 dead in {tmp_path / 'run'}\n",
        "answers  3 of 3 prompts have one, graded by verify.method=last_number\n",
        "columns  prompt from question, answer from answer; ids are made from the content\n",
        "cost     a row: 9 rollouts, 40 tokens, 6 LM passes to read and 15 of judge and guide, ",
        "6 rows to make: ",
        "(estimated: ",
        "memory   ",
        "for each process in float32: weights 0.2 MB, keys and values ",
        "hours    ",
        "not measured)\n",
    )
    assert "note: verify.method=last_number: all 3 answers are numbers\n" in told
    assert "decoding:" not in shown


def test_the_config_is_printed_where_it_is_asked_for(dry, asked, capsys):
    words = [*asked(), "lm.path=scripted"]
    code, shown, _ = dry("generate", *words, "--print-config")
    assert code == 0
    in_order(shown, "3 prompts x 1 sample ", "\nrun_dir: ", "\ndecoding:\n  method: nabla\n")
    assert command("generate").main([*words, "--print-config"]) == 0
    alone = capsys.readouterr().out
    assert alone.startswith("run_dir: ")
    assert "prompts x" not in alone


def test_every_command_with_a_config_prints_it_and_runs_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for verb, more in (
        *((verb, EMBEDDED) for verb in ("generate", "counterfactuals", "tune", "improve")),
        ("train-guide", [*EMBEDDED, "data.counterfactuals=[x]"]),
        ("duality", ["seeds=[1]"]),
        ("export", ["run_dir=runs/x"]),
        ("distill", ["data.exports=[x]", "student.path=embedded"]),
    ):
        assert command(verb).main([*more, "--print-config"]) == 0, verb
        assert "run_dir:" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_control_characters_of_a_prompt_reach_no_terminal(dry, asked):
    code, shown, _ = dry("generate", *asked("a\x1b[31m", id="x\x1b]0;y\n"), "lm.path=scripted")
    assert code == 0
    assert "\x1b" not in shown
    assert "a\\x1b[31m" in shown


def test_rows_that_are_there_are_counted_and_a_folder_that_cannot_be_resumed_is_refused(
    cluster, dry, asked, tmp_path, capsys
):
    words = [*asked(), "lm.path=scripted"]
    assert command("generate").main(words) == 0
    capsys.readouterr()
    code, shown, _ = dry("generate", *words)
    assert code == 0
    assert "3 rows; 3 finished and 0 dead" in shown
    # What was guessed when the run began is what its rows are graded by.
    assert "graded by verify.method=last_number" in shown
    for more, message in (
        (["seed=1"], "  seed: 0 in the folder, 1 now"),
        (["verify.method=math"], "  verify.method: last_number in the folder, math now"),
        ([f"prompts.path={asked('other')[0].partition('=')[2]}"], "are not in the input any more"),
    ):
        code, _, told = dry("generate", *words, *more)
        assert code == 2
        assert message in told
    code, _, told = dry("counterfactuals", *words)
    assert code == 2
    assert "is the run folder of `nabla generate`" in told


@pytest.fixture
def broken(plain, tmp_path):
    """The plain family's LM and judge, each in a folder that a test may damage."""
    family = type(plain)
    copies = {role: shutil.copytree(getattr(plain, role), tmp_path / role) for role in ROLES}
    return family(**copies)


ROLES = ("lm", "judge", "guide")


def edit(path, **values):
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, **values}))


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def shard(model):
    (model / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-1.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))


TEMPLATE = "{{ raise_exception('no system role') if messages[0].role == 'system' }}"


@pytest.mark.parametrize(
    ("damage", "more", "message"),
    [
        (lambda f: shutil.rmtree(f.judge), [], "reward.judge: {judge}: no such folder"),
        (
            lambda f: (f.lm / "tokenizer.json").unlink(),
            [],
            "{lm}: its tokenizer has no vocabulary: none of merges.txt, ",
        ),
        (lambda f: (f.lm / "config.json").write_text("[]"), [], "{lm}/config.json: "),
        (
            lambda f: cut(f.lm / "model.safetensors"),
            [],
            "{lm}/model.safetensors: cannot be",
        ),
        (lambda f: (f.lm / "model.safetensors").unlink(), [], "{lm}: no weights in this folder"),
        (lambda f: shard(f.lm), [], "names model-1.safetensors, which is not in the folder"),
        (
            lambda f: edit(f.judge / "config.json", id2label={"0": "a", "1": "b"}),
            [],
            "{judge}: a reward model has one label, this one has 2",
        ),
        (
            lambda f: shutil.copy(f.lm / "model.safetensors", f.judge),
            [],
            "{judge} is not a reward model: its weights lack score.weight",
        ),
        (
            lambda f: shutil.copy(f.judge / "model.safetensors", f.lm),
            [],
            "{lm} is not a causal LM: its weights lack lm_head.weight",
        ),
        (
            lambda f: None,
            ["reward.guide=embedded-head", "decoding.nabla.proposals=left_to_right"],
            "is a head: it predicts advantages and has no gradient",
        ),
        *(
            (
                lambda f: None,
                ["reward.guide={guide}", *words],
                "{guide} is a reward model: its gradient exists for finished responses alone",
            )
            for words in (
                ["decoding.method=guided"],
                ["decoding.nabla.rollout.beta=0.5"],
                ["decoding.method=best_of_n", "decoding.best_of_n.rollout.beta=0.5"],
            )
        ),
        (lambda f: None, ["reward.guide={lm}"], "{lm}: a reward model has one label"),
        (lambda f: None, ["reward.guide={lm}/none"], "reward.guide: {lm}/none: no such folder"),
        (
            lambda f: (f.judge / "chat_template.jinja").write_text(TEMPLATE),
            ["prompts.system=Be brief."],
            "{judge} cannot render prompt ",
        ),
        (
            lambda f: (f.judge / "chat_template.jinja").write_text("{{ messages[0].content }}"),
            [],
            "the reward model's chat template drops the assistant's turn",
        ),
        (
            lambda f: edit(f.lm / "config.json", max_position_embeddings=1),
            [],
            "no prompt fits the LM's context of 1 tokens: the shortest of the first 3 has 1",
        ),
        (lambda f: None, ["cluster.gpus_per_actor=1"], "an actor (cluster) needs 1 GPU, and this"),
        (lambda f: None, ["runtime.device=cuda"], "runtime.device: cuda cannot be used here"),
        (lambda f: None, ["prompts.columns.answer=none"], "no column 'none'"),
        (
            lambda f: None,
            ["prompts.columns.answer=empty", "verify.method=last_number"],
            "the expected answer '' is empty",
        ),
    ],
)
def test_what_a_run_would_fail_at_is_refused(dry, asked, broken, damage, more, message):
    paths = {role: getattr(broken, role) for role in ROLES}
    words = [*asked(empty=""), *models(broken), *(word.format(**paths) for word in more)]
    damage(broken)
    code, shown, told = dry("generate", *words)
    assert code == 2
    assert shown == ""
    assert message.format(**paths) in told
    assert "Traceback" not in told


def test_vocabularies_that_do_not_fit_are_refused(dry, asked, plain, grouped):
    words = [*asked(), *models(plain), f"reward.judge={grouped.judge}", "reward.min_coverage=0.99"]
    code, _, told = dry("generate", *words)
    assert code == 2
    assert f"{grouped.judge} knows " in told
    assert "reward.min_coverage" in told


def test_what_a_run_would_put_up_with_is_noted(dry, asked, broken):
    edit(broken.lm / "config.json", max_position_embeddings=8)
    edit(broken.judge / "config.json", max_position_embeddings=10)
    card = {"lm": {"name": "other", "revision": "sha256:0"}, "judge": None}
    (broken.guide / "card.json").write_text(json.dumps(card))
    words = [*asked("1+2", "1+2+3+4+5"), *models(broken, f"reward.guide={broken.guide}")]
    code, _, told = dry("generate", *words, "cluster.address=far:1")
    assert code == 0
    assert "1 of the first 2 prompts do not fit the LM's context of 8 tokens" in told
    assert "the judge's context of 10 tokens holds responses of 1 tokens" in told
    assert f"{broken.guide} was trained for the lm other sha256:0, and this run has" in told
    assert "not checked: what the cluster at far:1 has" in told
    edit(broken.lm / "config.json", max_position_embeddings=12)
    code, _, told = dry("generate", *words)
    assert "ends a response to the longest of the first prompts (9 tokens) after 3 of" in told


def test_a_dry_run_reads_no_weights_and_loads_no_ray(tmp_path, asked):
    """An LM of 15 GB, in a file that has no bytes on the disk behind its header."""
    big = tmp_path / "big"
    config = Qwen2Config(
        **{"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28},
        **{"num_attention_heads": 28, "num_key_value_heads": 4, "vocab_size": 152064},
    )
    config.save_pretrained(big)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder("lm") / name, big)
    with torch.device("meta"):
        tensors = AutoModelForCausalLM.from_config(config).state_dict()
    header, end = {}, 0
    for name, tensor in tensors.items():
        start, end = end, end + 2 * tensor.numel()
        shape = list(tensor.shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with open(big / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    script = (
        "import resource, sys\n"
        "from jobs.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "assert 'ray' not in sys.modules\n"
        "assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2_000_000\n"  # in kB
        "sys.exit(code)\n"
    )
    words = ["generate", "--dry-run", *asked(), f"lm.path={big}", "reward.judge=embedded"]
    done = subprocess.run(
        [sys.executable, "-c", script, *words, "runtime.dtype=bfloat16"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "for each process in bfloat16: weights 15.2 GB, keys and values " in done.stdout


def test_no_folder_is_made_by_opening_it(tmp_path):
    """`dry` compares the folders before and after; this is what it relies on."""
    assert not Folder(str(tmp_path / "run")).exists("config.yaml")
    assert not (tmp_path / "run").exists()
