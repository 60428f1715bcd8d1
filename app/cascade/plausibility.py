"""What in a result should be looked at, told from the result and the anatomy alone."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.cascade.arrangement import UNLIKELY, better_turn, deviations, misfit
from app.cascade.norms import OrganNorm, read_norms
from app.cascade.proportions import UNLIKELY_STRETCH, find_stretch
from app.imaging.organ_placement import OrganPlacement
from app.labels import CLASS_NAMES, ORGANS, TUBES

VOLUME_ROOM = 1.25
"""How far beyond the 1st and 99th percentile a volume is still believed, as a factor."""

FAR_AWAY = 6.0
"""Spreads from its usual place at which an organ is out of place; below it lie 97 of 100 people."""

LEAST_SHARE = 0.85
"""Least share of an organ that its largest piece should hold."""

LEAST_CONFIDENCE = 0.9
"""Mean probability of an organ's own voxels below which it is often wrong, and hardly ever where it
is right."""

LEAST_LABELED = 0.6
"""Share of what phase one took for organs that phase two should label as one: 0.75 to 1.19 in 25
upright scans."""

MANY_ODD = 4
"""Organs odd in themselves that put the whole scan in doubt; two is the most in whole and cut
label maps of 42 people."""

_LEADS = {
    "not_found": "not found, though organs above and below were",
    "cut_by_field_of_view": "reaching the edge of the scan",
    "volume_low": "smaller than usual",
    "volume_high": "larger than usual",
    "fragmented": "in pieces",
    "piece_taken_back": "a further piece not believed",
    "out_of_place": "out of place",
    "low_confidence": "uncertain",
}
"""How a sentence about organs begins, by code."""

_SAID_ALREADY = frozenset({"not_found", "cut_by_field_of_view"})
"""Codes whose flags have nothing to add to that."""

_NOT_ODD = _SAID_ALREADY | {"low_confidence"}
"""Codes that do not count for `MANY_ODD`: sound scans, too, have absent, cut, uncertain organs."""

MM3_PER_ML = 1000

_LEAST_NEIGHBORS = 5
_MAY_BE_ABSENT = frozenset({"gallbladder"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One finding that a user should look at.

    Parameters
    ----------
    code : str
        For machines; docs/RELIABILITY.md lists them.
    organ : str or None
        The organ it is about; None for the whole scan.
    text : str
        For people.
    """

    code: str
    organ: str | None
    text: str


def judge(
    placements: Mapping[str, OrganPlacement], confidence: Mapping[str, float] | None = None
) -> list[Flag]:
    """Compare a result with the anatomy.

    Parameters
    ----------
    placements : mapping of str to OrganPlacement
        Organs found, in canonical orientation.
    confidence : mapping of str to float, optional
        Mean probability of each organ's own voxels, 0 to 1.

    Returns
    -------
    list of Flag
        Of the scan first, then organ by organ in the order of their values.
    """
    norms, places = read_norms(), deviations(placements)
    flags: list[Flag] = []
    for organ in ORGANS:
        placement = placements.get(organ.name)
        if placement is None:
            flags += _judge_absent(organ.name, placements)
            continue
        place = places.get(organ.name, (0.0, 0.0, 0.0))
        flags += _judge_organ(organ.name, placement, norms[organ.name], place)
        if confidence is not None:
            flags += _judge_confidence(organ.name, confidence.get(organ.name, 1.0))
    of_the_scan = list(_judge_scan(placements)) or list(_judge_together(flags))
    return of_the_scan + list(_judge_proportions(placements)) + flags


def judge_agreement(located_mm3: float, labeled_mm3: float) -> list[Flag]:
    """Doubt the whole scan where phase two labels little of what phase one took for organs.

    Parameters
    ----------
    located_mm3 : float
        What phase one took for organs, in mm³.
    labeled_mm3 : float
        What phase two labeled as any organ, in mm³.

    Returns
    -------
    list of Flag
        Empty if the two agree.
    """
    if labeled_mm3 >= LEAST_LABELED * located_mm3:
        return []
    return [
        Flag(
            code="little_labeled",
            organ=None,
            text=f"{labeled_mm3 / MM3_PER_ML:.0f} ml are labeled of "
            f"{located_mm3 / MM3_PER_ML:.0f} ml that were taken for organs at first; the scan may "
            "be turned against its header, or unlike those the networks know",
        )
    ]


def judge_pieces(doubtful_mm3: Mapping[int, float]) -> list[Flag]:
    """Tell of pieces that were taken back though they were no small part of an organ.

    Parameters
    ----------
    doubtful_mm3 : mapping of int to float
        Size of the largest such piece, in mm³, by label value.

    Returns
    -------
    list of Flag
        Organ by organ.
    """
    return [
        Flag(
            code="piece_taken_back",
            organ=CLASS_NAMES[value],
            text=f"{size_mm3 / MM3_PER_ML:.1f} ml",
        )
        for value, size_mm3 in doubtful_mm3.items()
    ]


def as_sentences(flags: list[Flag]) -> list[str]:
    """Put flags into words, one sentence for each code.

    Parameters
    ----------
    flags : list of Flag
        In the order in which they are to be told.

    Returns
    -------
    list of str
        Such as ``"smaller than usual: spleen (20.0 ml, usually at least 53.6)"``.
    """
    by_code: dict[str, list[Flag]] = {}
    for flag in flags:
        by_code.setdefault(flag.code, []).append(flag)
    return [_as_sentence(code, alike) for code, alike in by_code.items()]


