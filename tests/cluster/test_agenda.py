"""Who reads which block next: everything once, bound blocks at home, idle shards take over."""

from hypothesis import given
from hypothesis import strategies as st

from openal_ray.cluster.agenda import Agenda


@given(
    items=st.lists(st.tuples(st.sampled_from([None, 0, 1, 2]), st.booleans()), max_size=30),
    turns=st.lists(st.sampled_from([0, 1, 2]), max_size=60),
)
def test_everything_is_taken_once_and_what_is_bound_by_its_shard(
    items: list[tuple[int | None, bool]], turns: list[int]
) -> None:
    agenda: Agenda[int] = Agenda()
    for number, (shard, bound) in enumerate(items):
        agenda.add(number, shard, bound)
    taken: list[int] = []
    for shard in [*turns, *sorted([0, 1, 2] * len(items))]:
        found = agenda.take(shard)
        if found is not None:
            home, bound = items[found]
            assert home in (None, shard) or not bound
            taken.append(found)
        assert agenda.waiting == len(items) - len(taken)
    assert sorted(taken) == list(range(len(items)))


def test_own_blocks_first_then_those_of_nobody_then_the_last_of_the_busiest() -> None:
    agenda: Agenda[str] = Agenda()
    for item, shard in [("a1", 1), ("b1", 2), ("b2", 2), ("b3", 2), ("free", None), ("mine", 0)]:
        agenda.add(item, shard)
    agenda.add("tied", 3, bound=True)
    assert agenda.movable == 6 and agenda.waiting == 7
    assert [agenda.take(0) for _ in range(3)] == ["mine", "free", "b3"]
    assert agenda.take(2) == "b1"
    agenda.drop(2)  # it is lost, and what waited for it is asked for anew
    assert [agenda.take(0), agenda.take(0), agenda.take(3)] == ["a1", None, "tied"]
