"""Is a run that was disturbed the run that it would have been?"""

import csv
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from openal_ray import runs


def undisturbed(folder: Path, values: Mapping[str, Any]) -> bytes:
    """selections.csv of the same experiment, run in this process to its end."""
    configuration = runs.as_config({**values, "cluster": {"use": "local"}, "out": str(folder)})
    return (runs.run(configuration).folder / "selections.csv").read_bytes()


def differences(folder: Path, expected: bytes) -> str:
    """What is wrong with a run's selections: others than expected, an image asked twice, no table; empty if right."""
    table = folder / "selections.csv"
    if not table.exists():
        return f"{table} is not there"
    found = table.read_bytes()
    asked = [row["index"] for row in csv.DictReader(StringIO(found.decode()))]
    wrong = [] if found == expected else ["the selections are not those of the undisturbed run"]
    wrong += [] if len(set(asked)) == len(asked) else [f"{len(asked) - len(set(asked))} images were asked twice"]
    return "; ".join(wrong)
