"""How many threads the libraries that compute may start, in a server and in its jobs. Knows neither."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from service.settings import Settings

OPENMP, PRODUCTS, WAITING = "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY"
"""Read when a library is imported: how many threads FAISS and PyTorch have, how many NumPy's products have, and how
OpenMP's wait for each other."""


def share_cores(settings: Settings) -> None:
    """For this process, a server's: CODEWELL_THREADS, else OMP_NUM_THREADS, else the cores.

    NumPy's products take one, for searches use the cores side by side: a thread that waits for the next product keeps
    its core busy for milliseconds, which doubled the CPU of a search.
    """
    if settings.threads or OPENMP not in os.environ:
        os.environ[OPENMP] = str(settings.cores_each)
    os.environ.setdefault(PRODUCTS, "1")


@contextmanager
def cores_of_a_job(settings: Settings) -> Iterator[None]:
    """For processes that are started meanwhile: products on all cores, and threads of OpenMP that sleep while they
    wait, unless it is said that they do not.

    They spin otherwise, and on a busy machine the one that is waited for is kept from its core so: a training took six
    times its CPU. What this process imports meanwhile, in another thread, may find the same.
    """
    given = os.environ.get(PRODUCTS, "1")
    wanted = {
        PRODUCTS: str(settings.cores) if given == "1" else given,  # 1 is what `share_cores` says
        WAITING: os.environ.get(WAITING, "PASSIVE"),
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
