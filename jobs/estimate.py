"""Memory, passes, FLOPs and hours of a run, from its config alone: nothing is read or downloaded.

  nabla estimate --config configs/models/qwen2.5-7b-skywork-4b.yaml estimate.card=h100
  nabla estimate --config configs/embedded.yaml estimate.prompt_tokens=17 estimate.prompts=2000

It takes any config of `nabla generate`, and the lengths of prompts and responses as assumptions
(`estimate.prompt_tokens`, `estimate.response_tokens`). Models are folders with a config.json, or
known ids of the hub. `nabla generate --dry-run` gives the same lines from the prompts and models
themselves. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from jobs.command import Command, config_options, load_config, without_run
from jobs.display import console
from jobs.display.preview import amount, bytes_of, print_hours, print_memory, print_warnings
from jobs.exit_codes import ExitCode

if TYPE_CHECKING:
    from pipeline.estimate.job import Estimated


def _options(parser: argparse.ArgumentParser) -> None:
    config_options(parser, dry_run="the same as without: an estimate runs nothing")


def _run(options: argparse.Namespace) -> int:
    from pipeline.estimate.config import EstimateConfig
    from pipeline.estimate.job import estimate

    config = load_config(EstimateConfig, options)
    options.dry_run = False
    if without_run(options, config):
        return ExitCode.DONE
    _print(estimate(config))
    return ExitCode.DONE


def _print(found: Estimated) -> None:
    from pipeline.preview.cost import HOW

    models, cost = found.models, found.expected
    own = None if models.guide is models.judge else models.guide
    for role, model in (("lm", models.lm), ("judge", models.judge), ("guide", own)):
        if model is None:
            continue
        console.print_line(f"{role:<8} {model.source}: {weights(model.parameters)} weights")
    if models.value_head is not None:
        console.print_line(f"guide    a value head: {models.value_head.parameters:,} weights")
    prompt, response = found.tokens
    console.print_line(f"assumed  {prompt:,} tokens a prompt and {response:,} a response")
    console.print_line(
        f"cost     a row: {cost.rollouts:g} rollouts, {cost.generated_tokens:,.0f} tokens, "
        f"{cost.lm_passes:.3g} LM passes to read and {cost.reward_passes:.3g} of judge and guide, "
        f"{amount(cost.flops)}\n         {found.rows:,} rows: {amount(cost.flops * found.rows)}\n"
        f"         ({HOW})"
    )
    print_memory(found.memory, found.dtype)
    print_hours(found.rows, found.seconds, found.card, found.share)
    if found.memory.total > found.card.memory:
        print_warnings(
            [
                f"{bytes_of(found.memory.total)} do not fit {found.card.name}'s "
                f"{bytes_of(found.card.memory)}: lower runtime.max_batch or cluster.in_flight, or "
                "set runtime.gradient_checkpointing=true or runtime.reuse=false"
            ]
        )
    console.print_line(json.dumps(_line(found)))


def weights(count: int) -> str:
    """A number of weights: `7.62 billion`."""
    unit, name = (1e9, "billion") if count >= 1e9 else (1e6, "million")
    return f"{count / unit:,.3g} {name}"


def _line(found: Estimated) -> dict[str, object]:
    return {
        "rows": found.rows,
        "row": asdict(found.expected),
        "memory": {**asdict(found.memory), "total": found.memory.total},
        "fits": found.memory.total <= found.card.memory,
        "card": found.card.name,
        "share": found.share,
        "hours": found.hours,
    }


COMMAND = Command(
    name="estimate",
    summary="memory, FLOPs and hours of a run, from its config alone",
    description=__doc__,
    add_options=_options,
    run=_run,
)
main = COMMAND.main

if __name__ == "__main__":
    sys.exit(main())
