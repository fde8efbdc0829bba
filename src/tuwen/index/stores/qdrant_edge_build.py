"""Build a shard's graph in a process of its own.

    python -m tuwen.index.stores.qdrant_edge_build PARENT SHARD DIM INT8

In the process that asked for it, it would hold the interpreter for minutes: no progress, no Ctrl-C, no other
thread. It ends with that process, however that ends (on Linux; elsewhere it finishes). Knows one shard; does not
know the index around it.
"""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

from tuwen.errors import IndexFault
from tuwen.index.stores import qdrant_edge_shard as qdrant_shard

_DIE_WITH_PARENT = 1
"""Linux's PR_SET_PDEATHSIG"""


def build(shard: Path, dim: int, *, int8: bool) -> None:
    """Build what is not built yet, in another process; the shard must not be open in this one.

    Raises:
        IndexFault: it failed. No row is lost.
    """
    words = (os.getpid(), shard, dim, int(int8))
    command = [sys.executable, "-P", "-m", "tuwen.index.stores.qdrant_edge_build", *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, said = child.communicate()
    except BaseException:
        child.kill()
        child.communicate()
        raise
    if child.returncode:
        last = (said.decode(errors="replace").strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        raise IndexFault(f"{shard.parent}: building its graph has failed, no row is lost; try again ({last})")


def main() -> None:
    """What the other process does."""
    parent, folder, dim, int8 = sys.argv[1:]
    _end_with(int(parent))
    qdrant_shard.optimize(Path(folder), int(dim), int8=int8 == "1")


def _end_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        sys.exit("the process that asked for this has ended")


if __name__ == "__main__":
    main()
