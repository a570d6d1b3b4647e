"""Record of the engine that answers for a frozen model: part of the key of kept outputs, and of a run."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from kd.store.runs import Run

EVENT = "engine"
TORCH, OPENVINO = "torch", "openvino"
NAMES = {TORCH: "torch", OPENVINO: "OpenVINO"}
PARTS = {"teacher_cache": "Teacher outputs", "frozen_features": "Features of frozen stages",
         "predictions": "Predictions"}  # of a run, by the name under which its engine is logged


@dataclass(frozen=True)
class EngineRecord:
    """An engine. engine: torch or openvino. version: of that package. precision: that it computes in. reason: why it
    was taken, or not another, in words."""

    engine: str
    version: str
    precision: str
    reason: str = ""

    @property
    def key(self) -> dict[str, str]:
        """Part of the key of its outputs. Of torch none: its version and precision have always been in the key."""
        return {} if self.engine == TORCH else {"engine": f"{self.engine} {self.version} {self.precision}"}

    def same_as(self, other: "EngineRecord") -> bool:
        """Whether both compute the same numbers."""
        return (self.engine, self.version, self.precision) == (other.engine, other.version, other.precision)

    def __str__(self) -> str:
        return f"{NAMES.get(self.engine, self.engine)} {self.version} in {self.precision}"

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def recorded(run: Run, part: str) -> EngineRecord | None:
    """The engine that a run last logged for one of its parts; None where it has logged none."""
    return _latest(run.events()).get(part)


def engines_used(run: Run) -> dict[str, EngineRecord]:
    """The engines that a run last logged, by the part that they answered for."""
    return _latest(run.events())


def lines(run: Run) -> list[str]:
    """The engines of a run in words, `Teacher outputs by OpenVINO 2026.4.1 in bf16: 2.14 times as fast as torch`."""
    return [f"{PARTS.get(part, part)} by {record}" + (f": {record.reason}" if record.reason else "") + "."
            for part, record in engines_used(run).items()]


def _latest(events: Iterable[dict[str, Any]]) -> dict[str, EngineRecord]:
    names = [field.name for field in fields(EngineRecord)]
    return {event["part"]: EngineRecord(*(event.get(name, "") for name in names)) for event in events
            if event["event"] == EVENT}
