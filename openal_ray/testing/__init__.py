"""For authors of strategies: the checks that every strategy of the catalogue passes, on small real pools."""

from openal_ray.testing.contract import CHECKS, check_strategy

__all__ = ["CHECKS", "check_strategy"]
