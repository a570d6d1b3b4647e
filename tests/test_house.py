"""Settings that nobody sees until they are wrong: contrasts of the themes, options of Streamlit, pinned packages."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from distribution import WAITING
from streamlit import config

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
WHITE = "#ffffff"
# Streamlit draws captions in the text's colour at this opacity.
FADED = 0.6


def channels(colour: str) -> list[float]:
    return [int(colour[start:start + 2], 16) / 255 for start in (1, 3, 5)]


def luminance(rgb: list[float]) -> float:
    """Relative luminance (WCAG 2.2) of sRGB channels in 0..1."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(front: str, back: str, opacity: float = 1.0) -> float:
    """Contrast ratio 1..21 of `front`, at this opacity, on `back`."""
    mixed = [opacity * f + (1 - opacity) * b for f, b in zip(channels(front), channels(back), strict=True)]
    low, high = sorted((luminance(mixed), luminance(channels(back))))
    return (high + 0.05) / (low + 0.05)


def grounds(theme: dict) -> list[str]:
    names = ("backgroundColor", "secondaryBackgroundColor")
    return [part[name] for part in (theme, theme["sidebar"]) for name in names]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_contrasts_meet_wcag_aa(mode: str):
    theme = SETTINGS["theme"][mode]
    for ground in grounds(theme):
        assert contrast(theme["textColor"], ground) >= 7, ground
        assert contrast(theme["textColor"], ground, FADED) >= 4.5, f"captions on {ground}"
        assert contrast(theme["linkColor"], ground) >= 4.5, ground
        assert contrast(theme["primaryColor"], ground) >= 3, ground
    for colour in (theme["borderColor"], *theme["chartCategoricalColors"]):
        assert contrast(colour, theme["backgroundColor"]) >= 3, colour
    assert contrast(WHITE, theme["primaryColor"]) >= 4.5, "writing on the main button"
    assert contrast(theme["dataframeHeaderTextColor"], theme["dataframeHeaderBackgroundColor"]) >= 4.5


def options(values: dict, prefix: str = "") -> list[str]:
    return [name for key, value in values.items()
            for name in (options(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key])]


def test_streamlit_knows_every_option():
    unknown = set(options(SETTINGS)) - set(config.get_config_options())
    assert not unknown, f"a hidden option may have vanished: {unknown}"


def test_server_is_private_by_default():
    assert SETTINGS["server"]["address"] == "127.0.0.1"
    assert not SETTINGS["browser"]["gatherUsageStats"]
    assert SETTINGS["client"]["showErrorDetails"] == "type"


def test_packages_are_pinned_and_these_are_the_ones_under_test():
    lines = [line.split("#")[0].strip() for name in ("requirements.txt", "requirements-dev.txt")
             for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    wanted = [line for line in lines if line and not line.startswith("-r")]
    assert len(wanted) > 15
    for line in wanted:
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9.]+", line), f"not pinned: {line}"
        name, pinned = line.split("==")
        assert version(name).split("+")[0] == pinned, f"{name}: run make test, which installs what is pinned"


def test_what_waits_for_other_processes_is_where_the_distribution_of_tests_expects_it():
    assert all((ROOT / name).exists() for name in WAITING)
