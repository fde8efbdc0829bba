"""Put an exported bundle into the package, with facts that were measured on it."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import tuwen
from tuwen.bundle.bundle import read_manifest, seal

Fact = str | int | float | bool


def pack(
    made: Path,
    bundle: Path,
    source: str,
    facts: Mapping[str, Fact],
    measure: Callable[[tuwen.Encoder], Mapping[str, Fact]],
) -> None:
    """Copy a bundle, measure it as users load it, and record the figures in its manifest.

    Args:
        made: the bundle as exported.
        bundle: where it goes; what is there is replaced.
        source: the recipe.
        facts: facts to record.
        measure: returns the figures.
    """
    shutil.rmtree(bundle, ignore_errors=True)
    shutil.copytree(made, bundle, ignore=shutil.ignore_patterns("VERIFY.*"))  # names folders
    manifest = read_manifest(bundle)
    own = {key: value for key, value in manifest.facts.items() if not key.startswith("trained_")}
    files = {name: file for name, file in manifest.files.items() if (bundle / name).exists()}
    sealed = manifest.model_copy(update={"source": source, "files": files, "facts": {**facts, **own}})
    seal(bundle, sealed)
    measured = measure(tuwen.load(str(bundle)))
    seal(bundle, sealed.model_copy(update={"facts": {**sealed.facts, **measured}}))


def check_size(folders: list[Path], limit: int) -> None:
    """Print the size of folders together, and exit if it is more than `limit` bytes."""
    size = sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())
    print(f"{' and '.join(folder.name for folder in folders)}: {size / 2**20:.2f} MiB")
    if size > limit:
        raise SystemExit(f"{size} bytes, {size - limit} more than allowed")
