"""Signals of frozen networks on disk, for other runs: found again by the very pictures and weights they came from."""

import hashlib
import logging
import secrets
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from openal_ray import __version__

log = logging.getLogger(__name__)


class SignalCache:
    """A folder of blocks of signals, which any number of processes may share.

    Nothing in it can be out of date, since a key is made from all that a signal depends on. What cannot be read counts
    as absent; where nothing can be written, that is said once and reading goes on without.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._writable = folder, True

    def get(self, key: str) -> dict[str, np.ndarray] | None:
        """The arrays that were kept under the key; None if there are none."""
        try:
            with (self._folder / f"{key}.npz").open("rb") as file, np.load(file, allow_pickle=False) as found:
                return {name: found[name] for name in found.files}
        except Exception:  # absent, or cut off: numpy and zipfile have no one type for that
            return None

    def put(self, key: str, arrays: dict[str, np.ndarray]) -> None:
        """Keeps arrays under the key: whole, or not at all."""
        if not self._writable:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            incomplete = self._folder / f"{key}.{secrets.token_hex(4)}.incomplete"  # others may write it now, too
            try:
                with incomplete.open("xb") as file:  # readable to whom the umask lets, not as tempfile's
                    np.savez(file, allow_pickle=False, **arrays)
                incomplete.replace(self._folder / f"{key}.npz")
            except BaseException:
                incomplete.unlink(missing_ok=True)
                raise
        except OSError as error:
            self._writable = False
            log.warning("read.cache: %s cannot be written (%s); signals are read without it", self._folder, error)


def digest_of(network: nn.Module) -> str:
    """Tells a network, its layers and its weights, from any other."""
    digest = hashlib.blake2b(f"{__version__} {torch.__version__} {network}".encode(), digest_size=16)
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def processor(device: torch.device) -> tuple[str, int]:
    """What computes, on which the last bits of sums depend: the GPU or the CPU's instructions, and the threads."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return name, torch.get_num_threads()


def key_of(how: str, pictures: Iterable[np.ndarray]) -> str:
    """The key of what is read from pictures; `how` says all else that it depends on."""
    digest = hashlib.blake2b(how.encode(), digest_size=16)
    for batch in pictures:
        digest.update(f"{batch.dtype} {batch.shape}".encode())
        digest.update(batch.tobytes())
    return digest.hexdigest()
