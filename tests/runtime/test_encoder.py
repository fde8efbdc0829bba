import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import tiny
from runtime.quantised import dynamic_int8, static_int8
from tuwen.bundle.bundle import Bundle, read_bundle
from tuwen.bundle.manifest import Tower
from tuwen.data.decode import read_image, reading_for
from tuwen.data.pixels import to_pixels
from tuwen.errors import BundleInvalid, InvalidInput, InvalidVectors, RejectedImages
from tuwen.runtime.encoder import MAX_PIXELS, Encoder
from tuwen.runtime.selection import Choice, make_plan, open_session
from tuwen.runtime.session import Session
from tuwen.settings import Settings
from tuwen.types import Tokens

pytestmark = pytest.mark.precision

TEXTS = ["the dog", "", "a cat on the dog", "dog " * 30, "cat", "the the the", "on", "Dog &amp; cat", "一只狗"] * 8
PIXELS = tiny.numbers(7, 70, 3, tiny.SIZE, tiny.SIZE)


def encoder_of(bundle: Bundle, runtime: str, **choice: Any) -> Encoder:
    precision = "fp32" if "fp32" in bundle.precisions else "int8"  # never left to the machine
    plan = make_plan(
        bundle, Choice(**({"runtime": runtime, "device": "cpu", "precision": precision, "threads": 2} | choice))
    )
    return Encoder(bundle, lambda tower: open_session(bundle, tower, plan, None), precision=plan.precision)


@pytest.fixture
def encoder(tiny_bundle: Path, runtime: str) -> Encoder:
    return encoder_of(read_bundle(tiny_bundle), runtime)


@pytest.fixture
def make(tmp_path: Path, runtime: str) -> Callable[..., Encoder]:
    """An encoder of other graphs than the usual."""

    def made(vision: onnx.ModelProto, words: onnx.ModelProto, suffix: str = "", **changes: Any) -> Encoder:
        graphs = {f"onnx/vision_model{suffix}.onnx": vision, f"onnx/text_model{suffix}.onnx": words}
        return encoder_of(tiny.write_bundle(tmp_path / "bundle", graphs, **changes), runtime)

    return made


def test_an_encoder_knows_its_model_before_anything_is_loaded(tiny_bundle: Path) -> None:
    bundle = read_bundle(tiny_bundle)
    encoder = Encoder(bundle, lambda _: pytest.fail("loaded"), precision="bf16")
    assert (encoder.name, encoder.dim, encoder.precision) == ("tiny", tiny.DIM, "bf16")
    assert encoder.fingerprint == bundle.manifest.fingerprint()
    assert (encoder.scoring, encoder.image_spec, encoder.text_spec) == (
        bundle.manifest.scoring,
        tiny.IMAGE,
        tiny.TEXT,
    )
    assert encoder.encode_pixels(PIXELS[:0]).shape == encoder.encode_images([]).shape == (0, tiny.DIM)
    assert encoder.encode_texts([]).shape == (0, tiny.DIM)


