"""Room in a cluster, node by node, worked out by hand."""

import pytest

from openal_ray.cluster.room import request, room

SMALL = {"CPU": 2.0, "GPU": 0.0}
LARGE = {"CPU": 8.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("nodes", "shard", "trainers", "expected"),
    [
        ([SMALL, SMALL], {"CPU": 1.5}, [], 2),  # four CPUs, but one shard a node
        ([SMALL, LARGE], {"CPU": 1, "GPU": 0.5}, [], 4),  # two a card
        ([SMALL, LARGE], {"CPU": 1, "GPU": 0.5}, [{"CPU": 1, "GPU": 1}], 2),
        ([SMALL, LARGE], {"CPU": 1, "GPU": 0}, [{"CPU": 1, "GPU": 0}], 9),  # the trainer goes to the small node
        ([SMALL, LARGE], {"CPU": 2}, [{"CPU": 2}, {"CPU": 2}], 3),
        ([SMALL], {"CPU": 1}, [{"CPU": 4}], 2),  # there is no such place; Ray Train waits for it
        ([{"CPU": 8, "memory": 900}, {"CPU": 8}], {"CPU": 1, "memory": 400}, [], 10),  # 2, and 8 where nobody knows
        ([], {"CPU": 1}, [], 0),
    ],
)
def test_room(nodes: list, shard: dict, trainers: list, expected: int) -> None:
    assert room(nodes, shard, trainers) == expected
    assert LARGE == {"CPU": 8.0, "GPU": 2.0}  # the caller's stays


def test_requests_are_in_whole_numbers() -> None:
    assert request(3, {"CPU": 1.5, "GPU": 0.0}) == [{"CPU": 2}] * 3
    assert request(3, {"CPU": 0.5, "GPU": 0.0}) == [{"CPU": 1}] * 2
    assert request(4, {"CPU": 2.0, "GPU": 0.25}) == [{"CPU": 2}] * 4 + [{"GPU": 1}]
    assert request(4, {"CPU": 0.0, "GPU": 0.0}) == []
