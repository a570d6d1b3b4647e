"""Numbers in words: counts, durations, sizes and shares, as pages, reports and tables have them."""


def count(number: float | None) -> str:
    """Parameters, FLOPs, images: `38.6 M`, `394 k`; in full below ten thousand; a dash where unknown."""
    if number is None:
        return "–"
    for least, unit, scale in ((1e12, "T", 1e12), (1e9, "G", 1e9), (1e6, "M", 1e6), (1e4, "k", 1e3)):
        if abs(number) >= least:
            return f"{number / scale:.3g} {unit}"
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:.3g}"


def duration(seconds: float | None) -> str:
    """`0.8 s`, `42 s`, `3 min 20 s`, `2 h 5 min`; a dash where unknown."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole < 600 and whole % 60 else "")
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(number: float | None) -> str:
    """Bytes on disk: `3.2 MB`."""
    if number is None:
        return "–"
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return f"{number:.0f} B"


def percent(share: float | None) -> str:
    """`97.5 %` of a share in 0..1."""
    return "–" if share is None else f"{share * 100:.1f} %"
