"""Constructor arguments of the pool's actors, by value.

Ray keeps an argument that is given by value with the actor, and a restart finds it there. Ray Data
puts its arguments into the object store instead and gives references. Ray then warns that a restart
fails once the objects are lost (github.com/ray-project/ray/issues/53727), with a red line in every
run. A handle of an actor that is not detached is such a reference too: workers get the ledger by
its name.

Uses inner classes of Ray, as `block_stream` does.
"""

from __future__ import annotations

from typing import Any

from ray.data._internal.execution.operators.actor_pool_map_operator import ActorPoolMapOperator


def by_value(operator: Any) -> Any:
    """A physical operator of Ray Data; a pool of actors gives them their arguments by value."""
    if type(operator) is ActorPoolMapOperator:
        # Ray makes the operator in a factory that takes no class, and has bound its method.
        operator.__class__ = _Pool
        operator._actor_pool._create_actor_fn = operator._start_actor
    return operator


class _Pool(ActorPoolMapOperator):  # type: ignore[misc]
    """A pool whose actors can be restarted whatever happens to the object store."""

    _in_constructor = False

    def _start_actor(self, *arguments: Any) -> Any:
        self._in_constructor = True
        try:
            return super()._start_actor(*arguments)
        finally:
            self._in_constructor = False

    @property
    def _map_transformer_ref(self) -> Any:
        # Constructors alone use it.
        return self._map_transformer

    @property
    def _data_context_ref(self) -> Any:
        # Each task gets it too, and there a reference costs less.
        return self.data_context if self._in_constructor else super()._data_context_ref
