"""Who reads which block next: everything once, bound blocks at home, idle shards take over."""

from hypothesis import given
from hypothesis import strategies as st

from openal_ray.cluster.agenda import Agenda


@given(
    items=st.lists(st.tuples(st.sampled_from([None, 0, 1, 2]), st.integers(0, 9)), max_size=30),
    turns=st.lists(st.sampled_from([0, 1, 2]), max_size=60),
)
def test_everything_is_taken_once_and_what_is_bound_by_its_shard(
    items: list[tuple[int | None, int]], turns: list[int]
) -> None:
    agenda: Agenda[int] = Agenda()
    takers: dict[int, int] = {}  # of group 5 and above, of which nothing is bound
    for number, (shard, group) in enumerate(items):
        agenda.add(number, group, shard, bound=group < 5)
    taken: list[int] = []
    for shard in [*turns, *sorted([0, 1, 2] * len(items))]:
        found = agenda.take(shard)
        if found is not None:
            home, group = items[found]
            if group < 5 and home is not None:
                assert home == shard
            elif group >= 5:
                assert takers.setdefault(group, shard) == shard
            taken.append(found)
        assert agenda.waiting == len(items) - len(taken)
    assert sorted(taken) == list(range(len(items)))


def test_own_blocks_first_then_those_of_nobody_then_the_last_of_the_busiest() -> None:
    agenda: Agenda[str] = Agenda()
    for item, shard in [("a1", 1), ("b1", 2), ("b2", 2), ("b3", 2), ("free", None), ("mine", 0)]:
        agenda.add(item, item, shard)
    agenda.add("tied", "tied", 3, bound=True)
    assert agenda.movable == 6 and agenda.waiting == 7
    assert [agenda.take(0) for _ in range(3)] == ["mine", "free", "b3"]
    assert agenda.take(2) == "b1"
    assert agenda.drop(2) == ["b2"]  # it is lost, and what waited for it is asked for anew
    assert [agenda.take(0), agenda.take(0), agenda.take(3)] == ["a1", None, "tied"]


def test_whoever_takes_one_of_a_group_gets_all_of_it_until_it_is_lost() -> None:
    agenda: Agenda[str] = Agenda()
    for item, shard in [("a1", None), ("b1", 2), ("a2", 1), ("b2", 0), ("a3", None)]:
        agenda.add(item, item[0], shard)
    assert agenda.movable == 2 and agenda.waiting == 5
    assert [agenda.take(0), agenda.take(1), agenda.take(1), agenda.take(2)] == ["a1", "b1", "b2", None]
    agenda.add("a4", "a", 0, bound=True)
    assert agenda.movable == 0 and agenda.waiting == 3
    left = agenda.drop(0)
    assert left == ["a2", "a3", "a4"] and agenda.waiting == 0
    for item in ["a1", *left]:
        agenda.add(item, "a")
    assert [agenda.take(2) for _ in range(5)] == ["a1", "a2", "a3", "a4", None]
