"""From a configuration to its network."""

from torch import nn

from app.config import PhaseConfig
from app.models.locator import Locator
from app.models.segmenter import Segmenter

NETWORKS: dict[str, type[Locator] | type[Segmenter]] = {"locate": Locator, "segment": Segmenter}


def build_network(config: PhaseConfig) -> nn.Module:
    """Build the untrained network of a phase."""
    return NETWORKS[config.name](config)
