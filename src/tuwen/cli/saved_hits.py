"""The hits of a search, saved: as a CSV file, and as copies of or links to the images in a folder."""

import csv
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from tuwen.cli.command import say
from tuwen.cli.console import count
from tuwen.data.files import path_of
from tuwen.errors import InvalidInput
from tuwen.types import Hit, Rejected

_FIRST = ("rank", "score", "id", "path")


def write_csv(hits: Sequence[Hit], file: Path) -> None:
    """Write a row for each hit: rank, score, id, path, and all other fields that any hit has. Say where."""
    fields = dict.fromkeys(name for hit in hits for name in hit.payload)
    aside = file.with_name(f".{file.name}.part")
    with aside.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.DictWriter(stream, list(dict.fromkeys((*_FIRST, *fields))))
        rows.writeheader()
        for rank, hit in enumerate(hits, start=1):
            rows.writerow({**hit.payload, "rank": rank, "score": f"{hit.score:.6f}", "id": hit.id})
    aside.replace(file)
    say(f"hits: {file}")


def check_new_folder(folder: Path) -> None:
    """Raise `InvalidInput` if the folder has files: hits of two searches are not mixed, and nothing is overwritten."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        hint = "name a new folder, or an empty one"
        raise InvalidInput(f"{folder} is not empty: {hint}", value=folder, hint=hint)


def save_images(hits: Sequence[Hit], files: Sequence[Hit], root: Path, folder: Path, *, link: bool) -> list[Rejected]:
    """Copy the images of hits into a folder, or link to them, named by rank (`01-cat.jpg`). Say how many.

    Args:
        hits: best first; texts among them are left out.
        files: the same hits with the paths of the files to take.
        root: the folder that those paths are relative to.
        folder: made if it is missing.
        link: make symbolic links instead of copies.

    Returns:
        Images that could not be copied or linked.
    """
    put: Callable[[Path, Path], object] = os.symlink if link else shutil.copy2
    rejected, saved, digits = [], 0, len(str(len(hits)))
    folder.mkdir(parents=True, exist_ok=True)
    for rank, (hit, file) in enumerate(zip(hits, files, strict=True), start=1):
        if hit.payload.get("type") == "text":
            continue
        path, key = path_of(str(file.payload["path"]), root), str(hit.payload["path"])
        try:
            if not path.is_file():
                raise FileNotFoundError(2, os.strerror(2))
            put(path.absolute(), folder / f"{rank:0{digits}}-{path_of(key, Path()).name}")
            saved += 1
        except OSError as error:
            rejected.append(Rejected(key, f"cannot be {'linked' if link else 'copied'}: {error.strerror or error}"))
    say(f"{count(saved, 'image')} {'linked' if link else 'copied'} to {folder}")
    return rejected
