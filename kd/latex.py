r"""Tables as LaTeX with the rules of booktabs, every text escaped."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_ESCAPED = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "\n": " ",
    "−": "$-$", "±": r"$\pm$", "×": r"$\times$", "÷": r"$\div$", "·": r"$\cdot$", "→": r"$\to$", "↓": r"$\downarrow$",
    "≤": r"$\leq$", "≥": r"$\geq$", "–": "--", "…": r"\dots{}", "α": r"$\alpha$", "β": r"$\beta$", "σ": r"$\sigma$",
    "²": r"$^2$", "\u00a0": "~", "\u2011": "-", "\u2060": "", "✓": "", "⚠": "(!)"}
NOTICE = "Not for clinical use."


def escape(text: str) -> str:
    """The text as LaTeX prints it, with no command in it."""
    return "".join(_ESCAPED.get(letter, letter) for letter in text)


def as_latex(parts: Sequence[Sequence[Mapping[str, Any]]] | Sequence[Mapping[str, Any]], caption: str = "") -> str:
    """A table with a line for each mapping, all of the same columns; of several parts each has its own head.

    The first column is set to the left, the others to the right. Where there is no line, the table is a comment.
    """
    tables = [lines for lines in ([parts] if parts and isinstance(parts[0], Mapping) else parts) if lines]
    body = "\n\n".join(_tabular(lines) for lines in tables)  # type: ignore[arg-type]
    head = f"% Needs \\usepackage{{booktabs}}. {NOTICE}\n"
    return f"{head}\\begin{{table}}\n\\centering\n\\caption{{{escape(_noticed(caption))}}}\n{body}\n" \
           "\\end{table}\n" if tables else f"{head}% There is nothing in this table.\n"


def _noticed(caption: str) -> str:
    return caption if NOTICE in caption else f"{caption} {NOTICE}".strip()


def _tabular(lines: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for line in lines for name in line))
    rows = [_row([line.get(name) for name in columns]) for line in lines]
    return "\n".join([f"\\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}", "\\toprule", _row(columns), "\\midrule",
                      *rows, "\\bottomrule", "\\end{tabular}"])


def _row(cells: Sequence[Any]) -> str:
    return " & ".join("" if cell is None else escape(str(cell)) for cell in cells) + r" \\"


def is_latex(file: str | Path) -> bool:
    """Whether a table goes into a file of this name as LaTeX."""
    return Path(file).suffix.lower() == ".tex"
