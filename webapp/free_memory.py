"""Returns freed memory of the process to the system."""

from __future__ import annotations

import ctypes


def return_free_memory() -> None:
    """Return freed memory to the system; it takes a few milliseconds.

    glibc keeps freed memory unless it lies at the end of the heap. Other C libraries do not, and
    nothing happens there.
    """
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
