"""Where an index lives: a folder that this process has locked, or a collection that many use at once.

Knows where the manifest stands, what there is room for, and who else is there. Does not know rows.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tuwen.index import cluster_collection
from tuwen.index.calibration import Calibration, read_calibration, write_calibration
from tuwen.index.cluster_link import Link
from tuwen.index.folder import check_room, disk_usage
from tuwen.index.lock import Lock
from tuwen.index.manifest import Manifest, write_manifest
from tuwen.index.place import Cluster, Place


class Home(Protocol):
    """What an index asks of where it lives."""

    @property
    def place(self) -> Place:
        """Where that is."""
        ...

    def write(self, manifest: Manifest) -> None:
        """Put a manifest in place of the one that is there."""
        ...

    def calibration(self, fingerprint: str) -> Calibration | None:
        """What was measured here with that model; None if nothing was."""
        ...

    def calibrate(self, calibration: Calibration) -> None:
        """Put what was measured in place of what is there."""
        ...

    def check_room(self) -> None:
        """See that more can be written (else IndexFault)."""
        ...

    def bytes(self) -> int | None:
        """What it takes on the disk; None where nobody tells."""
        ...

    def release(self) -> None:
        """Let go. May be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class FolderHome:
    """A folder, while this process holds its lock."""

    place: Path
    lock: Lock

    def write(self, manifest: Manifest) -> None:
        """See `Home`."""
        write_manifest(self.place, manifest)

    def calibration(self, fingerprint: str) -> Calibration | None:
        """See `Home`."""
        return read_calibration(self.place, fingerprint)

    def calibrate(self, calibration: Calibration) -> None:
        """See `Home`."""
        write_calibration(self.place, calibration)

    def check_room(self) -> None:
        """See `Home`."""
        check_room(self.place)

    def bytes(self) -> int:
        """See `Home`."""
        return disk_usage(self.place)

    def release(self) -> None:
        """See `Home`."""
        self.lock.release()


@dataclass(frozen=True, slots=True)
class ClusterHome:
    """A collection of a cluster. There is no lock: it serves many at once."""

    place: Cluster
    link: Link

    def write(self, manifest: Manifest) -> None:
        """See `Home`. What others have added to the precisions meanwhile stays."""
        now = cluster_collection.read(self.link, self.place)
        precisions = tuple(sorted({*now.precisions, *manifest.precisions}))
        cluster_collection.write(self.link, manifest.model_copy(update={"precisions": precisions}))

    def calibration(self, fingerprint: str) -> Calibration | None:
        """See `Home`."""
        return cluster_collection.read_calibration(self.link, self.place, fingerprint)

    def calibrate(self, calibration: Calibration) -> None:
        """See `Home`."""
        cluster_collection.write_calibration(self.link, calibration)

    def check_room(self) -> None:
        """The cluster says so itself, when it has none."""

    def bytes(self) -> None:
        """A cluster does not tell."""
        return

    def release(self) -> None:
        """See `Home`."""
        self.link.close()
