"""The packaged model of photos: whole, small, the same on both runtimes, and made from no captions."""

import numpy as np
import pytest
from recipes.photo.evaluate import evaluate
from recipes.photo.lexicon import LANGUAGES
from recipes.photo.sources import SOURCES

import tuwen
from tuwen.bundle.bundle import read_bundle
from tuwen.demo import photo_bundle, photo_gallery

FLOORS = {
    "captions_en_10": 0.58,
    "captions_zh_10": 0.44,
    "captions_de_10": 0.53,
    "captions_fr_10": 0.55,
    "class_names_en": 0.94,
    "class_names_zh": 0.92,
    "class_names_ja": 0.92,
    "class_names_it": 0.90,
    "class_names_ar": 0.91,
    "everyday_en": 0.64,
    "everyday_zh": 0.64,
    "versions": 0.99,
    "nouns_zh": 0.86,
    "nouns_ja": 0.90,
    "nouns_ko": 0.97,
    "nouns_fr": 0.82,
    "nouns_de": 0.95,
    "nouns_es": 0.91,
    "nouns_it": 0.78,
    "nouns_pt": 0.91,
    "nouns_nl": 0.80,
    "nouns_pl": 0.86,
    "nouns_ru": 0.91,
    "nouns_ar": 0.88,
    "nouns_hi": 0.97,
    "nouns_th": 0.97,
    "nouns_tr": 0.94,
    "nouns_vi": 0.97,
    "nouns_id": 0.80,
}


@pytest.fixture(scope="module")
def encoder() -> tuwen.Encoder:
    return tuwen.load("photo")


def test_bundle_is_whole_and_small() -> None:
    bundle = read_bundle(photo_bundle())
    assert bundle.manifest.text.languages == LANGUAGES
    assert all(report.passed for report in bundle.manifest.verify.values())
    assert sum(file.bytes for file in bundle.manifest.files.values()) < 35_000_000


def test_runtimes_agree() -> None:
    photos = sorted(photo_gallery().rglob("*.jpg"))[:4]
    texts = ["a dog on a beach", "草地上的狗", "", "zzqx"]
    one, other = (tuwen.load("photo", runtime=name, precision="fp32") for name in ("onnxruntime", "openvino"))
    assert np.abs(one.encode_images(photos) - other.encode_images(photos)).max() < 1e-4
    assert np.abs(one.encode_texts(texts) - other.encode_texts(texts)).max() < 1e-5


@pytest.mark.parametrize(
    "query",
    [
        ("a dog", "two dogs", "DOG!", "dogs running"),
        ("ein Hund", "Hunde", "der Hund"),
        ("狗", "一只狗", "两只狗的照片"),
        ("собака", "собаки"),
        ("a man", "the man", "man"),
        ("jumping", "jumps", "jump"),
        ("un chien", "des chiens"),
        ("كلب", "كَلْب"),
    ],
)
def test_forms_of_a_word_are_near_each_other(encoder: tuwen.Encoder, query: tuple[str, ...]) -> None:
    vectors = encoder.encode_texts(query)
    assert (vectors @ vectors[0]).min() > 0.8


def test_is_made_from_no_captions() -> None:
    from_shared = {source.at for source in SOURCES if ":" not in source.at}
    assert {place.split("/")[0] for place in from_shared} == {"omw", "zeroshot", "imagenet_wnids.txt"}


@pytest.mark.usefixtures("shared_data")
@pytest.mark.long
def test_figures_on_photos_by_others(encoder: tuwen.Encoder) -> None:
    found = evaluate(encoder)
    assert {name: found[name] for name in FLOORS if found[name] < FLOORS[name]} == {}