def test_each_tower_is_loaded_once_when_it_is_used(tiny_bundle: Path, runtime: str) -> None:
    bundle, opened = read_bundle(tiny_bundle), list[Tower]()
    plan = make_plan(bundle, Choice(runtime=runtime, device="cpu", precision="fp32"))

    def load(tower: Tower) -> Session:
        opened.append(tower)
        return open_session(bundle, tower, plan, None)

    encoder = Encoder(bundle, load, precision="fp32")
    threads = [threading.Thread(target=encoder.encode_texts, args=[["the dog"]]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == ["text"]
    encoder.encode_pixels(PIXELS)
    assert opened == ["text", "vision"]


def test_vectors_are_of_length_1_whatever_the_graph_gives(make: Callable[..., Encoder], runtime: str) -> None:
    plain = make(tiny.vision_graph(normalised=False), tiny.text_graph(normalised=False))
    for vectors in (plain.encode_pixels(PIXELS), plain.encode_texts(TEXTS)):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-6)
    unit = make(tiny.vision_graph(), tiny.text_graph())
    np.testing.assert_allclose(unit.encode_pixels(PIXELS), plain.encode_pixels(PIXELS), atol=1e-6)
    np.testing.assert_allclose(unit.encode_texts(TEXTS), plain.encode_texts(TEXTS), atol=1e-6)


FORMS: dict[str, tuple[onnx.ModelProto, onnx.ModelProto, str, dict[str, Any]]] = {
    "plain": (tiny.vision_graph(), tiny.text_graph(), "", {}),
    "masked": (
        tiny.vision_graph(),
        tiny.text_graph(masked=True, token_types=True),
        "",
        {"text": tiny.TEXT.model_copy(update={"mask": True})},
    ),
    "not cut": (
        tiny.vision_graph(),
        tiny.text_graph(causal=False),
        "",
        {"text": tiny.TEXT.model_copy(update={"cut_exact": False})},
    ),
    "one at a time": (
        tiny.vision_graph(batch=1),
        tiny.text_graph(batch=1, length=tiny.CONTEXT, wide=False),
        "",
        {},
    ),
    "three at a time": (tiny.vision_graph(batch=3), tiny.text_graph(batch=3), "", {}),
    "static int8": (*static_int8(), "_int8", {}),
    "dynamic int8": (*dynamic_int8(), "_int8", {}),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_vector_does_not_depend_on_its_neighbours(form: str, make: Callable[..., Encoder]) -> None:
    vision, text, suffix, changes = FORMS[form]
    encoder = make(vision, text, suffix, **changes)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    together = encoder.encode_texts(TEXTS)
    shuffled = encoder.encode_texts([TEXTS[i] for i in order])
    alone = np.concatenate([encoder.encode_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(shuffled, together[order], atol=1e-6)
    np.testing.assert_allclose(alone, together, atol=1e-6)
    order = np.random.default_rng(0).permutation(len(PIXELS))
    together = encoder.encode_pixels(PIXELS)
    np.testing.assert_allclose(encoder.encode_pixels(PIXELS[order]), together[order], atol=1e-6)
    alone = np.concatenate([encoder.encode_pixels(PIXELS[i : i + 1]) for i in range(len(PIXELS))])
    np.testing.assert_allclose(alone, together, atol=1e-6)


def test_dynamic_int8_does_depend_on_its_neighbours_where_nothing_is_done_about_it(tmp_path: Path) -> None:
    """The fault that the test above is for: it must be there to be prevented."""
    from tuwen.runtime.onnxruntime import OnnxRuntimeSession

    onnx.save(dynamic_int8()[0], tmp_path / "a.onnx")
    session = OnnxRuntimeSession(tmp_path / "a.onnx", device="cpu", precision="int8", threads=1)
    pixels = np.concatenate([PIXELS[:1], 5 * PIXELS[1:4]])
    together = session.run({"pixel_values": pixels})[0]
    alone = session.run({"pixel_values": pixels[:1]})[0]
    assert np.abs(together - alone).max() > 1e-3


@pytest.mark.parametrize("form", ["one at a time", "three at a time"])
def test_graphs_of_a_fixed_shape_give_the_same_vectors(form: str, make: Callable[..., Encoder]) -> None:
    vision, text, *_ = FORMS[form]
    fixed = make(vision, text)
    images, texts = fixed.encode_pixels(PIXELS), fixed.encode_texts(TEXTS)
    plain = make(tiny.vision_graph(), tiny.text_graph())
    np.testing.assert_allclose(plain.encode_pixels(PIXELS), images, atol=1e-6)
    np.testing.assert_allclose(plain.encode_texts(TEXTS), texts, atol=1e-6)


def test_a_text_that_may_not_be_cut_is_padded_to_the_context(make: Callable[..., Encoder]) -> None:
    spec = tiny.TEXT.model_copy(update={"cut_exact": False})
    encoder = make(tiny.vision_graph(), tiny.text_graph(causal=False), text=spec)
    tokens = encoder.to_tokens(["the dog"])
    length = int(tokens.lengths[0])
    short = Tokens(tokens.ids[:, :length], tokens.lengths)
    assert short.ids.shape[1] < tiny.CONTEXT
    np.testing.assert_allclose(encoder.encode_tokens(short), encoder.encode_tokens(tokens), atol=1e-6)


def test_long_texts_are_cut_and_counted(encoder: Encoder) -> None:
    tokens = encoder.to_tokens(["dog " * 30, "dog"])
    assert tokens.truncated == 1
    assert tokens.lengths.tolist() == [tiny.CONTEXT, 3]
    np.testing.assert_allclose(encoder.encode_texts(["dog " * 30]), encoder.encode_texts(["dog " * 40]), atol=1e-6)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{number:02}.png" for number in range(70)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (11, 13, 3), dtype=np.uint8)).save(path)
    return paths


def test_paths_bytes_and_images_give_the_vectors_of_their_pixels(encoder: Encoder, files: list[Path]) -> None:
    reading = reading_for(encoder.image_spec, exact=False, max_pixels=MAX_PIXELS)
    pictures = [read_image(path, str(path), reading) for path in files]
    expected = encoder.encode_pixels(to_pixels(encoder.image_spec, [picture.image for picture in pictures]))
    for images in (
        files,
        list(map(str, files)),
        [path.read_bytes() for path in files],
        list(map(Image.open, files)),
    ):
        np.testing.assert_allclose(encoder.encode_images(images), expected, atol=1e-6)


def test_bad_pictures_are_all_named_and_none_is_returned(encoder: Encoder, files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not a picture")
    images: list[Any] = [*files[:40], b"", tmp_path / "absent.png", *files[40:], tmp_path / "text.jpg"]
    with pytest.raises(RejectedImages) as caught:
        encoder.encode_images(images)
    assert [item.path for item in caught.value.rejected] == [
        "images[40]",
        str(tmp_path / "absent.png"),
        str(tmp_path / "text.jpg"),
    ]


def test_a_picture_over_the_limit_is_rejected(tiny_bundle: Path, files: list[Path]) -> None:
    encoder = Encoder(read_bundle(tiny_bundle), lambda _: pytest.fail("run"), precision="fp32", max_pixels=100)
    with pytest.raises(RejectedImages) as caught:
        encoder.encode_images(files[:1])
    assert [item.path for item in caught.value.rejected] == [str(files[0])]


def test_the_limit_is_that_of_the_settings() -> None:
    assert Settings.model_fields["max_pixels"].default == MAX_PIXELS


def test_one_input_where_several_are_wanted_is_said_so(encoder: Encoder, files: list[Path]) -> None:
    with pytest.raises(InvalidInput) as caught:
        encoder.encode_texts("dog")
    assert caught.value.value == "dog"
    for image in (files[0], str(files[0]), files[0].read_bytes(), Image.new("RGB", (9, 9))):
        with pytest.raises(InvalidInput) as caught:
            encoder.encode_images(image)
        assert caught.value.value is image


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 3, 8, 9), (1, 1, 8, 8)])
def test_pixels_of_another_shape_are_refused(encoder: Encoder, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput) as caught:
        encoder.encode_pixels(np.zeros(shape, np.float32))
    assert caught.value.value == shape


def test_numbers_that_are_not_finite_are_refused(encoder: Encoder) -> None:
    pixels = PIXELS[:5].copy()
    pixels[3, 0, 0, 0] = np.nan
    with pytest.raises(InvalidVectors) as caught:
        encoder.encode_pixels(pixels)
    assert caught.value.value == 3


def test_zero_vectors_are_refused(make: Callable[..., Encoder]) -> None:
    encoder = make(tiny.vision_graph(normalised=False), tiny.text_graph())
    with pytest.raises(InvalidVectors) as caught:
        encoder.encode_pixels(np.zeros((2, 3, 8, 8), np.float32))
    assert caught.value.value == 0


def test_a_tower_of_another_dimension_is_refused(make: Callable[..., Encoder]) -> None:
    encoder = make(tiny.vision_graph(), tiny.text_graph(), dim=12)
    with pytest.raises(BundleInvalid) as caught:
        encoder.encode_pixels(PIXELS)
    assert caught.value.value == (tiny.DIM,)


def test_inputs_that_are_not_known_are_named(make: Callable[..., Encoder]) -> None:
    encoder = make(tiny.text_graph(), tiny.vision_graph())
    with pytest.raises(BundleInvalid) as caught:
        encoder.encode_pixels(PIXELS)
    assert caught.value.value == ["input_ids"]
    with pytest.raises(BundleInvalid) as caught:
        encoder.encode_texts(["dog"])
    assert caught.value.value == ["pixel_values"]


def test_a_model_without_a_scale_says_so_when_it_is_asked(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = read_bundle(tiny_bundle)
    foreign = bundle.manifest.model_copy(update={"name": "A/t", "scoring": None, "family": "foreign"})
    for folder, file, field in (
        (tmp_path, "config.json", "logit_scale"),
        (bundle.folder, "tuwen.json", "scoring"),
    ):
        found = Bundle(folder, foreign, bundle.graphs, bundle.tokenizer)
        with pytest.raises(BundleInvalid) as caught:
            _ = Encoder(found, lambda _: None, precision="fp32").scoring
        assert (caught.value.where, caught.value.value) == (folder / file, field)
