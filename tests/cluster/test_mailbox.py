"""The mailbox without Ray: what the driver hears of a job's epochs, in order and once."""

import asyncio

from openal_ray.cluster.mailbox import Mailbox
from openal_ray.training.job import Epoch


def epochs(*numbers: int) -> list[Epoch]:
    return [Epoch(number, 20, 1.0, 0.5, 1.0, 0.5, 0.1) for number in numbers]


def test_a_job_that_goes_on_from_an_earlier_process_is_followed() -> None:
    async def drive() -> None:
        box = Mailbox()
        await box.epochs_done(0, epochs(7, 8))
        assert (await box.follow(0, 0, 1.0)) == (epochs(7, 8), None)
        assert (await box.follow(0, 9, 0.01)) == ([], None)
        await box.epochs_done(0, epochs(9))
        assert (await box.follow(0, 9, 1.0)) == (epochs(9), None)

    asyncio.run(drive())


def test_epochs_that_a_restarted_group_tells_again_are_heard_once() -> None:
    async def drive() -> None:
        box = Mailbox()
        await box.epochs_done(0, epochs(0, 1, 2, 3))
        await box.epochs_done(0, epochs(2, 3))
        assert (await box.follow(0, 0, 1.0))[0] == epochs(0, 1, 2, 3)
        await box.epochs_done(0, epochs(4))
        assert (await box.follow(0, 4, 1.0))[0] == epochs(4)
        await box.finish(0, "done")
        assert (await box.follow(0, 5, 1.0)) == ([], "done")

    asyncio.run(drive())
