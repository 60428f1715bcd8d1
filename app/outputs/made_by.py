"""Who drew a label map: a program, a person, or one after the other."""

from enum import Enum


class MadeBy(Enum):
    """By the names that users give them."""

    NETWORK = "network"
    CORRECTED = "corrected"
    HAND = "hand"

    @property
    def algorithm_type(self) -> str:
        """DICOM's word (PS3.3, Segment Algorithm Type).

        A segment is calculated, calculated with the help of a user, or entered by one.
        """
        return {"network": "AUTOMATIC", "corrected": "SEMIAUTOMATIC", "hand": "MANUAL"}[self.value]

    @property
    def described(self) -> str:
        """A line for people; 64 letters at most, as DICOM has room for."""
        how = {
            "network": "found by a network",
            "corrected": "found by a network, corrected",
            "hand": "drawn by hand",
        }
        return f"Abdominal organs {how[self.value]}; research only"
