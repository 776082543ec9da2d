"""Train the embedded models again: converged LM, LM and judge, then gold-aligned guides.

    python -m nabla_core.embedded.recipe.train --out DIR

`aligned` and `gold` are guides trained on the task's own arithmetic, for comparison; they are
not shipped. The shipped guides, `head` and `guide`, are not trained on answers: jobs of the
pipeline make them from the LM and the judge (configs/train_head_embedded.yaml and
configs/train_guide_embedded.yaml).

A stage whose folder in `--out` is complete is not repeated, so an interrupted run continues with
the same command; a new folder starts again. Results are the same on one machine with the same
seed and number of threads.
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

from nabla_core.embedded import weights
from nabla_core.embedded.recipe import measure, train_guide, train_judge, train_lm
from nabla_core.embedded.recipe.cost import CONVERGED_STEPS, JUDGE_STEPS, LM_STEPS, with_cost
from nabla_core.embedded.tokenizer import CHAT_TEMPLATE

ALIGN_STEPS = 2500
CALIBRATE_STEPS = 600


def main() -> None:
    """Parse the command line and run the stages that are not complete."""
    parser = argparse.ArgumentParser(prog="python -m nabla_core.embedded.recipe.train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/embedded-weights"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    Recipe(arguments.out, arguments.seed, arguments.device).run()


class Recipe:
    """The stages in order, each stored in a folder of its own in `out`."""

    def __init__(self, out: Path, seed: int, device: str) -> None:
        self.out, self.seed, self.device = out, seed, device
        self.started = time.monotonic()

    def run(self) -> None:
        """Run every stage, or load it where its folder is complete."""
        converged = self.stage("converged", Qwen2ForCausalLM, self.converged)
        lm = self.stage("lm", Qwen2ForCausalLM, lambda: self.lm(converged))
        reward = Qwen2ForSequenceClassification
        judge = self.stage("judge", reward, lambda: self.judge(lm, converged))
        aligned = self.stage("aligned", reward, lambda: self.aligned(lm, judge))
        self.stage("gold", reward, lambda: self.gold(lm, aligned))

    def stage(
        self, name: str, kind: Any, make: Callable[[], tuple[PreTrainedModel, dict[str, Any]]]
    ) -> Any:
        """The model of a stage, loaded from `out`; where it is missing it is made and saved."""
        path = self.out / name
        if not (path / "card.json").exists():
            started = time.monotonic()
            model, card = make()
            card = {"stage": name, "seed": self.seed, **card}
            card["minutes"] = round((time.monotonic() - started) / 60, 1)
            card["threads"] = torch.get_num_threads()
            card["versions"] = {
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            }
            # A student of the LM learns to stop by the template; reward models read without one.
            template = CHAT_TEMPLATE if name == "lm" else None
            weights.save(model, path, with_cost(card), chat_template=template)
        self.log(name, f"at {path}")
        model = kind.from_pretrained(path, trust_remote_code=False, attn_implementation="eager")
        return model.to(self.device).eval()

    def converged(self) -> tuple[PreTrainedModel, dict[str, Any]]:
        """The LM that is the lower part of the reward models."""
        lm = train_lm.train_converged(
            seed=self.seed,
            steps=CONVERGED_STEPS,
            device=self.device,
            log=lambda text: self.log("converged", text),
        )
        taught = "right responses to digit chains, to convergence"
        return lm, {"taught": taught, "steps": CONVERGED_STEPS, **self.greedy(lm)}

    def lm(self, converged: Qwen2ForCausalLM) -> tuple[PreTrainedModel, dict[str, Any]]:
        """The LM that makes errors, which is shipped."""
        lm = train_lm.train_flawed(
            converged,
            seed=self.seed,
            steps=LM_STEPS,
            device=self.device,
            log=lambda text: self.log("lm", text),
        )
        taught = (
            f"right responses to digit chains ({CONVERGED_STEPS} steps), then responses in which "
            "10 % of the arithmetic facts are mostly wrong and 30 % uncertain"
        )
        return lm, {"taught": taught, "steps": LM_STEPS, **self.greedy(lm)}

    def greedy(self, lm: Qwen2ForCausalLM) -> dict[str, Any]:
        """Greedy figures on 2,000 validation prompts."""
        answers, traces = train_lm.accuracy(lm, *train_lm.validation(2000, self.device))
        return {"validation prompts": 2000, "greedy accuracy": answers, "greedy trace": traces}

    def judge(
        self, lm: Qwen2ForCausalLM, converged: Qwen2ForCausalLM
    ) -> tuple[PreTrainedModel, dict[str, Any]]:
        """The plain reward model."""
        judge = train_judge.train(
            lm,
            converged,
            seed=self.seed,
            steps=JUDGE_STEPS,
            device=self.device,
            log=lambda text: self.log("judge", text),
        )
        return judge, {
            "taught": (
                "binary cross-entropy on the fraction of steps before the first error, labels "
                "from the task's arithmetic; lower layers and embeddings of a converged LM"
            ),
            "steps": JUDGE_STEPS,
            **self.figures("judge", judge, lm),
        }

    def aligned(
        self, lm: Qwen2ForCausalLM, judge: Qwen2ForSequenceClassification
    ) -> tuple[PreTrainedModel, dict[str, Any]]:
        """The guide after its first stage."""
        guide = train_guide.align(
            lm,
            judge,
            seed=self.seed,
            steps=ALIGN_STEPS,
            device=self.device,
            log=lambda text: self.log("aligned", text),
        )
        return guide, {
            "taught": (
                "gold-aligned: from the judge; its gradient over digits at every step is trained "
                "towards the locally right digit by the task's arithmetic; no loss term concerns "
                "its score"
            ),
            "steps": ALIGN_STEPS,
            **self.figures("aligned", guide, lm),
        }

    def gold(
        self, lm: Qwen2ForCausalLM, aligned: Qwen2ForSequenceClassification
    ) -> tuple[PreTrainedModel, dict[str, Any]]:
        """The gold-aligned guide."""
        guide = train_guide.calibrate(
            lm,
            aligned,
            seed=self.seed,
            steps=CALIBRATE_STEPS,
            device=self.device,
            log=lambda text: self.log("gold", text),
        )
        return guide, {
            "taught": (
                f"gold-aligned: from the judge, its gradient over digits ({ALIGN_STEPS} steps), "
                "then its mirror step at beta 1 over all tokens and positions, is trained towards "
                "the locally right token by the task's arithmetic; no loss term concerns its score"
            ),
            "steps": ALIGN_STEPS + CALIBRATE_STEPS,
            **self.figures("gold", guide, lm),
        }

    def figures(
        self, stage: str, rm: Qwen2ForSequenceClassification, lm: Qwen2ForCausalLM
    ) -> dict[str, Any]:
        """The figures of a reward model."""
        figures = {
            "verification": asdict(measure.verification(rm, lm)),
            "pointing": asdict(measure.pointing(rm, lm)),
        }
        self.log(stage, str(figures))
        return figures

    def log(self, stage: str, text: str) -> None:
        """Print one line of progress."""
        print(f"{(time.monotonic() - self.started) / 60:6.1f} min  {stage}: {text}", flush=True)


if __name__ == "__main__":
    main()
