"""What a model wants back is kept for as long as it is asked for, and never more than there is room for."""

from hypothesis import given
from hypothesis import strategies as st

from isochrone.places.remembered import Remembered

STEPS = st.lists(st.tuples(st.sampled_from(["put", "get"]), st.integers(0, 6)), max_size=40)


@given(STEPS, st.integers(1, 4))
def test_the_last_ones_touched_are_those_that_are_known(steps, num_max):
    held, touched = Remembered(num_max), []
    for number, (kind, key) in enumerate(steps):
        is_known = key in touched[-num_max:]
        if kind == "put":
            held.put(key, (key, number))
        else:
            value = held.get(key)
            assert (value is not None) == is_known
        if kind == "put" or is_known:
            touched = [*(other for other in touched if other != key), key]
        assert len(held) == min(num_max, len(touched))
