"""Build the packaged model of photos: `python -m recipes.photo.build` computes, exports and measures it.

Nothing is trained. The bundle is written to `src/tuwen/photo/bundle`, as package data. Downloads and intermediate
results are kept in `--work`, and an interrupted build is resumed.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from recipes.common.packing import check_size, pack
from recipes.photo.dictionaries import frequencies
from recipes.photo.evaluate import evaluate
from recipes.photo.lexicon import LANGUAGES, read_lexicon
from recipes.photo.meanings import Matrix, WordVectors, kept, meanings
from recipes.photo.sources import package, require_shared
from recipes.photo.space import make_space
from recipes.photo.table import make_text_tower
from recipes.photo.tokenizer import CONTEXT, END_ID, MARK_ID, make_tokenizer
from recipes.photo.towers import SIZE, ImageTower, load_classifier
from recipes.photo.wordnet import WordNet
from torch import Tensor, nn

from tuwen.bundle.manifest import ImageSpec, Scoring, TextSpec
from tuwen.data.pixels import to_pixels
from tuwen.data.tokens import Tokenizer
from tuwen.demo import photo_gallery
from tuwen.exporting.export import export_towers
from tuwen.models.towers import Towers
from tuwen.types import Pixels

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "src" / "tuwen" / "photo"
SOURCE = "recipes/photo"
LIMIT = 35_000_000
"""the largest size of the bundle, in bytes"""
KIND = "photos, without captions: a classifier of ImageNet, and where words stand among its classes"
SCALE = 20.0
"""what cosines are multiplied by to become probabilities"""
IMAGE_SPEC = ImageSpec(size=(SIZE, SIZE), resize="squash", mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
TEXT_SPEC = TextSpec(
    languages=LANGUAGES,
    cleaning="none",
    context_length=CONTEXT,
    pad_id=MARK_ID,
    pad_to="longest",
    end_id=END_ID,
    mask=False,
    cut_exact=False,  # proved where it is exported
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/photo"), help="downloads and intermediate results")
    parser.add_argument("--to", type=Path, default=PHOTO, help="where bundle/ is written")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    require_shared()
    asked.work.mkdir(parents=True, exist_ok=True)
    made = asked.work / "bundle"
    export_towers(make_towers(asked.work), made, ("fp16",))
    pack(made, asked.to / "bundle", SOURCE, {}, evaluate)
    check_size([asked.to / "bundle"], LIMIT)


def make_towers(work: Path) -> Towers:
    """Both towers, computed from the sources."""
    wordnet = WordNet(next(package("WordNet 3.0", work).rglob("wordnet")))
    vectors = WordVectors(package("GloVe, 100 numbers", work), work)
    log.info("%d synsets, %d word vectors", len(wordnet.synsets), len(vectors.rows))
    written = frequencies(package("frequencies of words", work), LANGUAGES)
    lexicon, needed = read_lexicon(wordnet, written, package("CC-CEDICT", work))
    log.info("%d words and phrases", len(lexicon))
    looks = meanings(wordnet, vectors, work)
    net = load_classifier(package("EfficientNet-Lite's layers", work), package("EfficientNet-Lite1", work))
    space = make_space(net, looks, torch.from_numpy(kept(work / "maps.npy", lambda: _maps(net))))
    log.info("space")
    backend, words = make_tokenizer(lexicon, written)
    tokenizer = backend.to_str().encode()
    log.info("tokenizer: %d tokens, %d bytes", len(words), len(tokenizer))
    vision = ImageTower(net, **space.image)
    text = make_text_tower(words, lexicon, wordnet, needed, looks @ space.words.numpy().T)
    named = {"vision": vision, "text": text}
    reader = Tokenizer(tokenizer, TEXT_SPEC.model_copy(update={"pad_to": "context"}))
    return Towers(
        name="photo",
        family="tuwen",
        source=SOURCE,
        licence="Apache-2.0 (images), CC-BY-SA-4.0 (words)",
        vision=vision,
        text=text,
        image_spec=IMAGE_SPEC,
        text_spec=TEXT_SPEC,
        scoring=Scoring(kind="softmax", scale=SCALE),
        tokenizer=tokenizer,
        weights={f"{name}.{key}": value for name, tower in named.items() for key, value in tower.state_dict().items()},
        to_pixels=_pixels,
        to_tokens=reader.to_tokens,
        facts={"kind": KIND, "words": len(lexicon)},
    )


def _maps(net: nn.Module) -> Matrix:
    """(photos, 1280, 8, 8) the classifier's last maps of the packaged gallery's photos."""
    files = sorted(path for path in photo_gallery().rglob("*") if path.is_file())
    with torch.no_grad():
        return torch.cat([net.extract_features(_read(file)) for file in files]).numpy()


def _read(file: Path) -> Tensor:
    with Image.open(file) as image:
        return torch.from_numpy(to_pixels(IMAGE_SPEC, [image.convert("RGB")]))


def _pixels(images: Sequence[Image.Image]) -> Pixels:
    return to_pixels(IMAGE_SPEC, images)


if __name__ == "__main__":
    main()
