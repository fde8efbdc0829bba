"""Labels in XMP sidecars, read back by a parser that is not the one that wrote them."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tuwen.classify.sidecars import add_keywords, sidecar_of
from tuwen.data.sidecars import Sidecars
from tuwen.errors import InvalidInput

LIST = "{http://purl.org/dc/elements/1.1/}subject/*/{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"
LIGHTROOM = """<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 7.0">
 <!-- a comment -->
 <r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <r:Description r:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/" xmp:Rating="4" crs:Exposure2012="+0.35">
   <dc:subject><r:Bag><r:li>holiday</r:li><r:li>Köln &amp; Bonn</r:li></r:Bag></dc:subject>
   <dc:title><r:Alt><r:li xml:lang="x-default">A title</r:li></r:Alt></dc:title>
  </r:Description>
 </r:RDF>
</x:xmpmeta>
"""


def keywords(file: Path) -> list[str | None]:
    root = ElementTree.parse(file).getroot()
    return [item.text for item in root.iterfind(f".//{LIST}")]


def test_a_new_sidecar(tmp_path: Path) -> None:
    file = sidecar_of(tmp_path / "cat.jpg", Sidecars())
    assert file.name == "cat.jpg.xmp"
    assert add_keywords(file, ["猫", "a <b> & c", "猫"])
    assert keywords(file) == ["猫", "a <b> & c"]
    before = file.read_bytes()
    assert not add_keywords(file, ["猫"])
    assert file.read_bytes() == before
    assert add_keywords(file, ["dog"])
    assert keywords(file) == ["猫", "a <b> & c", "dog"]
    assert [path.name for path in tmp_path.iterdir()] == ["cat.jpg.xmp"]


def test_what_other_programs_wrote_is_kept(tmp_path: Path) -> None:
    (tmp_path / "cat.xmp").write_text(LIGHTROOM, encoding="utf-8")
    file = sidecar_of(tmp_path / "cat.nef", Sidecars())
    assert file == tmp_path / "cat.xmp"
    assert add_keywords(file, ["holiday", "cat"])
    assert keywords(file) == ["holiday", "Köln & Bonn", "cat"]
    text = file.read_text(encoding="utf-8")
    for kept in (
        'xmp:Rating="4"',
        'crs:Exposure2012="+0.35"',
        "<!-- a comment -->",
        "A title",
        'x:xmptk="XMP Core 7.0"',
    ):
        assert kept in text
    (tmp_path / "cat.nef.xmp").write_text(LIGHTROOM, encoding="utf-8")
    assert sidecar_of(tmp_path / "cat.nef", Sidecars()).name == "cat.nef.xmp"


@pytest.mark.parametrize("inner", ["<r:Description r:about=''/>", ""])
def test_a_sidecar_without_keywords(tmp_path: Path, inner: str) -> None:
    file = tmp_path / "a.jpg.xmp"
    file.write_text(f"<r:RDF xmlns:r='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>{inner}</r:RDF>", encoding="utf-8")
    assert add_keywords(file, ["cat"])
    assert keywords(file) == ["cat"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not XML",
        b"<a/>",
        LIGHTROOM.encode("utf-16"),
        b'<!DOCTYPE a [<!ENTITY b "bbbb">]><a>&b;</a>',
        LIGHTROOM[:300].encode(),
    ],
)
def test_what_is_no_xmp_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.jpg.xmp"
    file.write_bytes(content)
    with pytest.raises(InvalidInput) as raised:
        add_keywords(file, ["cat"])
    assert raised.value.where == file
    assert file.read_bytes() == content
