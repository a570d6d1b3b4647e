"""Whether a map's grid is fine enough to say where something is."""

from collections.abc import Iterable, Sequence

COARSE = 3  # cells a side: every cell is a third of the image, and most of the nine touch its border


def is_coarse(grid: Sequence[int]) -> bool:
    """Whether a map of (rows, columns) cells is too coarse to tell where."""
    return min(grid) <= COARSE


def coarse_note(grids: Iterable[tuple[str, Sequence[int]]]) -> str:
    """A sentence on the maps that are too coarse to tell where, by what they are called; empty where none is.

    grids: (name, (rows, columns)) of every map that is shown. Names are grouped by grid.
    """
    found: dict[str, list[str]] = {}
    for name, grid in grids:
        if is_coarse(grid):
            names = found.setdefault("×".join(map(str, grid)), [])
            names += [name] * (name not in names)
    parts = [f"{listed(names)}: {cells} cells: too coarse to tell where" for cells, names in found.items()]
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([*filter(None, [", ".join(names[:-1])]), names[-1]])
