"""A process that migrates an index, and kills itself at the n-th change that it makes to the index's folder.

    python migrating.py INDEX BUNDLE N

It prints the number of changes when it has reached its end.
"""

import os
import signal
import sys
from pathlib import Path

from tuwen.index.index import VectorIndex
from tuwen.ingest.migrate import migrate
from tuwen.runtime.loading import Choice, load_encoder

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree", "open"}


def main(place: Path, bundle: str, last: int) -> None:
    encoder = load_encoder(bundle, Choice(runtime="onnxruntime"), models=Path(bundle).parent, cache=None)
    changes = 0

    def count(event: str, arguments: tuple) -> None:
        nonlocal changes
        if event not in CHANGES or not str(arguments[0]).startswith(str(place)):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        changes += 1
        if changes == last:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    reports = migrate(lambda: VectorIndex.open(place, encoder=None, lock_timeout=0), encoder, bundle)
    *_, report = reports
    assert not report.rejected
    sys.stdout.write(f"{changes}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
