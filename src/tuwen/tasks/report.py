"""What became of files that were brought into an index, or of rows that were taken out."""

from dataclasses import dataclass

from tuwen.types import Rejected


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of the files so far. The last report of a run is that of the whole run.

    Attributes:
        rows: rows in the index by now, all flushed.
        indexed: files that are new rows.
        unchanged: files whose row stays: same size and time of change, or touched and of the same content.
        replaced: files whose content changed, and their rows with it.
        removed: rows taken out.
        skipped: files that are no pictures by content and by ending.
        rejected: files that claim to be pictures and cannot be read. A row they may have from before stays.
        seconds: since the start.
    """

    rows: int
    indexed: int = 0
    unchanged: int = 0
    replaced: int = 0
    removed: int = 0
    skipped: int = 0
    rejected: tuple[Rejected, ...] = ()
    seconds: float = 0.0

    @property
    def seen(self) -> int:
        """Files dealt with so far."""
        return self.indexed + self.unchanged + self.replaced + self.skipped + len(self.rejected)
