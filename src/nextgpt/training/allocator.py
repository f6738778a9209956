"""How the process keeps memory that tensors have given back."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of ``mallopt``, of glibc's ``malloc.h``."""


def keep_freed_memory() -> bool:
    """Keep what large tensors free for the next ones, in place of handing it back and forth.

    By default glibc asks the system anew for every block of some megabytes, and each page of it is
    cleared at its first touch: 45% of the time that the encoder's trunk takes for pictures.

    Returns:
        Whether the C library took it; others than glibc do as they do.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # TypeError: Windows has no process-wide library
        return False
    most = 2**31 - 1
    return bool(mallopt(M_MMAP_THRESHOLD, 2**30) and mallopt(M_TRIM_THRESHOLD, most))
