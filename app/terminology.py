"""What each organ is called in SNOMED CT, as DICOM writes it (PS3.16, CID 7192 and CID 244).

Paired organs are the organ with a laterality beside it, as the standard's segmentation
context groups have no code of their own for one side.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Code(NamedTuple):
    """A SNOMED CT concept.

    Parameters
    ----------
    value : str
        Concept identifier.
    meaning : str
        Its name in DICOM.
    """

    value: str
    meaning: str


SCHEME = "SCT"
"""How DICOM designates SNOMED CT."""

ANATOMICAL_STRUCTURE = Code("91723000", "Anatomical Structure")
"""Category of all organs (PS3.16, CID 7150)."""

LEFT = Code("7771000", "Left")
RIGHT = Code("24028007", "Right")


@dataclass(frozen=True, slots=True)
class Term:
    """An organ in standard words.

    Parameters
    ----------
    organ : Code
        The organ.
    side : Code or None
        Which of two, for paired organs.
    """

    organ: Code
    side: Code | None = None

    @property
    def codes(self) -> tuple[Code, ...]:
        """The organ's code, followed by its side's for paired organs."""
        return (self.organ,) if self.side is None else (self.organ, self.side)

    @property
    def label(self) -> str:
        """Name for people, such as ``"Right kidney"``."""
        if self.side is None:
            return self.organ.meaning
        return f"{self.side.meaning} {self.organ.meaning.lower()}"


_KIDNEY = Code("64033007", "Kidney")
_ADRENAL_GLAND = Code("23451007", "Adrenal gland")

TERMS: dict[int, Term] = {
    1: Term(Code("10200004", "Liver")),
    2: Term(_KIDNEY, RIGHT),
    3: Term(Code("78961009", "Spleen")),
    4: Term(Code("15776009", "Pancreas")),
    5: Term(Code("15825003", "Aorta")),
    6: Term(Code("64131007", "Inferior vena cava")),
    7: Term(_ADRENAL_GLAND, RIGHT),
    8: Term(_ADRENAL_GLAND, LEFT),
    9: Term(Code("28231008", "Gallbladder")),
    10: Term(Code("32849002", "Esophagus")),
    11: Term(Code("69695003", "Stomach")),
    12: Term(Code("38848004", "Duodenum")),
    13: Term(_KIDNEY, LEFT),
}
"""By label value."""
