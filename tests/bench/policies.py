"""Converged KL-regularised policies on the embedded LM: RLOO until J stops rising.

    python -m tests.bench.policies --out DIR [--betas 2 0.5 0.125] [--seed 0] [--max-steps 1500]
        [--models MODELS]

For each beta a policy is trained from the LM on prompts of the train split to maximise
J = E[r] - beta KL, with the embedded judge as r. Every 25 steps J is estimated on 1,000 prompts of
the validation split, four responses each. The stop rule is that of
`pipeline.duality.language.convergence.Plateau`: after four evaluations without a gain beyond its
standard error the learning rate is cut to a third, and at the third time training stops. The policy
with the best J is delivered. MODELS holds another pair than the embedded one, as `lm` and `judge`
(`python -m nabla_core.embedded.recipe.train --seed 1 --out MODELS`).

    DIR/beta-B/policy/        a model folder, for `lm.path`
    DIR/beta-B/history.json   every evaluation
    DIR/beta-B/state.pt       training as of the last evaluation: the same command continues
    DIR/curves.svg            J, reward and KL by step

The card holds what the training cost (`cost`), as `nabla compare` reads it. Every response that is
drawn counts, equal ones too. `--count` adds it to the cards of policies that were trained before.

The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from nabla_core.embedded import task
from nabla_core.embedded.recipe import corpus
from nabla_core.embedded.recipe.models import new_lm, new_rm
from nabla_core.embedded.weights import folder as shipped
from nabla_core.embedded.weights import save
from nabla_core.models.training_flops import TrainedShape
from pipeline.duality.language.convergence import Plateau, evaluate
from pipeline.duality.language.embedded_models import EmbeddedModels
from pipeline.duality.language.rloo import WARM_UP_STEPS, Rloo
from pipeline.duality.plotting import COLOURS
from pipeline.store.files import Folder
from pipeline.training.cost import TrainingCost

STATE, HISTORY, CARD = "state.pt", "history.json", "policy/card.json"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of one training. Steps are of `prompts` x `group` responses."""

    beta: float
    models: str | None = None
    seed: int = 0
    prompts: int = 128
    group: int = 4
    rate: float = 1e-3
    every: int = 25
    held_out: int = 1000
    samples: int = 4
    patience: int = 4
    cuts: int = 2
    factor: float = 3.0
    max_steps: int = 1500


@dataclass(kw_only=True)
class Training:
    """A training as it goes on; `best` are the weights with the best J, `seconds` those of CPU."""

    rloo: Rloo
    plateau: Plateau
    step: int = 0
    seconds: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


def main() -> None:
    """Train what is missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.policies", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--betas", type=float, nargs="+", default=[2.0, 0.5, 0.125])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-steps", type=int, default=Settings.max_steps)
    parser.add_argument("--models", help="a folder with lm and judge (default: the embedded ones)")
    parser.add_argument("--count", action="store_true", help="add the cost to cards, train nothing")
    given = parser.parse_args()
    if given.count:
        for beta in given.betas:
            count(given.out / f"beta-{beta:g}")
        return
    found = {}
    for beta in given.betas:
        settings = Settings(
            beta=beta, models=given.models, seed=given.seed, max_steps=given.max_steps
        )
        found[f"{beta:g}"] = train(settings, given.out / f"beta-{beta:g}")
        Folder(str(given.out)).write("curves.svg", curves(found))
    print(json.dumps({beta: best_of(history) for beta, history in found.items()}))


def train(settings: Settings, out: Path) -> list[dict[str, Any]]:
    """Train one policy, or go on with it; its evaluations."""
    folder = Folder(str(out))
    if folder.exists(CARD):
        found: list[dict[str, Any]] = json.loads(folder.read(HISTORY))
        return found
    prompts = task.prompts(settings.held_out, seed=settings.seed, split="validation")
    models = EmbeddedModels(prompts, Path(settings.models) if settings.models else None)
    training = begin(settings, models)
    if folder.exists(STATE):
        load_state(training, settings, folder.read(STATE))
    while not training.history or goes_on(training, settings):
        started = time.process_time()
        if training.history:
            advance(training, settings)
        measure(training, settings, models)
        training.seconds += time.process_time() - started
        training.history[-1]["cpu_seconds"] = round(training.seconds)
        folder.write(STATE, state_of(training, settings))
        folder.write(HISTORY, json.dumps(training.history, indent=2).encode())
        last = training.history[-1]
        print(json.dumps(last), flush=True)
    deliver(training, settings, models, out)
    return training.history


def count(out: Path) -> None:
    """Add the cost to the card of a policy, from its settings and history."""
    folder = Folder(str(out))
    card = json.loads(folder.read(CARD))
    cost = training_cost(Settings(**card["settings"]), json.loads(folder.read(HISTORY)))
    folder.write(CARD, json.dumps({**card, "cost": cost}, indent=2).encode())
    print(json.dumps({str(out): cost}))


def training_cost(settings: Settings, history: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What a training cost that made these evaluations, `pipeline.training.cost.TrainingCost`."""
    lm = new_lm()
    rm = new_rm(lm)
    policy = TrainedShape.of(lm.model, lm.config, lm.lm_head)
    judge = TrainedShape.of(rm.model, rm.config, rm.score)
    length = corpus.PROMPT_LENGTH + corpus.RESPONSE_LENGTH
    # The last token is drawn and not read again.
    drawn = policy.forward(length - 1, length - 1)
    # The reward of a response, and its likelihood under the LM.
    read = judge.forward(length, 1) + policy.forward(length, length)
    responses = history[-1]["step"] * settings.prompts * settings.group
    measured = len(history) * settings.held_out * settings.samples
    cost = TrainingCost(
        steps=responses * (read + policy.step(length, length)),
        samples=responses * drawn,
        measurements=measured * (drawn + read + policy.forward(length, length)),
        data=0.0,
        seconds=float(history[-1]["cpu_seconds"]),
    )
    return asdict(cost)


