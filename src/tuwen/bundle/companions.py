"""The configuration files that other programs read in a bundle, and whether they agree with its manifest.

transformers, transformers.js and others read `config.json`, `preprocessor_config.json` and `tokenizer_config.json`.
tuwen reads the manifest alone, so a difference between them would go unnoticed: the same model would give different
vectors in different programs.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tuwen.bundle.graph import read_graph
from tuwen.bundle.manifest import FOREIGN, MANIFEST, TOKENIZER, ImageSpec, Manifest, Precision, Scoring, TextSpec, Tower
from tuwen.errors import BundleInvalid

CONFIG, PREPROCESSOR, TOKENIZER_CONFIG = "config.json", "preprocessor_config.json", "tokenizer_config.json"
COMPANIONS = (CONFIG, PREPROCESSOR, TOKENIZER_CONFIG)
PAD_TOKEN = "pad_token"

_RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}  # Pillow's numbers


def write_companions(folder: Path, dim: int, image: ImageSpec, text: TextSpec, scoring: Scoring) -> None:
    """Write the three files into a bundle whose `tokenizer.json` is already there."""
    tokenizer = json.loads((folder / TOKENIZER).read_bytes())
    contents = {
        CONFIG: _config(dim, scoring),
        PREPROCESSOR: _preprocessor(image),
        TOKENIZER_CONFIG: _tokenizer(text) | {PAD_TOKEN: pad_token(tokenizer, text)},
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_pad_token(folder: Path, text: TextSpec) -> None:
    """Add the padding token to a bundle's `tokenizer_config.json` if it names none."""
    path = folder / TOKENIZER_CONFIG
    config = json.loads(path.read_bytes()) if path.is_file() else _tokenizer(text)
    if PAD_TOKEN not in config:
        config[PAD_TOKEN] = pad_token(json.loads((folder / TOKENIZER).read_bytes()), text)
        path.unlink(missing_ok=True)  # it may be a link to a file of another bundle
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def pad_token(tokenizer: Mapping[str, Any], text: TextSpec) -> str:
    """The token that other programs pad with, as `tokenizer_config.json` names it.

    That of `pad_id`, if it is a special token. CLIP pads with id 0, which is an ordinary `!`: named as the padding
    token it would be split off wherever a text contains it. Such models read a text up to its first end token, so
    the end token pads them, as in OpenAI's own configuration.

    Raises:
        BundleInvalid: the tokenizer has neither.
    """
    special = {token["id"]: token["content"] for token in tokenizer.get("added_tokens", ()) if token.get("special")}
    for number in (text.pad_id, text.end_id):
        if number in special:
            return str(special[number])
    vocabulary = tokenizer["model"]["vocab"]
    words = (
        {number: word for word, number in vocabulary.items()}
        if isinstance(vocabulary, dict)
        else dict(enumerate(word for word, _ in vocabulary))  # Unigram: pairs of a piece and its score
    )
    for number in (text.pad_id, text.end_id):
        word = str(words.get(number, ""))
        if (word[:1], word[-1:]) in (("<", ">"), ("[", "]")):
            return word
    raise BundleInvalid(
        f"{TOKENIZER} has no special token to pad with: neither pad_id {text.pad_id} nor end_id {text.end_id} is one",
        value=text.pad_id,
        where=TOKENIZER,
    )


def check_companions(folder: Path, manifest: Manifest) -> None:
    """Compare the small files of a bundle with its manifest: cheap enough for every time it is opened.

    A model pulled as ready ONNX files is not checked: its manifest is read from its own configuration, whose fields
    differ from those that tuwen writes.

    Raises:
        BundleInvalid: they disagree; the message names both files and both values.
    """
    tokenizer = manifest.files.get(TOKENIZER)
    if manifest.family == FOREIGN:
        return
    if tokenizer is not None and tokenizer.sha256 != manifest.tokenizer_sha256:
        raise _disagreement(
            folder, TOKENIZER, "sha256", tokenizer.sha256[:12], "tokenizer_sha256", manifest.tokenizer_sha256[:12]
        )
    assert manifest.scoring is not None
    expected = {
        CONFIG: ("dim or scoring", _config(manifest.dim, manifest.scoring)),
        PREPROCESSOR: ("image", _preprocessor(manifest.image)),
        TOKENIZER_CONFIG: ("text", _tokenizer(manifest.text)),
    }
    for name, (field, facts) in expected.items():
        if name not in manifest.files:
            continue
        found = _read(folder / name)
        for key, value in facts.items():
            if not _same(found.get(key), value):
                raise _disagreement(folder, name, key, found.get(key), field, value)


