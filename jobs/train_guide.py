"""Train a guide on counterfactuals: a reward model whose gradient points at better tokens, or
a head that predicts what tokens are worth.

    python -m jobs.train_guide --config configs/train_guide_embedded.yaml [key=value ...]

The guide lands in `<run_dir>/guide`; give that folder to any job as reward.guide. Run it again
to go on from the last checkpoint. The last line is one JSON object. Exit codes: 0 done, 2 bad
config, model or data, 1 training could not go on, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from jobs import command, console, guide_figures
from pipeline.train_guide.config import TrainGuideConfig


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job; returns the exit code."""
    return command.run(
        "train_guide",
        __doc__,
        TrainGuideConfig,
        _train,
        arguments,
        "show the config, train nothing",
    )


def _train(config: TrainGuideConfig) -> int:
    from pipeline.train_guide.job import train_guide  # noqa: PLC0415 - ray: after the config is right

    steps, every = config.optimise.steps, config.validation.every
    console.say(f"{config.run_dir}: {steps} steps, measured every {every}")
    with console.terminable():
        try:
            trained = train_guide(config, guide_figures.tell)
        except KeyboardInterrupt:
            console.say("interrupted; the same command goes on from the last checkpoint")
            return 130
    card = trained.card
    console.say(f"{config.run_dir}/guide: {'was already there' if trained.already else 'done'}")
    console.show(guide_figures.table(card))
    if met := card["data"].get("validation_prompts_trained_on"):
        console.say(f"{met} of the validation prompts, which chose the checkpoint, were trained on")
    console.say(json.dumps({"guide": f"{config.run_dir}/guide", **_line(card)}))
    return 0


def _line(card: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": card["kind"],
        "counterfactuals": card["data"]["counterfactuals"],
        **card["metrics"],
        "judge_gradient": card["judge_gradient"],
        "skipped_steps": len(card["skipped_steps"]),
    }


if __name__ == "__main__":
    sys.exit(main())
