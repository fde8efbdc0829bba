"""`--dims`: the first numbers of each vector, from the checkpoint to the index."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from tuwen.bundle import catalogue
from tuwen.bundle.bundle import Bundle
from tuwen.bundle.manifest import Manifest
from tuwen.errors import InvalidInput, WrongModel
from tuwen.exporting.compare import reference
from tuwen.exporting.export import export, export_bundle
from tuwen.exporting.samples import built_in
from tuwen.exporting.verify import verify
from tuwen.index.index import VectorIndex
from tuwen.models.towers import Towers, with_dims
from tuwen.runtime.loading import Choice, load_encoder

DIMS, FULL = 12, 32
TEXTS = ["a dog", "two cats on a roof"]


@pytest.fixture(scope="module")
def small(tiny_towers: Towers, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(tiny_towers, tmp_path_factory.mktemp("dims") / "small", dims=DIMS)


def encoder(bundle: Bundle):
    return load_encoder(
        str(bundle.folder), Choice(runtime="onnxruntime", precision="fp32"), models=bundle.folder.parent, cache=None
    )


@pytest.mark.long
def test_a_bundle_computes_the_first_numbers_at_length_1(small: Bundle, tiny_bundle: Bundle) -> None:
    whole, cut = encoder(tiny_bundle).encode_texts(TEXTS), encoder(small).encode_texts(TEXTS)
    assert (cut.shape, whole.shape) == ((2, DIMS), (2, FULL))
    expected = whole[:, :DIMS] / np.linalg.norm(whole[:, :DIMS], axis=1, keepdims=True)
    np.testing.assert_allclose(cut, expected, atol=1e-5)
    assert (small.manifest.dim, small.manifest.full_dim) == (DIMS, FULL)
    assert small.manifest.verify["fp32"].passed


def test_the_length_is_part_of_the_fingerprint(tiny_bundle: Bundle) -> None:
    whole = tiny_bundle.manifest
    cut = [whole.model_copy(update={"dim": dims, "full_dim": FULL}) for dims in (DIMS, DIMS + 1)]
    assert len({manifest.fingerprint() for manifest in (whole, *cut)}) == 3
    with pytest.raises(ValueError, match="full_dim"):
        Manifest.model_validate(whole.model_dump() | {"full_dim": FULL})


@pytest.mark.long
def test_it_is_another_model(small: Bundle, tiny_bundle: Bundle, tmp_path) -> None:
    assert small.manifest.weights_sha256 == tiny_bundle.manifest.weights_sha256
    assert small.manifest.fingerprint() != tiny_bundle.manifest.fingerprint()
    VectorIndex.create(tmp_path / "i.tuwen", encoder=encoder(tiny_bundle)).close()
    with pytest.raises(WrongModel):
        VectorIndex.open(tmp_path / "i.tuwen", encoder=encoder(small))


@pytest.mark.long
def test_it_is_verified_against_its_checkpoint_and_exported_again(small: Bundle, tiny_towers: Towers, tmp_path) -> None:
    assert verify(small, against=tiny_towers).passed
    again = export_bundle(small, tmp_path / "again", ("fp16",))
    assert again.manifest.fingerprint() == small.manifest.fingerprint()


def test_more_than_there_are_are_refused(tiny_bundle: Bundle, tiny_towers: Towers, tmp_path) -> None:
    for dims in (0, FULL + 1):
        with pytest.raises(InvalidInput) as caught:
            export(tiny_towers, tmp_path / "out", dims=dims)
        assert (caught.value.value, caught.value.where) == (dims, "dims")
    with pytest.raises(InvalidInput) as bundle:
        export(tiny_bundle, tmp_path / "out", dims=DIMS)
    assert bundle.value.hint
    assert not (tmp_path / "out").exists()


def test_all_numbers_are_the_same_model(tiny_towers: Towers) -> None:
    assert with_dims(tiny_towers, FULL) is tiny_towers
    cut = reference(with_dims(tiny_towers, DIMS), built_in())
    assert cut.images.shape[1] == cut.texts.shape[1] == DIMS


class Stopped(Exception):
    pass


@pytest.mark.parametrize("states", [True, False])
def test_a_model_that_is_not_trained_for_it(
    states: bool, tiny_towers: Towers, tmp_path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known = catalogue.catalogue().models[0].model_copy(update={"matryoshka": states})
    table = catalogue.catalogue().model_copy(update={"models": (known,)})
    monkeypatch.setattr(catalogue, "catalogue", lambda: table)

    def stop(*_: object, **__: object) -> None:
        raise Stopped

    monkeypatch.setattr("tuwen.exporting.export.export_towers", stop)
    with caplog.at_level(logging.WARNING), pytest.raises(Stopped):
        export(replace(tiny_towers, source=known.source), tmp_path / "out", dims=DIMS)
    assert bool(caplog.records) is not states
