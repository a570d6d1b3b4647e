"""Reading a network's inner feature maps, safe when threads share the network.

One permanent forward hook per stage, which does nothing until a call in its own context asks. Hooks added per call
raise or return another thread's maps; these were measured not to.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


class Reached(Exception):
    """The last wanted stage has been computed; the rest of the forward pass is not needed."""


class Sink:
    """Where one call's maps go. stop: the stage after which the forward pass may end. given: (stage, maps that it
    shall give in place of its own)."""

    def __init__(self, count: int, stop: int | None = None, given: tuple[int, Tensor] | None = None) -> None:
        self.maps: list[Any] = [None] * count
        self.stop = stop
        self.given = given


_sink: ContextVar[Sink | None] = ContextVar("sink", default=None)


@dataclass(frozen=True)
class Capture:
    """The hook. Holds numbers only, so a network with hooks can be copied, pickled and sent to other processes.

    element: which part of a module that returns several maps. clone: the next layer writes into this map.
    """

    index: int
    element: int | None = None
    clone: bool = False

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        """What the module shall give instead, or None: what it gave."""
        sink = _sink.get()
        if sink is None:
            return None
        if sink.given and sink.given[0] == self.index:
            return self._replaced(output, sink.given[1])
        value = output if self.element is None else output[self.element]
        sink.maps[self.index] = value.clone() if self.clone else value
        if self.index == sink.stop:
            raise Reached
        return None

    def _replaced(self, output: Any, maps: Tensor) -> Any:
        if self.element is None:
            return maps
        parts = list(output)
        parts[self.element] = maps
        return type(output)(parts)


def capture(run: Callable[[Tensor], Any], images: Tensor, count: int, stop: int | None = None,
            given: tuple[int, Tensor] | None = None) -> tuple[Any, list[Any]]:
    """(result of `run(images)`, the `count` captured outputs); the result is None where it stopped early.

    given: (stage, maps) that the stage gives in place of its own, which are then not captured.
    """
    sink = Sink(count, stop, given)
    token = _sink.set(sink)
    try:
        return run(images), sink.maps
    except Reached:
        return None, sink.maps
    finally:
        _sink.reset(token)
