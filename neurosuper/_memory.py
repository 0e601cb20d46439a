"""Memory of this machine."""

import math
import os


def memory_of_machine() -> float:
    """Return the bytes of this machine's memory; infinity if the system does not report it."""
    if not hasattr(os, "sysconf"):
        return math.inf
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
