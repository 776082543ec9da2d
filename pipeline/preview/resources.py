"""Are the devices there that a run asks for? What another machine has is not known."""

from __future__ import annotations

import math

from pipeline.cluster.config import Cluster
from pipeline.errors import ConfigError


def check_devices(cluster: Cluster, device: str) -> list[str]:
    """Sentences about the devices of a local run, and of a joined cluster that it is not known.
    Raises ConfigError and ModelError where a local run cannot be placed."""
    if cluster.ray_address:
        return [f"not checked: what the cluster at {cluster.ray_address} has"]
    import torch  # noqa: PLC0415 - it takes seconds

    from nabla_core.engines.loading import device_of  # noqa: PLC0415

    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    asked, actors = cluster.gpus_per_actor, cluster.actors.max
    if asked > available:
        raise ConfigError(
            f"an actor (cluster) needs {asked:g} GPU, and this machine has {available}; an address "
            "joins a cluster"
        )
    device_of(device)
    if asked and (fitting := math.floor(available / asked)) < actors:
        return [f"{fitting} of {actors} actors fit the {available} GPUs of this machine"]
    if available and not asked and device != "cpu":
        return [
            f"this machine has {available} GPUs, and cluster.gpus_per_actor is 0: Ray hides them, "
            "and models run on the CPU"
        ]
    return []
