"""Template of a report: from its content to one HTML page that needs no network and no script."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template

SECTIONS = {"answer": "The answer", "asked": "What was asked", "data": "Can the data be believed?", "scores": "Scores",
            "training": "Training", "cost": "Cost", "maps": "Where the models look",
            "failures": "Failures worth seeing", "settings": "Settings", "again": "How to reproduce it",
            "words": "Words in this report"}
WORDS = (
    ("Accuracy", "Share of the test images that are classified correctly."),
    ("Macro-F1", "F1 score (which counts missed and wrongly claimed images) of each class, averaged over the classes, "
                 "so that rare classes weigh as much as common ones."),
    ("AUROC", "How well the probabilities rank images of a class above the others: 0.5 is random, 1 is perfect."),
    ("NLL", "Cross-entropy with the true class, in nats: small where the true class gets a high probability."),
    ("ECE", "Expected calibration error: the mean distance between confidence and accuracy. A model of 90 % confidence "
            "and 90 % accuracy has 0."),
    ("Interval", "95 % of such intervals contain the value that infinitely many test images would give. A difference "
                 "whose interval excludes 0 is called significant. It says nothing of images of another source."),
    ("Baseline", "What is reached without any skill: a score means something only beyond it."),
    ("Seed", "Number from which initial weights and the order of the images are drawn. Another seed gives another "
             "result with the same settings; ± is the standard deviation over seeds."),
    ("Points", "Percentage points: from 80 % to 85 % are 5 points."),
    ("Distillation", "Training a network on the answers of another, its teacher, besides the labels."),
    ("8-bit", "The student with its numbers rounded to 8 bits, which is smaller and may be faster."))


def render(content: dict[str, Any]) -> str:
    """The page. content: what the template names, in plain values; all text is escaped, and only charts are not."""
    text = _template().render(names=SECTIONS, sections=SECTIONS.items(), words=WORDS, **content)
    return text.strip() + "\n"


@lru_cache
def _template() -> "Template":
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["first_large"] = lambda text: text[:1].upper() + text[1:]
    return environment.from_string(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
