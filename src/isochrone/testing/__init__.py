"""Shipped for tests and demonstrations: a runtime without a model, scripted places, test clouds, wires with delays."""
