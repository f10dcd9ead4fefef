"""Every error that a user can meet, and the suggestion of a near name.

UserError                 the command line prints its message and exits 2; nothing was lost
├── ConfigError           a key, value or name in the configuration
├── DataError             a data set, manifest or file
│   └── BadImages         pictures that cannot be decoded, by dataset index
├── ResourceError         more CPUs, GPUs or disk asked than there are
├── RunError              the run folder: in use, damaged, or of another experiment
└── TrainingError         training that cannot go on, such as a loss that is not finite
"""

import difflib
from collections.abc import Iterable, Sequence

MOST_NAMES = 40  # more valid names than a reader would go through are only counted


class UserError(Exception):
    """Base of all errors whose message alone is enough for the user to act on."""


class ConfigError(UserError):
    """A wrong key, value or name; the message begins with the key's full path."""


class DataError(UserError):
    """A data set or manifest that cannot be used as asked."""


class BadImages(DataError):
    """Pictures that cannot be decoded.

    indices  their dataset indices
    reasons  one sentence each, beginning with the path or sample id
    """

    def __init__(self, indices: Sequence[int], reasons: Sequence[str]) -> None:
        self.indices = [int(index) for index in indices]
        self.reasons = list(reasons)
        shown = "\n  ".join(self.reasons[:5])
        more = f"\n  … and {len(self.reasons) - 5} more" if len(self.reasons) > 5 else ""
        super().__init__(
            f"{len(self.reasons)} image(s) cannot be used:\n  {shown}{more}\n"
            "Repair or remove them, or set data.bad_images=skip to leave them out of the experiment."
        )

    def __reduce__(self) -> tuple[type["BadImages"], tuple[list[int], list[str]]]:
        return BadImages, (self.indices, self.reasons)


class ResourceError(UserError):
    """More hardware asked than there is; the message gives both sums."""


class RunError(UserError):
    """A run folder that cannot be used: locked, damaged, or of another experiment."""


class TrainingError(UserError):
    """Training that cannot go on; the record keeps all finished rounds."""


def unknown_name(kind: str, name: object, valid: Iterable[str]) -> str:
    """The sentence for an unknown name: says what was expected and proposes the nearest valid one."""
    names = sorted(valid)
    folded = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(str(name).lower(), list(folded), n=1, cutoff=0.5)
    guess = f" Did you mean {folded[near[0]]!r}?" if near else ""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"unknown {kind} {name!r}.{guess} Valid: {', '.join(names[:MOST_NAMES]) or 'none'}{more}."
