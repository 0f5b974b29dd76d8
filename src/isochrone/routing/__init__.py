"""Which place answers a request: the fleet, geography, the choice, its execution, and the simulator of all of it."""