def names_pad_token(folder: Path) -> bool:
    """Whether the bundle's `tokenizer_config.json` names a padding token."""
    path = folder / TOKENIZER_CONFIG
    return path.is_file() and PAD_TOKEN in _read(path)


def check_graphs(folder: Path, manifest: Manifest, graphs: Mapping[tuple[Tower, Precision], Path]) -> None:
    """Compare the inputs and outputs of every graph of a bundle with its manifest.

    Raises:
        BundleInvalid: a graph takes images of another size, has other inputs, or gives vectors of another length.
    """
    height, width = manifest.image.size
    for (tower, _), path in graphs.items():
        graph = read_graph(path)
        inputs = {value.name: value.shape for value in graph.inputs}
        name = path.relative_to(folder).as_posix()
        if tower == "vision" and manifest.family != FOREIGN:
            pixels = inputs.get("pixel_values", ())
            if len(pixels) != 4 or any(
                have not in (None, want) for have, want in zip(pixels[1:], (3, height, width), strict=True)
            ):
                raise _disagreement(folder, name, "pixel_values", pixels, "image.size", manifest.image.size)
        if tower == "text" and manifest.family != FOREIGN and ("attention_mask" in inputs) != manifest.text.mask:
            raise _disagreement(folder, name, "inputs", sorted(inputs), "text.mask", manifest.text.mask)
        if graph.outputs and manifest.family != FOREIGN:
            length = graph.outputs[0].shape[-1] if graph.outputs[0].shape else None
            if length not in (None, manifest.dim):
                raise _disagreement(folder, name, graph.outputs[0].name, length, "dim", manifest.dim)


def _disagreement(folder: Path, name: str, key: str, found: object, field: str, expected: object) -> BundleInvalid:
    return BundleInvalid(
        f"{folder / name} and {MANIFEST} disagree: {key} is {found}, but {field} in {MANIFEST} says {expected}; "
        "export or pull the model again",
        value=found,
        where=f"{name}: {key}",
        hint="export or pull the model again",
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise BundleInvalid(f"{path} is not JSON: {error}; export or pull the model again", where=path) from error
    if not isinstance(found, dict):
        raise BundleInvalid(f"{path} is not a JSON object; export or pull the model again", where=path)
    return found


def _same(found: object, expected: object) -> bool:
    """Equal, numbers to 9 digits: a logarithm may differ in the last digit between machines."""
    ours, theirs = list(_leaves(found)), list(_leaves(expected))
    return len(ours) == len(theirs) and all(
        math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
        if isinstance(a, float | int) and isinstance(b, float | int)
        else a == b
        for a, b in zip(ours, theirs, strict=True)
    )


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for key in sorted(value):
            yield key
            yield from _leaves(value[key])
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _config(dim: int, scoring: Scoring) -> dict[str, Any]:
    """`clip` for softmax and `siglip` for sigmoid: the types whose towers these readers load one by one."""
    kind = "clip" if scoring.kind == "softmax" else "siglip"
    return {"model_type": kind, "projection_dim": dim, "logit_scale_init_value": math.log(scoring.scale)}


def _preprocessor(image: ImageSpec) -> dict[str, Any]:
    height, width = image.size
    exact = {"height": height, "width": width}
    crops = image.resize == "shortest"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": image.edge or max(height, width)} if crops else exact,
        "resample": _RESAMPLE[image.interpolation],
        "do_center_crop": crops,
        "crop_size": exact,
        "do_pad": image.resize == "pad",
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(image.mean),
        "image_std": list(image.std),
    }


def _tokenizer(text: TextSpec) -> dict[str, Any]:
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": text.context_length}
