"""Models on the Hugging Face hub: whether there is one of an id, and loading without a network.

huggingface_hub takes a second to import, and most models are folders: functions import it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

# The library itself would ask six times for each file, with pauses of up to eight seconds.
PROBE_SECONDS = 5.0
HUB_SECONDS = 10.0
# A process asks again after this time: the network may be back.
_REMEMBERED_SECONDS = 60


def hub_answers() -> bool:
    """Whether the hub may be asked and answers now. Takes seconds where it does not."""
    from huggingface_hub import constants  # noqa: PLC0415 - see above

    if constants.HF_HUB_OFFLINE:
        return False
    return _answers(constants.ENDPOINT, int(time.monotonic() // _REMEMBERED_SECONDS))


def why_not_on_hub(path: str) -> str | None:
    """Why no model of this id can be had from the hub; None where it can be or is in the cache.

    Access and revisions are not looked at: loading tells of them.
    """
    from huggingface_hub import constants  # noqa: PLC0415 - see above

    cached = Path(constants.HF_HUB_CACHE) / f"models--{path.replace('/', '--')}" / "snapshots"
    if cached.is_dir() and any(cached.iterdir()):
        return None
    if constants.HF_HUB_OFFLINE:
        return "not asked: HF_HUB_OFFLINE is set"
    return _not_found(path) if hub_answers() else "not reachable"


@contextmanager
def cache_without_network(path: str, *more: Any) -> Iterator[None]:
    """Let libraries load a model from the cache alone where the hub does not answer: they would
    ask for minutes. `more`: modules with a switch HF_HUB_OFFLINE of their own. A folder passes."""
    if Path(path).expanduser().is_dir() or hub_answers():
        yield
        return
    from huggingface_hub import constants  # noqa: PLC0415 - see above

    places: tuple[Any, ...] = (constants, *more)
    before = [place.HF_HUB_OFFLINE for place in places]
    for place in places:
        place.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


def _not_found(path: str) -> str | None:
    """What the hub says of an id that it does not have; None where loading will tell more."""
    from huggingface_hub import HfApi, errors  # noqa: PLC0415 - see above

    try:
        HfApi().model_info(path, timeout=HUB_SECONDS)
    except errors.GatedRepoError:  # a kind of the next one
        return None
    except errors.RepositoryNotFoundError:
        return "not found; a private one needs a token"
    except errors.HFValidationError:
        return "not the form of an id"
    # Any other answer: loading will tell of it.
    except Exception:  # noqa: BLE001
        return None
    return None


@lru_cache(maxsize=1)
def _answers(endpoint: str, period: int) -> bool:
    from huggingface_hub import get_session  # noqa: PLC0415 - see above

    try:
        # Proxies that reach nothing answer too, with 502 to 504.
        return bool(get_session().head(endpoint, timeout=PROBE_SECONDS).status_code < 500)
    except Exception:  # noqa: BLE001 - whatever the client raises, the cache is tried
        return False
