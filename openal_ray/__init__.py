"""openal_ray: distributed active learning for image classification, on Ray."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# The public names and where they live; loaded when first used, since importing torch takes seconds.
_PUBLIC = {
    "run": "openal_ray.runs",
    "resume": "openal_ray.runs",
    "workers_for": "openal_ray.runs",
    "Config": "openal_ray.config",
    "Pool": "openal_ray.pool",
    "Strategy": "openal_ray.strategies.strategy",
    "LocalWorkers": "openal_ray.workers",
    "from_torch": "openal_ray.data.from_torch",
    "create_query_strategy": "openal_ray.openal.query_strategy",
    "UserError": "openal_ray.errors",
}
__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604 (names of _PUBLIC are strings)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'openal_ray' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