def _as_sentence(code: str, alike: list[Flag]) -> str:
    if alike[0].organ is None:
        return alike[0].text
    names = [str(flag.organ).replace("_", " ") for flag in alike]
    if code in _SAID_ALREADY:
        return f"{_LEADS[code]}: {', '.join(names)}"
    told = [f"{name} ({flag.text})" for name, flag in zip(names, alike, strict=True)]
    return f"{_LEADS[code]}: {', '.join(told)}"


def _judge_scan(placements: Mapping[str, OrganPlacement]) -> Iterator[Flag]:
    odd = misfit(placements)
    if odd is None or odd <= UNLIKELY:
        return
    turn = better_turn(placements)
    if turn is not None:
        yield Flag(
            code=turn,
            organ=None,
            text="the organs lie as in a body turned this way; check the directions in the header",
        )
    told = math.ceil(100 * odd) / 100  # never the limit itself
    yield Flag(
        code="unlikely_arrangement",
        organ=None,
        text=f"the organs do not lie to one another as usual (misfit {told:.2f}, at most "
        f"{UNLIKELY} expected); the scan may be mirrored or turned against its header, "
        "or the labels wrong",
    )


def _judge_proportions(placements: Mapping[str, OrganPlacement]) -> Iterator[Flag]:
    """Doubt the distance between slices where the organs are all too tall or too flat."""
    stretch = find_stretch(placements)
    if stretch is not None and abs(stretch.deviation) > UNLIKELY_STRETCH:
        yield Flag(
            code="odd_proportions",
            organ=None,
            text=f"the organs are {stretch.factor:.1f} times as tall as usual for their width; "
            "check the distance between slices in the header",
        )


def _judge_together(flags: list[Flag]) -> Iterator[Flag]:
    """Doubt the whole scan where many of the organs found are odd, each in its own way."""
    odd = {flag.organ for flag in flags if flag.code not in _NOT_ODD}
    if len(odd) >= MANY_ODD:
        yield Flag(
            code="many_odd_organs",
            organ=None,
            text=f"{len(odd)} organs are odd in size, pieces or place; the scan may be "
            "mirrored or turned against its header, or unlike those the networks know",
        )


def _judge_confidence(name: str, probability: float) -> Iterator[Flag]:
    if probability < LEAST_CONFIDENCE:
        # Rounded down: to the nearest, 0.8996 would read as the limit itself.
        told = math.floor(1000 * probability) / 1000
        yield Flag(
            code="low_confidence",
            organ=name,
            text=f"mean probability {told:.3f}, usually at least {LEAST_CONFIDENCE:.1f}",
        )


def _apart(volume_ml: float, limit_ml: float, decimals: int) -> tuple[str, str]:
    """Write two volumes with as many decimals as tell them apart, and no more than 3 for that."""
    texts = f"{volume_ml:.{decimals}f}", f"{limit_ml:.{decimals}f}"
    if texts[0] == texts[1] and decimals < 3:
        return _apart(volume_ml, limit_ml, decimals + 1)
    return texts


def _judge_absent(name: str, placements: Mapping[str, OrganPlacement]) -> Iterator[Flag]:
    """Flag a missing organ where the scan goes beyond what surrounds it."""
    if name in _MAY_BE_ABSENT or len(placements) < _LEAST_NEIGHBORS:
        return
    norms = read_norms()
    height = norms[name].center_mm[0]
    whole = [
        norms[one].center_mm[0] for one, placement in placements.items() if not placement.cut[0]
    ]
    if whole and min(whole) <= height <= max(whole):
        yield Flag(code="not_found", organ=name, text="though organs above and below were")


def _judge_organ(
    name: str, placement: OrganPlacement, norm: OrganNorm, place: tuple[float, float, float]
) -> Iterator[Flag]:
    cut = placement.cut[1] or placement.cut[2] or (placement.cut[0] and name not in TUBES)
    least_ml, most_ml = norm.low_ml / VOLUME_ROOM, norm.high_ml * VOLUME_ROOM
    if cut:
        yield Flag(code="cut_by_field_of_view", organ=name, text="reaches the edge of the scan")
    if placement.volume_ml < least_ml and not any(placement.cut):
        yield Flag(
            code="volume_low",
            organ=name,
            text="{} ml, usually at least {}".format(*_apart(placement.volume_ml, least_ml, 1)),
        )
    if placement.volume_ml > most_ml:
        yield Flag(
            code="volume_high",
            organ=name,
            text="{} ml, usually at most {}".format(*_apart(placement.volume_ml, most_ml, 0)),
        )
    if placement.largest_share < LEAST_SHARE and not any(placement.cut):
        yield Flag(
            code="fragmented",
            organ=name,
            text=f"the largest piece holds {100 * placement.largest_share:.0f} %",
        )
    farthest = max(abs(along) for along in place)
    if farthest > FAR_AWAY:
        yield Flag(
            code="out_of_place",
            organ=name,
            text=f"{farthest:.0f} standard deviations from its usual place",
        )
