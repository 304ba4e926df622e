"""Encoded captions and images by cache key: in memory, or in a cache folder that later runs can reuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from threading import Lock

from torch import Tensor

from toolkit.encode import storage
from toolkit.encode.cache import TensorCache
from toolkit.encode.packing import Folded, fold, pack, unpack
from toolkit.encode.writer import Writer
from toolkit.errors import UserError
from toolkit.units import as_size


class Encodings:
    """Encoded captions and images by their cache key.

    Entries read from disk stay in memory while there is room: verifying a file's checksum and decoding its Huffman code
    takes longer than a step of a small model.

    Args:
        notify: called with lines for the user: on damaged entries, and once if memory overflows.
        overflow: folder for entries that should be in memory but do not fit into `MEMORY_LIMIT_BYTES`.
        is_shared: whether other processes need the entries too: then all are kept on disk, and in memory once read.
    """

    def __init__(self, notify: Callable[[str], None], *, overflow: Path, is_shared: bool = False) -> None:
        self._notify = notify
        self._is_shared = is_shared
        self._caches: dict[Path, TensorCache] = {}
        self._overflow = TensorCache(overflow, on_damage=notify, is_lasting=False)
        self._num_bytes = 0
        self._in_memory: dict[str, Tensor | Folded] = {}
        self._on_disk: dict[str, TensorCache] = {}
        self._writer = Writer()
        self._reading = Lock()

    def __getitem__(self, key: str) -> Tensor:
        """The tensor of a key that has been added.

        Raises:
            UserError: its cache file was damaged or deleted while the job ran.
        """
        kept = self._in_memory.get(key)
        if kept is None:
            with self._reading:  # samples and the next batch may be read at the same time
                kept = self._in_memory.get(key)
                if kept is None:
                    kept = self._read(key)
                    self._keep(key, kept)
        return kept.tensor() if isinstance(kept, Folded) else kept

    def has(self, key: str, *, folder: Path | None) -> bool:
        """Whether `add` would find a key, in memory or in the folder that keeps it."""
        return key in self or self._kept_in(folder).has(key)

    def __contains__(self, key: str) -> bool:
        """Whether a key has been added."""
        return key in self._in_memory or key in self._on_disk

    def add(
        self,
        key: str,
        make: Callable[[], Tensor],
        *,
        folder: Path | None,
        is_packed: bool = False,
        facts: Mapping[str, str] | None = None,
    ) -> bool:
        """Make sure that a key exists. Returns True if `make` had to be called.

        Args:
            key: the cache key, from `toolkit.encode.cache`.
            make: computes the tensor.
            folder: cache folder to keep the tensor in; None to keep it in memory while there is room.
            is_packed: whether to store the tensor in fewer bytes, see `toolkit.encode.packing`.
            facts: what `facts` returns for the key later, if the entry is written to disk.
        """
        if key in self:
            return False
        cache = self._kept_in(folder)
        is_cached = cache.has(key)
        if not is_cached:
            tensor = make().cpu()
            if folder is None and not self._is_shared:
                if self._keep(key, fold(tensor) if is_packed else tensor):
                    return True
                self._report_overflow()
            self._writer.put(partial(_write, cache, key, tensor, facts, is_packed=is_packed))
        self._on_disk[key] = cache
        return not is_cached

    def facts(self, key: str, folder: Path | None) -> Mapping[str, str]:
        """What is written beside the tensor of a key in a cache folder; empty if it is not there."""
        if folder is None or key in self._in_memory:
            return {}
        if key in self._on_disk:  # it may be on its way there
            self.settle()
        return self._kept_in(folder).facts(key)

    def settle(self) -> None:
        """Wait until everything that was added is on disk, where other processes find it.

        Raises:
            UserError: see `TensorCache.put`.
        """
        self._writer.settle()

    def _kept_in(self, folder: Path | None) -> TensorCache:
        if folder is None:
            return self._overflow
        if folder not in self._caches:
            self._caches[folder] = TensorCache(folder, on_damage=self._notify)
        return self._caches[folder]

    def _read(self, key: str) -> Tensor | Folded:
        self.settle()
        cache = self._on_disk[key]
        entry = cache.get(key)
        if entry is None:
            raise UserError(f"{cache.path(key)}: the cache entry is gone. Start the job again to compute it again.")
        return entry["tensor"] if "tensor" in entry else unpack(entry)

    def _keep(self, key: str, kept: Tensor | Folded) -> bool:
        """Keep a tensor in memory if there is room. Returns whether there was."""
        if self._num_bytes + kept.nbytes > storage.MEMORY_LIMIT_BYTES:
            return False
        self._num_bytes += kept.nbytes
        self._in_memory[key] = kept
        return True

    def _report_overflow(self) -> None:
        if self._overflow not in self._on_disk.values():
            self._notify(
                f"encoded captions and images fill {as_size(storage.MEMORY_LIMIT_BYTES)} of memory: the rest is kept "
                f"in {self._overflow.folder} until the run is done"
            )


def _write(cache: TensorCache, key: str, tensor: Tensor, facts: Mapping[str, str] | None, *, is_packed: bool) -> None:
    cache.put(key, pack(tensor) if is_packed else {"tensor": tensor}, facts)
