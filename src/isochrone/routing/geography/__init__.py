"""Where places and callers are: network time between two points, and which places a prompt may go to."""

from .geography import WORLD, Geography, allows, network
from .measured import RoundTrips
from .profiles import regions_of
from .regions import Point

__all__ = ["WORLD", "Geography", "Point", "RoundTrips", "allows", "network", "regions_of"]
