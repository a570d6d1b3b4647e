"""Registry of named members, filled by a decorator."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from kd.errors import unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """Mapping of names to members; an unknown name raises UsageError with the nearest known one."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._members: dict[str, T] = {}

    def add(self, name: str) -> Callable[[T], T]:
        """Decorator: register the decorated object under `name`."""

        def register(member: T) -> T:
            if name in self._members:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._members[name] = member
            return member

        return register

    def __getitem__(self, name: str) -> T:
        """The member called `name`. Raises UsageError if there is none."""
        if not isinstance(name, str) or name not in self._members:
            raise unknown(self.kind, name, self._members)
        return self._members[name]

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)
