"""What people call a checkpoint, `openclip:ViT-B-32` or a path, to the family that loads it.

Knows the families by name, and by what their files look like: one record a family, in `FAMILIES`. They do not
know each other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tuwen.errors import InvalidInput
from tuwen.models.contents import Contents
from tuwen.models.towers import Towers


@dataclass(frozen=True, slots=True)
class Family:
    """One family of checkpoints.

    Attributes:
        name: what stands before the colon.
        written: how one is named, with an example.
        load: called with what stands after the colon (or a path), the file of the weights if one was given, and
            the architecture if one was said.
        recognises: whether a file or folder is of this family.
    """

    name: str
    written: str
    load: Callable[[str, Path | None, str | None], Towers]
    recognises: Callable[[Contents], bool]


def load_source(source: str, weights: Path | None = None, *, arch: str | None = None) -> Towers:
    """Load a checkpoint from this machine.

    Args:
        source: a family and its own name for the model, see `FAMILIES`; or the path of a checkpoint, whose family
            is told by its content.
        weights: the file of its weights, where `source` is not itself their place.
        arch: the architecture, where the file does not tell.

    Raises:
        InvalidInput: there is no such family or model, the weights are missing or of another model, or the
            architecture cannot be told; then the message lists what it may be.
    """
    kind, colon, name = source.partition(":")
    family = next((family for family in FAMILIES if family.name == kind), None)
    if family is not None and colon and name:
        return family.load(name, weights, arch)
    path = Path(source)
    if not path.exists():
        raise InvalidInput(f"{source!r} names no checkpoint: {_ways()}")
    if weights is not None:
        raise InvalidInput(f"{source} is itself a checkpoint: leave --weights out, or name its family before it")
    return family_of(path).load(source, None, arch)


def family_of(path: Path) -> Family:
    """The family that a file or folder is of, told by its content.

    Raises:
        InvalidInput: it is of none, or cannot be read.
    """
    contents = Contents(path)
    for family in FAMILIES:
        if family.recognises(contents):
            return family
    kind = contents.config.get("model_type")
    said = f" (its config.json says model_type {kind!r})" if kind else ""
    raise InvalidInput(f"{path}{said} is a checkpoint of no family that is known: {_ways()}")


def _ways() -> str:
    return "write " + "; or ".join(family.written for family in FAMILIES) + "; or the path of such a file or folder"


def _load_openclip(name: str, weights: Path | None, arch: str | None) -> Towers:
    """A name with its weights apart, a folder of the hub, or the file itself with its architecture said."""
    from tuwen.models import openclip
    from tuwen.models.openclip_shapes import architecture_of

    if Path(name).is_dir():
        return openclip.load_folder(Path(name), weights)
    if Path(name).is_file():
        name, weights = arch or architecture_of(Path(name)), Path(name)
    if weights is None:
        raise InvalidInput(f"openclip:{name} needs the file of its weights: add --weights FILE")
    architecture, _, tag = name.partition("/")
    return openclip.load(architecture, weights, tag=tag or None)


def _is_openclip(contents: Contents) -> bool:
    """CLIP's own names, with the text tower apart or not; every image tower that open_clip has is `visual`."""
    names = contents.tensors
    visual = any(name.startswith("visual.") for name in names)
    text = any(name.startswith(("text.", "transformer.resblocks.")) for name in names)
    return contents.has("open_clip_config.json") or (visual and text)


FAMILIES = (
    Family(
        "openclip",
        "openclip:ARCHITECTURE[/TAG] or openclip:FOLDER, e.g. openclip:ViT-B-32/laion2b_s34b_b79k",
        _load_openclip,
        _is_openclip,
    ),
)
"""Every family, in the order in which a path's content is tried."""
