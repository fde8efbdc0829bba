"""The catalogue: every model has the facts that a person chooses by, and its licence is judged."""

import re

import pytest

from tuwen.bundle.catalogue import Known, catalogue, find_known, is_non_commercial, licence_line

MODELS = {known.name: known for known in catalogue().models}
UNSTATED = {"BAAI/AltCLIP-m18"}
"""models whose authors state no licence"""
FAMILIES = re.compile("openclip|hf|chinese-clip")


@pytest.mark.parametrize("known", MODELS.values(), ids=MODELS)
def test_every_model_has_its_facts(known: Known) -> None:
    assert known.licence in catalogue().licences or (known.name in UNSTATED and not known.licence)
    assert known.languages
    assert all(code == "many" or re.fullmatch("[a-z]{2}", code) for code in known.languages)
    assert known.dim
    assert FAMILIES.fullmatch(known.source.partition(":")[0])
    assert known.hub.count("/") == 1
    assert known.quality.keys() <= catalogue().figures.keys()
    assert find_known(known.source) == known


def test_names_are_unique() -> None:
    assert len(MODELS) == len(catalogue().models)


def test_figures_and_licences_are_used() -> None:
    assert {name for known in MODELS.values() for name in known.quality} == catalogue().figures.keys()
    assert {known.licence for known in MODELS.values() if known.licence} == catalogue().licences.keys()


@pytest.mark.parametrize("name", sorted(UNSTATED))
def test_where_the_licence_is_to_be_read_if_it_is_not_stated(name: str) -> None:
    assert MODELS[name].hub in licence_line(MODELS[name])


@pytest.mark.parametrize("name", ["MobileCLIP2-S0/dfndr2b", "nllb-clip-base-siglip/v1", "ViT-H-14-quickgelu/dfn5b"])
def test_licences_that_forbid_commercial_use(name: str) -> None:
    assert is_non_commercial(MODELS[name].licence)
    assert MODELS[name].licence in licence_line(MODELS[name])


@pytest.mark.parametrize(("licence", "forbids"), [("cc-by-nc-sa-4.0", True), ("MIT", False), ("", False)])
def test_licences_of_other_models(licence: str, forbids: bool) -> None:
    assert is_non_commercial(licence) is forbids
    assert licence_line(Known(name="mine", source="hf:org/mine", hub="org/mine", languages=(), dim=0, licence=licence))
