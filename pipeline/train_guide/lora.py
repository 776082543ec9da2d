"""LoRA for guides in training (Hu et al., arXiv 2106.09685), with peft: adapters are inserted for
training and merged into plain weights for everything else.

The only file that imports peft, and only where `optimise.lora` asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from nabla_core.errors import ModelError
from nabla_core.guide_training.settings import Optimise
from nabla_core.guide_training.trainees import Trainee
from pipeline.extras import require_for_lora

ADAPTER = "default"


def adapt(optimise: Optimise, seed: int) -> Callable[[Trainee], None] | None:
    """A function that inserts the adapters of `optimise.lora` into a trainee; None without LoRA.

    Raises ConfigError where peft is missing. The function raises ModelError naming a target that
    is no linear layer of the model.
    """
    require_for_lora(optimise.lora)
    if not optimise.lora.rank:
        return None

    def insert(trainee: Trainee) -> None:
        from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 - an optional package

        lora = optimise.lora
        config = LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=0.0,
            target_modules=_targets(trainee, optimise),  # full names: peft matches by suffix
        )
        torch.manual_seed(seed)  # every worker must draw the same A
        inject_adapter_in_model(config, trainee.model, ADAPTER)
        trainee.output.requires_grad_(True)  # peft has frozen everything but the adapters
        trainee.model.eval()  # new modules start in training mode

    return insert


@contextmanager
def merged(trainee: Trainee) -> Iterator[None]:
    """Make the trainee a plain model in the block: adapters are added to the weights and removed
    from the modules. This model is what is measured, saved and delivered.

    Afterwards the weights are bit for bit what they were. They are put back from a copy on the
    CPU, because subtracting the adapters again would leave rounding errors.
    """
    with ExitStack() as stack:
        for parent, name, layer in adapted(trainee.model):
            stack.enter_context(_plain(parent, name, layer))
        yield


def adapted(model: nn.Module) -> list[tuple[nn.Module, str, Any]]:
    """Every layer with an adapter, as (parent module, name in the parent, layer)."""
    return [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if ADAPTER in getattr(layer, "lora_A", ())
    ]


@contextmanager
def _plain(parent: nn.Module, name: str, layer: Any) -> Iterator[None]:
    base = layer.get_base_layer()
    original = base.weight.detach().to("cpu", copy=True)
    with torch.no_grad():
        base.weight.add_(layer.get_delta_weight(ADAPTER))
    setattr(parent, name, base)
    try:
        yield
    finally:
        setattr(parent, name, layer)
        with torch.no_grad():
            base.weight.copy_(original)


def _targets(trainee: Trainee, optimise: Optimise) -> list[str]:
    """Full names of the linear layers to adapt. Raises ModelError."""
    body, output = trainee.model.base_model, trainee.output
    frozen = {id(m) for layer in _frozen(body, optimise) for m in layer.modules()}
    linear = {
        name: module
        for name, module in trainee.model.named_modules()
        if isinstance(module, nn.Linear) and module is not output
    }
    chosen = optimise.lora.targets
    kinds = {name.rpartition(".")[2] for name in linear}
    for target in chosen:
        if target not in kinds:
            raise ModelError(
                f"optimise.lora.targets: no linear layer is named {target!r}; there are "
                + (", ".join(sorted(kinds)) or "none")
            )
    targets = [
        name
        for name, module in linear.items()
        if id(module) not in frozen and (not chosen or name.rpartition(".")[2] in chosen)
    ]
    if not targets:
        raise ModelError("optimise.lora: every layer that could have an adapter is frozen")
    return targets


def _frozen(body: Any, optimise: Optimise) -> list[nn.Module]:
    return list(body.layers[: optimise.frozen_layers]) if optimise.frozen_layers else []
