"""The simulator's world, for testing your own policies: its clock, nodes, clouds, fleets and runs."""

from isochrone.routing.simulate.clock import SimulatedClock
from isochrone.routing.simulate.cloud import Cloud, CloudSpec
from isochrone.routing.simulate.measures import Measures, measure
from isochrone.routing.simulate.node import Job, Node, NodeSpec
from isochrone.routing.simulate.places import PlaceSpec
from isochrone.routing.simulate.trace import Arrival
from isochrone.routing.simulate.world import Picked, SimulatedPolicy, World

__all__ = [
    "SimulatedClock", "Cloud", "CloudSpec", "Node", "NodeSpec", "Job", "PlaceSpec", "Arrival", "World", "Picked",
    "SimulatedPolicy", "Measures", "measure",
]  # fmt: skip
