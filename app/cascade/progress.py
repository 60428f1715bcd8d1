"""Who is told how far a scan has come."""

from typing import Protocol


class Observer(Protocol):
    """Is told when a step begins and, in the steps that run a network, after each patch."""

    def __call__(self, step: str, fraction: float) -> None:
        """Take notice.

        Parameters
        ----------
        step : str
            ``"read"``, ``"locate"``, ``"segment"``, ``"restore"``, ``"write"`` and the like.
        fraction : float
            Share of the step that is done, 0 to 1.
        """


def nobody(step: str, fraction: float) -> None:
    """Take no notice: the observer where none is asked for."""
