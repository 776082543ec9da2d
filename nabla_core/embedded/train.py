"""Make the embedded models again: converged LM, LM, judge, guide.

    python -m nabla_core.embedded.train --out DIR [--guide gold-free|gold-aligned|both]

The shipped ones lie in the package; `lm`, `judge` and `guide-gold-free` or
`guide-gold-aligned` under `--out` are what they are made of. A stage whose folder there is
finished is not repeated, so an interrupted run goes on where it stopped; give a new folder to
start over. Seeded, and repeatable on one machine for one number of threads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, Qwen2ForCausalLM, Qwen2ForSequenceClassification

from nabla_core.embedded import (
    counterfactuals,
    measure,
    train_guide,
    train_judge,
    train_lm,
    weights,
)

CONVERGED_STEPS = 1400
LM_STEPS = 600
JUDGE_STEPS = 3000
GUIDE_STEPS = 2500
COUNTERFACTUAL_SAMPLES = 8000
ACROSS = 1.0

Made = tuple[PreTrainedModel, dict[str, Any]]


def main() -> None:
    """Parse the command line and run the stages that are not finished."""
    parser = argparse.ArgumentParser(prog="python -m nabla_core.embedded.train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/embedded-weights"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--guide", choices=["gold-free", "gold-aligned", "both"], default="both")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    Recipe(arguments.out, arguments.seed, arguments.device).run(arguments.guide)


class Recipe:
    """The stages in order, each kept in its own folder under `out`."""

    def __init__(self, out: Path, seed: int, device: str) -> None:
        self.out, self.seed, self.device = out, seed, device
        self.started = time.monotonic()

    def run(self, guide: str) -> None:
        """Every stage, each from its folder where finished."""
        reward = Qwen2ForSequenceClassification
        converged = self.stage("converged", Qwen2ForCausalLM, self.converged)
        lm = self.stage("lm", Qwen2ForCausalLM, lambda: self.lm(converged))
        judge = self.stage("judge", reward, lambda: self.judge(lm, converged))
        if guide != "gold-aligned":
            self.stage("guide-gold-free", reward, lambda: self.gold_free(lm, judge))
        if guide != "gold-free":
            self.stage("guide-gold-aligned", reward, lambda: self.gold_aligned(lm, judge))

    def stage(self, name: str, kind: Any, make: Callable[[], Made]) -> Any:
        """The model of a stage in `out`, made and saved first where it is not there."""
        path = self.out / name
        if not (path / "card.json").exists():
            begun = time.monotonic()
            model, card = make()
            card = {"stage": name, "seed": self.seed, **card}
            card["minutes"] = round((time.monotonic() - begun) / 60, 1)
            card["threads"] = torch.get_num_threads()
            card["versions"] = {
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            }
            weights.save(model, path, card)
        self.say(name, f"at {path}")
        model = kind.from_pretrained(path, attn_implementation="eager")
        return model.to(self.device).eval()

    def converged(self) -> Made:
        """The LM on whose layers the reward models stand."""
        lm = train_lm.train_converged(
            seed=self.seed,
            steps=CONVERGED_STEPS,
            device=self.device,
            say=lambda text: self.say("converged", text),
        )
        taught = "right responses to digit chains, to convergence"
        return lm, {"taught": taught, "steps": CONVERGED_STEPS, **self.greedy(lm)}

    def lm(self, converged: Qwen2ForCausalLM) -> Made:
        """The LM, which errs."""
        lm = train_lm.train_flawed(
            converged,
            seed=self.seed,
            steps=LM_STEPS,
            device=self.device,
            say=lambda text: self.say("lm", text),
        )
        taught = (
            f"right responses to digit chains ({CONVERGED_STEPS} steps), then responses in which "
            "10 % of the arithmetic facts are mostly wrong and 30 % waver"
        )
        return lm, {"taught": taught, "steps": LM_STEPS, **self.greedy(lm)}

    def greedy(self, lm: Qwen2ForCausalLM) -> dict[str, Any]:
        """Greedy figures on 2,000 validation prompts."""
        answers, traces = train_lm.accuracy(lm, *train_lm.validation(2000, self.device))
        return {"validation prompts": 2000, "greedy accuracy": answers, "greedy trace": traces}

    def judge(self, lm: Qwen2ForCausalLM, converged: Qwen2ForCausalLM) -> Made:
        """The plain reward model."""
        judge = train_judge.train(
            lm,
            converged,
            seed=self.seed,
            steps=JUDGE_STEPS,
            device=self.device,
            say=lambda text: self.say("judge", text),
        )
        taught = (
            "binary cross-entropy on the fraction of steps before the first error, labels from the "
            "task's arithmetic; lower layers and embeddings of a converged LM"
        )
        return judge, {"taught": taught, "steps": JUDGE_STEPS, **self.worth(judge, lm)}

    def gold_free(self, lm: Qwen2ForCausalLM, judge: Qwen2ForSequenceClassification) -> Made:
        """The guide taught by the judge's scores of counterfactuals."""
        known = self.counterfactuals(lm, judge)
        loss = train_guide.gold_free(known, seed=self.seed, across=ACROSS)
        guide = train_guide.train(
            judge, loss, steps=GUIDE_STEPS, say=lambda text: self.say("guide-gold-free", text)
        )
        taught = (
            "gold-free: its gradient follows the judge's scores of one-digit changes with greedy "
            "tails; starts as the judge, whose own labels came from the task's arithmetic"
        )
        return guide, {"taught": taught, "steps": GUIDE_STEPS, **self.worth(guide, lm)}

    def counterfactuals(
        self, lm: Qwen2ForCausalLM, judge: Qwen2ForSequenceClassification
    ) -> counterfactuals.Counterfactuals:
        """What the gold-free guide learns from, kept in `out` too."""
        path = self.out / "counterfactuals.pt"
        if not path.exists():
            known = counterfactuals.collect(
                lm,
                judge,
                samples=COUNTERFACTUAL_SAMPLES,
                uncertain=1,
                uniform=2,
                seed=self.seed,
                device=self.device,
            )
            torch.save({name: getattr(known, name) for name in known.__slots__}, path)
        self.say("counterfactuals", f"at {path}")
        return counterfactuals.Counterfactuals(**torch.load(path, map_location=self.device))

    def gold_aligned(self, lm: Qwen2ForCausalLM, judge: Qwen2ForSequenceClassification) -> Made:
        """The guide taught the locally right digit."""
        prompts, responses = train_judge.sample_pool(lm, seed=self.seed, device=self.device)
        loss = train_guide.gold_aligned(prompts, responses, seed=self.seed)
        guide = train_guide.train(
            judge, loss, steps=GUIDE_STEPS, say=lambda text: self.say("guide-gold-aligned", text)
        )
        taught = "gold-aligned: its gradient points at the locally right digit; starts as the judge"
        return guide, {"taught": taught, "steps": GUIDE_STEPS, **self.worth(guide, lm)}

    def worth(self, rm: Qwen2ForSequenceClassification, lm: Qwen2ForCausalLM) -> dict[str, Any]:
        """How well a reward model verifies and points, on validation prompts."""
        figures = {
            "verification": asdict(measure.verification(rm, lm)),
            "pointing": asdict(measure.pointing(rm, lm)),
        }
        self.say("figures", str(figures))
        return figures

    def say(self, stage: str, text: str) -> None:
        """Print one line of progress."""
        print(f"{(time.monotonic() - self.started) / 60:6.1f} min  {stage}: {text}", flush=True)


if __name__ == "__main__":
    main()
