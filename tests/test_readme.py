"""What README.md says is what there is."""

import re
from pathlib import Path

from openal_ray.strategies.catalogue import markdown_table

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_table_of_strategies_is_the_catalogues() -> None:
    found = re.search(r"<!-- strategies.*?-->\n(.*?)\n<!-- end -->", README, re.DOTALL)
    assert found and found[1] == markdown_table()


def test_every_file_that_it_names_exists() -> None:
    root = Path(__file__).parent.parent
    for name in re.findall(r"(?:configs|launch)/[\w./-]+\w", README) + re.findall(r"\]\(([\w./-]+)\)", README):
        assert (root / name).exists(), name
