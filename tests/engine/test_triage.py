"""No other choice lets more prompts begin in time."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from isochrone.engine.triage import Job, choose_late

NOW = 10.0
jobs = st.lists(
    st.builds(Job, st.just(0), st.integers(1, 9).map(float), st.integers(8, 40).map(float)), max_size=7
).map(lambda found: [Job(id, job.work_s, job.due_at) for id, job in enumerate(found)])


def all_in_time(chosen):
    at = NOW
    for job in sorted(chosen, key=lambda job: job.due_at):
        at += job.work_s
        if at > job.due_at:
            return False
    return True


@given(jobs)
def test_who_is_kept_is_in_time_and_nobody_can_keep_more(found):
    late = set(choose_late(found, NOW))
    kept = [job for job in found if job.id not in late]
    assert all_in_time(kept)
    assert not any(all_in_time(more) for more in combinations(found, len(kept) + 1))


@given(jobs)
def test_the_choice_does_not_depend_on_the_order_of_the_list(found):
    assert choose_late(found, NOW) == choose_late(reversed(found), NOW)


def test_the_longest_is_put_off_and_not_the_one_at_the_end():
    queue = [Job(1, 9.0, NOW + 9), *(Job(id, 1.0, NOW + 9 + id / 10) for id in range(2, 6))]
    assert choose_late(queue, NOW) == (1,)
