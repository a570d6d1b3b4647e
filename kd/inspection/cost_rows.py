"""Times and costs of a comparison as a table: a line for each model's forward pass and each of its maps."""

from dataclasses import dataclass
from typing import Any

from kd.explainers import EXPLAINERS
from kd.inspection.compare import Comparison, ModelPanel
from kd.inspection.explain import Explanation
from kd.timing import Timing
from kd.wording import count


@dataclass(frozen=True)
class CostRow:
    """One line. what: forward, or the title of an explainer. ratio: to the model's forward pass. flops: of a forward
    pass; None on other lines."""

    role: str
    model: str
    what: str
    timing: Timing
    ratio: float
    flops: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, times in seconds."""
        return {"role": self.role, "model": self.model, "what": self.what, "median": self.timing.median,
                "low": self.timing.low, "high": self.timing.high, "n": self.timing.n, "times_forward": self.ratio,
                "flops": self.flops}

    def words(self) -> dict[str, str]:
        """The line in words."""
        low, median, high = (plainly(seconds * 1e3) for seconds in (self.timing.low, self.timing.median,
                                                                    self.timing.high))
        ratio = "1" if self.flops is not None else f"{self.ratio:.2f}" if self.ratio < 10 else plainly(self.ratio)
        return {"": f"{self.role.capitalize()} · {self.what}", "Median": f"{median} ms",
                "Spread (ms)": f"{low}–{high}" if self.timing.n > 1 else "", "n": str(self.timing.n),
                "× forward": ratio, "FLOPs": "" if self.flops is None else count(self.flops)}


def cost_rows(comparison: Comparison) -> list[CostRow]:
    """The lines of all models, in the comparison's order."""
    return [row for part in comparison.panels for row in _of_panel(part)]


def _of_panel(part: ModelPanel) -> list[CostRow]:
    one = part.explanation
    maps = [_row(part, each, EXPLAINERS[each.explainer].info.title) for each in part.main_maps]
    stages = [_row(part, part.stage_maps, "stage maps")] if part.stage_maps else []
    return [CostRow(part.role, part.label, "forward", one.forward, 1.0, one.flops), *maps, *stages]


def _row(part: ModelPanel, one: Explanation, title: str) -> CostRow:
    return CostRow(part.role, part.label, title, one.timing, one.ratio)


def plainly(number: float) -> str:
    """Three figures, never as a power of ten."""
    return f"{number:.3g}" if abs(number) < 999.5 else f"{number:,.0f}"
