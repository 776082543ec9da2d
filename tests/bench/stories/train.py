"""Make the models of the stories: converged LM, LM, judge; and prompts for the jobs.

    python -m tests.bench.stories.train --out runs/stories [--seed 0]

As nabla_core.embedded.train makes the embedded ones: an LM is taught right responses, then
flawed ones, so that it errs; the judge is three new layers over the first, taught how far
responses are sound. A stage whose folder is finished is not repeated. One CPU thread.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from nabla_core.embedded.flawed import Flaws
from nabla_core.embedded.measure import area_under_curve
from nabla_core.embedded.task import Split
from tests.bench.stories import models, task, texts
from tests.bench.stories.models import STOP
from tests.bench.stories.task import STEPS, WORDS, Story
from tests.bench.stories.texts import IGNORED, Batch, Told

MAX_TOKENS = 26
BATCH = 64
# Steps by days of a story: which sentence tells of a day is found sooner among few.
LESSONS = {1: 100, 2: 150, 3: 150, STEPS: 500}
CONVERGED_STEPS, LM_STEPS, JUDGE_STEPS = sum(LESSONS.values()), 500, 800
LEARNING_RATE = 3e-3
SCRAMBLED = 0.3
SAMPLES, TEMPERATURES = 6000, (0.0, 0.7, 1.0, 1.3)
LABELLED, LOCAL = 64, 64
FROM_LM, CORRUPTED, CUT_OFF = 0.6, 0.3, 0.05
LOCAL_WEIGHT = 2.0

Say = Callable[[str], None]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stories.train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    started = time.monotonic()

    def stage(name: str, kind: Any, make: Callable[[Say], tuple[Any, dict[str, Any]]]) -> Any:
        def say(text: str) -> None:
            minutes = (time.monotonic() - started) / 60
            print(f"{minutes:6.1f} min  {name}: {text}", flush=True)

        path = options.out / name
        if not (path / "card.json").exists():
            model, card = make(say)
            model.save_pretrained(path)
            models.tokenizer().save_pretrained(path)
            (path / "card.json").write_text(json.dumps({"seed": options.seed, **card}) + "\n")
        say((path / "card.json").read_text().strip())
        return kind.from_pretrained(path)

    for split in ("train", "validation", "test"):
        write_prompts(options.out / f"{split}.jsonl", split, 8000 if split == "train" else 2000)
    converged = stage("converged", LlamaForCausalLM, lambda say: train_converged(options.seed, say))
    lm = stage("lm", LlamaForCausalLM, lambda say: train_flawed(converged, options.seed, say))
    stage(
        "judge",
        LlamaForSequenceClassification,
        lambda say: train_judge(converged, lm, options.seed, say),
    )


def write_prompts(path: Path, split: Split, count: int) -> None:
    """Prompts as JSONL: id, prompt, answer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (
        {"id": p.id, "prompt": p.text, "answer": p.answer}
        for p in task.prompts(count, seed=0, split=split)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def train_converged(seed: int, say: Say) -> tuple[LlamaForCausalLM, dict[str, Any]]:
    """An LM of right responses, to short stories first. Counts are scrambled and what follows
    from them is asked for, so that each day's count comes from the count told before it."""
    rng = random.Random(f"converged/{seed}")
    torch.manual_seed(rng.getrandbits(32))
    lm = models.new_foundation()
    lengths = [days for days, steps in LESSONS.items() for _ in range(steps)]

    def batch(step: int) -> Batch:
        stories = task.stories(BATCH, rng, "train", lengths[step - 1])
        pairs = [texts.scrambled(story, SCRAMBLED, rng) for story in stories]
        return Batch.of([told for told, _ in pairs], [wanted for _, wanted in pairs])

    return lm, fit(lm, batch, CONVERGED_STEPS, say)


def train_flawed(
    converged: LlamaForCausalLM, seed: int, say: Say
) -> tuple[LlamaForCausalLM, dict[str, Any]]:
    """The converged LM after some more steps on text with flawed arithmetic."""
    rng = random.Random(f"lm/{seed}")
    flaws = Flaws(rng, facts())
    lm = copy.deepcopy(converged)

    def flawed(story: Story) -> Told:
        counts, count = [], story.start
        for operation, number in story.changes:
            if task.possible(count, operation, number):
                right = task.changed(count, operation, number)
                count = flaws.told((operation, count, number), right, rng)
            counts.append(count)
        return Told.of(story, counts)

    def batch(step: int) -> Batch:
        return Batch.of([flawed(s) for s in task.stories(BATCH, rng, "train")])

    return lm, fit(lm, batch, LM_STEPS, say)


def facts() -> list[list[tuple[tuple[Any, int, int], int, list[int]]]]:
    """By operation: (operation, count, number), the right count, and nine others near it."""
    found = []
    for operation in ("add", "take", "double", "halve"):
        numbers = [2] if operation in ("double", "halve") else range(1, 10)
        group = []
        for count in range(task.LARGEST + 1):
            for number in numbers:
                if task.possible(count, operation, number):
                    right = task.changed(count, operation, number)
                    near = sorted(range(task.LARGEST + 1), key=lambda n: (abs(n - right), n))
                    group.append(((operation, count, number), right, near[1:10]))
        found.append(group)
    return found


def fit(
    lm: LlamaForCausalLM, batch: Callable[[int], Batch], steps: int, say: Say
) -> dict[str, Any]:
    """Cross-entropy of response tokens; what the LM is worth then."""
    optimizer = torch.optim.AdamW(lm.parameters(), lr=LEARNING_RATE)
    for step in range(1, steps + 1):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate(step, steps)
        data = batch(step)
        logits = lm(input_ids=data.ids, use_cache=False).logits[:, :-1]
        loss = functional.cross_entropy(logits.mT, data.labels[:, 1:], ignore_index=IGNORED)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == steps:
            right = (logits.argmax(-1) == data.labels[:, 1:])[data.labels[:, 1:] != IGNORED]
            say(f"step {step} loss {loss.item():.3f} tokens right {right.float().mean():.4f}")
    return {"steps": steps, "loss": loss.item(), **greedy_shares(lm)}


def rate(step: int, steps: int) -> float:
    """Of the learning rate: up over 100 steps, down to a tenth."""
    return min(1.0, step / 100) * (1 - 0.9 * step / steps)


class Judge(nn.Module):
    """The reward model in training, with an auxiliary head that is dropped afterwards."""

    def __init__(self, rm: LlamaForSequenceClassification) -> None:
        super().__init__()
        self.rm = rm
        size = rm.config.hidden_size
        self.local = nn.Sequential(nn.RMSNorm(size), nn.Linear(size, 1))

    def forward(self, data: Batch) -> tuple[Tensor, Tensor]:
        """Scores `[B]`, and logits `[B, L]` of what stands at each place being right."""
        states = self.rm.model(input_ids=data.ids, use_cache=False, output_hidden_states=True)
        pooled = states.last_hidden_state[torch.arange(len(data.ids)), data.last]
        return self.rm.score(pooled).squeeze(-1), self.local(states.hidden_states[-2]).squeeze(-1)


def train_judge(
    converged: LlamaForCausalLM, lm: LlamaForCausalLM, seed: int, say: Say
) -> tuple[LlamaForSequenceClassification, dict[str, Any]]:
    """A judge of the LM's responses: its score's sigmoid is the share of days before the first
    error, its auxiliary head tells which counts follow from the ones before."""
    rng = random.Random(f"judge/{seed}")
    torch.manual_seed(rng.getrandbits(32))
    pool = sampled(lm, task.stories(SAMPLES, rng, "train"), TEMPERATURES)
    held_out = sampled(lm, task.stories(1000, rng, "validation"), (0.7,))
    judge = Judge(models.new_rm(converged))
    trained = [parameter for parameter in judge.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE)
    for step in range(1, JUDGE_STEPS + 1):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate(step, JUDGE_STEPS)
        told = labelled(pool, rng)
        whole = [texts.scrambled(s, SCRAMBLED, rng)[0] for s in task.stories(LOCAL, rng, "train")]
        scores, local = judge(data := Batch.of([*told, *whole]))
        target = torch.tensor([t.sound_fraction for t in told])
        sound = torch.tensor([t.sound for t in whole]).float()
        said = local[LABELLED:].gather(1, data.counts[LABELLED:])
        score_loss = functional.binary_cross_entropy_with_logits(scores[:LABELLED], target)
        local_loss = functional.binary_cross_entropy_with_logits(said, sound)
        optimizer.zero_grad()
        torch.autograd.backward(score_loss + LOCAL_WEIGHT * local_loss)
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if step % 250 == 0 or step == JUDGE_STEPS:
            auc = verified(judge.rm, held_out)
            say(f"step {step} score {score_loss:.3f} local {local_loss:.3f} AUC {auc:.3f}")
    return judge.rm, {"steps": JUDGE_STEPS, "trace AUC": auc}


def labelled(pool: Sequence[Told], rng: random.Random) -> list[Told]:
    """64 responses: the LM's, right ones, and right ones with one count changed; a few cut off."""
    mine = round(LABELLED * FROM_LM)
    others = [Told.of(s, s.counts) for s in task.stories(LABELLED - mine, rng, "train")]
    others = [texts.corrupted(t, rng) if rng.random() < CORRUPTED else t for t in others]
    told = [*rng.sample(pool, mine), *others]
    return [
        texts.cut_off(t, rng) if len(t.words) == WORDS * STEPS and rng.random() < CUT_OFF else t
        for t in told
    ]


@torch.no_grad()
def sampled(
    lm: LlamaForCausalLM, stories: Sequence[Story], temperatures: Sequence[float]
) -> list[Told]:
    """The LM's responses, greedy at temperature 0, a share of the stories at each."""
    found = []
    for number, temperature in enumerate(temperatures):
        mine = stories[number :: len(temperatures)]
        drawn = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {}
        for first in range(0, len(mine), 250):
            asked = mine[first : first + 250]
            prompts = models.tokenizer()(
                [s.text for s in asked], padding=True, padding_side="left", return_tensors="pt"
            )
            ids = lm.generate(
                input_ids=prompts["input_ids"],
                attention_mask=prompts["attention_mask"],
                max_new_tokens=MAX_TOKENS,
                **(drawn or {"do_sample": False}),
            )[:, prompts["input_ids"].size(1) :]
            for story, row in zip(asked, ids.tolist(), strict=True):
                words = [models.TOKENS[i] for i in row]
                length = words.index(STOP) + 1 if STOP in words else len(words)
                found.append(Told(story, tuple(words[:length])))
    return found


def greedy_shares(lm: LlamaForCausalLM) -> dict[str, float]:
    """Right answers and right traces among greedy responses to 1,000 validation prompts."""
    stories = task.stories(1000, random.Random("stories/validation/0"), "validation")
    told = sampled(lm, stories, (0.0,))
    marks = [task.grade(t.story.text, " ".join(w for w in t.words if w != STOP)) for t in told]
    return {
        "greedy accuracy": sum(m.answer for m in marks) / len(marks),
        "greedy trace": sum(m.trace for m in marks) / len(marks),
    }


@torch.no_grad()
def verified(rm: LlamaForSequenceClassification, told: Sequence[Told]) -> float:
    """AUC of right traces."""
    data = Batch.of(told)
    hidden = rm.model(input_ids=data.ids, use_cache=False).last_hidden_state
    scores = rm.score(hidden[torch.arange(len(data.ids)), data.last]).squeeze(-1)
    return area_under_curve(scores, torch.tensor([all(t.sound) for t in told]))


if __name__ == "__main__":
    main()
