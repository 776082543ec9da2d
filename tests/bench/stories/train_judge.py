"""The judge of the stories: a reward model that predicts how far a response is right."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from nabla_core.embedded.recipe.measure import area_under_curve
from tests.bench.stories import models, task, texts
from tests.bench.stories.rollouts import sampled
from tests.bench.stories.task import STEPS, WORDS
from tests.bench.stories.texts import Batch, StoryResponse
from tests.bench.stories.train_lm import LEARNING_RATE, SCRAMBLED, Log, rate

JUDGE_STEPS = 800
SAMPLES, HELD_OUT, TEMPERATURES = 6000, 1000, (0.0, 0.7, 1.0, 1.3)
LABELLED, LOCAL = 64, 64
FROM_LM, CORRUPTED, CUT_OFF = 0.6, 0.3, 0.05
LOCAL_WEIGHT = 2.0


class Judge(nn.Module):
    """The reward model during training, with an auxiliary head that is dropped afterwards."""

    def __init__(self, rm: LlamaForSequenceClassification) -> None:
        super().__init__()
        self.rm = rm
        size = rm.config.hidden_size
        self.local = nn.Sequential(nn.RMSNorm(size), nn.Linear(size, 1))

    def forward(self, data: Batch) -> tuple[Tensor, Tensor]:
        """Scores `[B]`, and logits `[B, L]` that the token at each place is right."""
        states = self.rm.model(input_ids=data.ids, use_cache=False, output_hidden_states=True)
        pooled = states.last_hidden_state[torch.arange(len(data.ids)), data.last]
        return self.rm.score(pooled).squeeze(-1), self.local(states.hidden_states[-2]).squeeze(-1)


def train_judge(
    converged: LlamaForCausalLM, lm: LlamaForCausalLM, seed: int, log: Log
) -> tuple[LlamaForSequenceClassification, dict[str, Any]]:
    """Train a judge of the LM's responses. The sigmoid of its score predicts the share of days
    before the first error; its auxiliary head predicts which counts follow from the ones before."""
    rng = random.Random(f"judge/{seed}")
    torch.manual_seed(rng.getrandbits(32))
    pool = sampled(lm, task.stories(SAMPLES, rng, "train"), TEMPERATURES)
    held_out = sampled(lm, task.stories(HELD_OUT, rng, "validation"), (0.7,))
    judge = Judge(models.new_rm(converged))
    trained = [parameter for parameter in judge.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE)
    for step in range(1, JUDGE_STEPS + 1):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * rate(step, JUDGE_STEPS)
        responses = labelled(pool, rng)
        whole = [texts.scrambled(s, SCRAMBLED, rng)[0] for s in task.stories(LOCAL, rng, "train")]
        scores, local = judge(data := Batch.of([*responses, *whole]))
        target = torch.tensor([r.sound_fraction for r in responses])
        sound = torch.tensor([t.sound for t in whole]).float()
        logits = local[LABELLED:].gather(1, data.counts[LABELLED:])
        score_loss = functional.binary_cross_entropy_with_logits(scores[:LABELLED], target)
        local_loss = functional.binary_cross_entropy_with_logits(logits, sound)
        optimizer.zero_grad()
        torch.autograd.backward(score_loss + LOCAL_WEIGHT * local_loss)
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if step % 250 == 0 or step == JUDGE_STEPS:
            auc = verified(judge.rm, held_out)
            log(f"step {step} score {score_loss:.3f} local {local_loss:.3f} AUC {auc:.3f}")
    return judge.rm, {"steps": JUDGE_STEPS, "trace AUC": auc}


def labelled(pool: Sequence[StoryResponse], rng: random.Random) -> list[StoryResponse]:
    """64 responses: the LM's, right ones, and right ones with one wrong count; some cut off."""
    mine = round(LABELLED * FROM_LM)
    others = [StoryResponse.of(s, s.counts) for s in task.stories(LABELLED - mine, rng, "train")]
    others = [texts.corrupted(t, rng) if rng.random() < CORRUPTED else t for t in others]
    responses = [*rng.sample(pool, mine), *others]
    return [
        texts.cut_off(t, rng) if len(t.words) == WORDS * STEPS and rng.random() < CUT_OFF else t
        for t in responses
    ]


@torch.no_grad()
def verified(rm: LlamaForSequenceClassification, responses: Sequence[StoryResponse]) -> float:
    """AUC of the score, responses with every step right against the others."""
    data = Batch.of(responses)
    hidden = rm.model(input_ids=data.ids, use_cache=False).last_hidden_state
    scores = rm.score(hidden[torch.arange(len(data.ids)), data.last]).squeeze(-1)
    return area_under_curve(scores, torch.tensor([all(r.sound) for r in responses]))
