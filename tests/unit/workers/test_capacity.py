"""How many trials train at once: twice as many, as long as it pays."""

from search.workers.capacity import ROUNDS, STEPS, WORTH, Capacity


def measured(capacity, seconds, steps):
    for _ in range(steps):
        capacity.measure(capacity.count, seconds(capacity.count))


def test_the_count_doubles_while_it_pays_and_goes_back_to_where_it_did():
    capacity = Capacity(None)
    measured(capacity, lambda count: max(1.0, count / 4), 4 * STEPS)  # four at once cost as much as one
    assert capacity.count == 4


def test_a_pack_that_is_not_full_says_nothing():
    capacity = Capacity(None)
    measured(capacity, lambda _: 1.0, STEPS)
    for _ in range(10 * STEPS):
        capacity.measure(1, 0.1)
    assert capacity.count == 2


def test_a_gpu_is_measured_over_steps_that_end_with_a_wait_and_not_while_it_makes_kernels():
    capacity = Capacity(None, together=16)
    started = {1: 0.001, 2: 0.001}
    waited = {1: 0.1, 2: 2 * 0.1 / WORTH + 0.1}  # twice as many take more than twice as long
    for count in (1, 2):
        for _ in range(16):
            capacity.measure(count, 5.0)
        for _ in range(ROUNDS - 1):
            for _ in range(15):
                capacity.measure(count, started[count])
            capacity.measure(count, waited[count])
    assert capacity.count == 1


def test_what_memory_did_not_allow_is_not_tried_again():
    capacity = Capacity(None)
    measured(capacity, lambda _: 1.0, 3 * STEPS)
    capacity.limit(5)
    measured(capacity, lambda _: 1.0, 10 * STEPS)
    assert capacity.count == 5


def test_a_count_that_the_user_gave_stays():
    capacity = Capacity(3)
    measured(capacity, lambda _: 1.0, 10 * STEPS)
    assert capacity.count == 3
