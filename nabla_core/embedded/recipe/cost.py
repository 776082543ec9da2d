"""What the recipe's models cost to train, as `cost` of their cards.

    python -m nabla_core.embedded.recipe.cost FOLDER...    # adds it to the cards that lack it

Every batch has a size that the recipe fixes, so the FLOPs follow from it without training. The LM
includes the converged LM that it starts from. Labels come from the task's arithmetic and cost none.
Figures of cards and of the log choose no checkpoint and are left out. Seconds are those of the last
stage alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nabla_core.embedded.recipe import models, train_judge, train_lm
from nabla_core.embedded.recipe.corpus import PROMPT_LENGTH, RESPONSE_LENGTH
from nabla_core.models.training_flops import TrainedShape

CONVERGED_STEPS = 1400
LM_STEPS = 600
JUDGE_STEPS = 6300
# Stages with a card of their own; the converged LM is a part of the LM.
STAGES = ("lm", "judge")
_ROW = PROMPT_LENGTH + RESPONSE_LENGTH


def training_cost(stage: str, seconds: float) -> dict[str, Any]:
    """The cost of a stage, as `pipeline.training.cost.TrainingCost` reads it. Raises ValueError on
    another stage than those of `STAGES`."""
    lm = models.new_lm()
    of_lm = TrainedShape.of(lm.model, lm.config, lm.lm_head)
    if stage == "lm":
        steps = (CONVERGED_STEPS + LM_STEPS) * train_lm.BATCH * of_lm.step(_ROW, _ROW)
        return _cost(steps, 0.0, seconds)
    if stage == "judge":
        rm = models.new_rm(lm)
        of_rm = TrainedShape.of(rm.model, rm.config, rm.score)
        rows = JUDGE_STEPS * (train_judge.LABELLED + train_judge.LOCAL)
        # The last token of a response is drawn and not read again.
        drawn = train_judge.SAMPLES * of_lm.forward(_ROW - 1, _ROW - 1)
        return _cost(rows * of_rm.step(_ROW, 1), drawn, seconds)
    raise ValueError(f"{stage}: the cost is known of {', '.join(STAGES)}")


def _cost(steps: float, samples: float, seconds: float) -> dict[str, Any]:
    return {
        "steps": steps,
        "samples": samples,
        "measurements": 0.0,
        "data": 0.0,
        "seconds": seconds,
    }


def with_cost(card: Mapping[str, Any]) -> dict[str, Any]:
    """The card of a stage with its cost; as it is where the stage has none."""
    stage = card.get("stage")
    if stage not in STAGES or "cost" in card:
        return dict(card)
    return {**card, "cost": training_cost(stage, 60.0 * card["minutes"])}


def main() -> None:
    """Add the cost to the cards in the folders that are given."""
    parser = argparse.ArgumentParser(
        prog="python -m nabla_core.embedded.recipe.cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", type=Path, nargs="+")
    for folder in parser.parse_args().folders:
        path = folder / "card.json"
        card = with_cost(json.loads(path.read_text()))
        path.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n")
        print(folder, json.dumps(card.get("cost")))


if __name__ == "__main__":
    main()