def goes_on(training: Training, settings: Settings) -> bool:
    """Whether J still rises, and steps are left."""
    return not training.plateau.stopped and training.step < settings.max_steps


def begin(settings: Settings, models: EmbeddedModels) -> Training:
    """A training before its first step."""
    plateau = Plateau(
        patience=settings.patience, cuts=settings.cuts, factor=settings.factor, rate=settings.rate
    )
    return Training(rloo=Rloo(models.lm, models.judge, settings.beta), plateau=plateau)


def advance(training: Training, settings: Settings) -> None:
    """The steps up to the next evaluation. Prompts and draws of a step depend on its number alone,
    so a training that was interrupted goes on as it would have."""
    for step in range(training.step, training.step + settings.every):
        key = settings.seed * 1_000_000 + step
        prompts = task.prompts(settings.prompts, seed=key, split="train")
        rate = training.plateau.rate * min(1.0, (step + 1) / WARM_UP_STEPS)
        ids = corpus.encode_prompts([p.text for p in prompts])
        generator = torch.Generator().manual_seed(key)
        training.rloo.step(ids, settings.group, rate, generator)
    training.step += settings.every


def measure(training: Training, settings: Settings, models: EmbeddedModels) -> None:
    """Estimate J, and keep the weights if it is the best."""
    generator = torch.Generator().manual_seed(settings.seed)
    with torch.no_grad():
        sample = models.sample(training.rloo.policy, settings.samples, generator)
    rate = training.plateau.rate
    found, objective = evaluate(sample, settings.beta, step=training.step, learning_rate=rate)
    gained = training.plateau.gains(objective)
    if gained:
        weights = training.rloo.policy.state_dict()
        training.best = {name: value.clone() for name, value in weights.items()}
    training.history.append({**asdict(found), "gained": gained})


def state_of(training: Training, settings: Settings) -> bytes:
    """All that a training needs to go on."""
    out = io.BytesIO()
    torch.save(
        {
            "settings": asdict(settings),
            "policy": training.rloo.policy.state_dict(),
            "optimizer": training.rloo.optimizer.state_dict(),
            "plateau": asdict(training.plateau),
            "best": training.best,
            "step": training.step,
            "seconds": training.seconds,
            "history": training.history,
        },
        out,
    )
    return out.getvalue()


def load_state(training: Training, settings: Settings, data: bytes) -> None:
    """Go on where `state_of` was called. Raises ValueError naming settings that have changed."""
    state = torch.load(io.BytesIO(data), weights_only=True)
    made = {**state["settings"], "max_steps": settings.max_steps}
    changed = [name for name, value in asdict(settings).items() if made.get(name) != value]
    if changed:
        raise ValueError(f"this training was begun with other settings: {', '.join(changed)}")
    training.rloo.policy.load_state_dict(state["policy"])
    training.rloo.optimizer.load_state_dict(state["optimizer"])
    training.plateau = Plateau(**state["plateau"])
    training.best, training.history = state["best"], state["history"]
    training.step, training.seconds = state["step"], state["seconds"]


def deliver(training: Training, settings: Settings, models: EmbeddedModels, out: Path) -> None:
    """Write the policy with the best J as a model folder."""
    best = best_of(training.history)
    card = {
        "what": f"RLOO with KL in the reward on the embedded LM, beta {settings.beta:g}",
        "settings": asdict(settings),
        "converged": training.plateau.stopped,
        "best": best,
        "cost": training_cost(settings, training.history),
    }
    template = (shipped("lm") / "chat_template.jinja").read_text()
    save(models.policy(training.best), out / "policy", card, chat_template=template)


def best_of(history: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The evaluation of the policy that is delivered: the last that gained."""
    return [e for e in history if e["gained"]][-1]


def curves(found: dict[str, list[dict[str, Any]]]) -> bytes:
    """J, reward and KL by step, a panel each, as SVG."""
    import matplotlib  # noqa: PLC0415 - an optional package
    from matplotlib.figure import Figure  # noqa: PLC0415

    panels = {"objective": "J on held-out prompts", "reward": "reward", "kl": "KL to the LM, nats"}
    with matplotlib.rc_context({"svg.hashsalt": "nabla", "svg.fonttype": "path"}):
        figure = Figure(figsize=(13, 4.2), layout="constrained")
        axes: Any = figure.subplots(1, 3)
        for axis, (name, label) in zip(axes, panels.items(), strict=True):
            for colour, (beta, history) in zip(COLOURS, found.items(), strict=False):
                _curve(axis, history, name, colour, f"beta {beta}")
            axis.set_xlabel("step")
            axis.set_ylabel(label)
            axis.grid(alpha=0.3)
        axes[0].legend()
        out = io.BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _curve(
    axis: Any, history: Sequence[dict[str, Any]], name: str, colour: str, label: str
) -> None:
    steps = [e["step"] for e in history]
    values = [e[name]["value"] for e in history]
    half = [1.96 * e[name]["error"] for e in history]
    axis.plot(steps, values, color=colour, label=label, linewidth=1)
    low = [v - h for v, h in zip(values, half, strict=True)]
    high = [v + h for v, h in zip(values, half, strict=True)]
    axis.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)


if __name__ == "__main__":
    main()
