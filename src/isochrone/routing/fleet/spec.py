"""What a place of the fleet is built from; the types lie with the places, which build themselves from them."""

from isochrone.places.spec import ModelSpec, PlaceSpec

__all__ = ["ModelSpec", "PlaceSpec"]
