"""A world in which policies are compared: recorded traffic over fleets of nodes and clouds that slow down and fail."""
