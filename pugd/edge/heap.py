"""The heap keeps what a wake-up freed for the next one.

A wake-up allocates its bodies together and frees them together. The C library's default gives such memory back to the
kernel at once (beyond 128 KiB at the top of the heap, and every large block by itself), and the next wake-up faults it
in again, page by page: for bodies of 50 KB that was two thirds of a request's cost (55 µs, 20 with this).
"""

from __future__ import annotations

import ctypes
from typing import Final

KEPT_BYTES_MAX: Final = 64 * 1024 * 1024
"""Free memory at the top of the heap that is not given back: a wake-up's bodies, and what becomes of them."""
_MAPPED_BYTES_MIN: Final = 4 * 1024 * 1024
"""Blocks from here on are mapped by themselves, and given back when freed: as large bodies are rare."""

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3


def keep_freed_memory() -> bool:
    """Set it for this process. returns  whether its C library can (glibc)"""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES_MAX)) and bool(mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES_MIN))
