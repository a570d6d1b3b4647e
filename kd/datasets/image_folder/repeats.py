"""The same classes in several folders: editions of a set side by side, or a set once more inside itself."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from kd.datasets.image_folder import names
from kd.errors import UsageError


class WhichFolder(UsageError):
    """A set that can be read in several ways. choices: the folders, below the set's root, one of which is meant."""

    def __init__(self, message: str, choices: tuple[str, ...]) -> None:
        super().__init__(message)
        self.choices = choices


def require_one_edition(where: str, tops: Sequence[str], named: Mapping[str, str],
                        images: Mapping[str, Sequence[str]]) -> list[str]:
    """Warnings on folders that hold the same class folders and are left out or taken as one class each.

    images: pieces of each image's path below the root. Raises WhichFolder where one of them has to be chosen.
    """
    children: dict[str, dict[str, str]] = defaultdict(dict)  # names as written, by their small letters
    counts: Counter[str] = Counter()
    direct: set[str] = set()
    for pieces in images.values():
        counts[pieces[0]] += len(pieces) > 1
        if len(pieces) > 2 and not names.is_neutral(pieces[1]):
            children[pieces[0]][_plain(pieces[1])] = pieces[1]
        elif len(pieces) == 2:
            direct.add(pieces[0])
    if named:
        again = [top for top in tops if top not in named and len(children[top].keys() & set(map(_plain, named))) > 1]
        return [f"The folder {names.printable(top)} holds the same folders once more, {counts[top]} images, and is "
                "left out." for top in again]
    _require_no_repeat(where, tops, children, counts)
    return _editions(where, [top for top in tops if top not in direct], children, counts)


def _plain(name: str) -> str:
    return names.composed(name).lower()


def _require_no_repeat(where: str, tops: Sequence[str], children: Mapping[str, Mapping[str, str]],
                       counts: Mapping[str, int]) -> None:
    for top in tops:
        others = [other for other in tops if other != top]
        if len(others) > 1 and set(map(_plain, others)) <= children.get(top, {}).keys():
            inner, outer = counts[top], sum(counts[other] for other in others)
            raise WhichFolder(f"{where} holds the classes {_list(others)} twice: {outer} images in the folder itself "
                              f"and {inner} in {names.printable(top)}. Choose {names.printable(top)}, or import the "
                              f"set without it (kd import … --without {names.printable(top)!r}).", (top,))


def _editions(where: str, tops: Sequence[str], children: Mapping[str, Mapping[str, str]],
              counts: Mapping[str, int]) -> list[str]:
    alike = [top for top in tops if len(children.get(top, ())) > 1 and children[top].keys() == children[tops[0]].keys()]
    if len(alike) < 2:
        return []
    inside = sorted(children[tops[0]].values())
    if any(map(names.is_edition, alike)) and not all(map(names.is_patient, inside)):
        found = ", ".join(f"{names.printable(top)} ({counts[top]} images)" for top in alike)
        raise WhichFolder(f"{where} holds the classes {_list(inside)} several times: {found}. They are editions of one "
                          "set, and images of one may be copies of another's: choose one.", tuple(alike))
    if all(map(names.is_patient, inside)):
        return []
    return [f"The classes {_list(alike)} each hold the folders {_list(inside)}: these are taken as kinds of image, not "
            "as classes. If they are the classes, open one of the folders above them."]


def _list(found: Sequence[str]) -> str:
    some = [names.printable(name) for name in found[:4]]
    return ", ".join(some) + (" …" if len(found) > 4 else "")
