"""Labels written into XMP sidecars: `cat.jpg.xmp` beside `cat.jpg`, as photo managers read them. Images stay untouched.

XMP is RDF in XML (ISO 16684-1); keywords are the bag `dc:subject` of Dublin Core.
"""

from collections.abc import Sequence
from pathlib import Path
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from tuwen.bundle.files import replace_text
from tuwen.data.sidecars import EXTENSION, Sidecars
from tuwen.errors import InvalidInput

_DC = "http://purl.org/dc/elements/1.1/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_XMLNS = "http://www.w3.org/2000/xmlns/"
_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    f' <rdf:RDF xmlns:rdf="{_RDF}">\n  <rdf:Description rdf:about=""/>\n </rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="w"?>'
)


def sidecar_of(image: Path, sidecars: Sidecars) -> Path:
    """The sidecar that an image has, see `Sidecars.of`; or else `cat.jpg.xmp`, which may be created."""
    found = sidecars.of(image)
    return image.with_name(image.name + EXTENSION) if found is None else found.path


def add_keywords(sidecar: Path, keywords: Sequence[str]) -> bool:
    """Add keywords to those of a sidecar, which is created if there is none. All else in it is kept.

    Returns:
        Whether the file was written: it is not if it has all the keywords.

    Raises:
        InvalidInput: the file exists and is not XMP in UTF-8, or cannot be read or written.
    """
    try:
        content = sidecar.read_bytes() if sidecar.exists() else _EMPTY.encode()
        document = _parsed(content, sidecar)
        bag = _bag(document, sidecar)
        there = {_text(item) for item in bag.getElementsByTagNameNS(_RDF, "li")}
        missing = [keyword for keyword in dict.fromkeys(keywords) if keyword not in there]
        for keyword in missing:
            item = document.createElementNS(_RDF, bag.tagName.replace(bag.localName, "li"))
            item.appendChild(document.createTextNode(keyword))
            bag.appendChild(item)
        if missing:
            replace_text(sidecar, "".join(f"{node.toxml()}\n" for node in document.childNodes))
    except OSError as error:
        raise InvalidInput(f"{sidecar} cannot be written: {error.strerror or error}", where=sidecar) from error
    return bool(missing)


def _parsed(content: bytes, sidecar: Path) -> minidom.Document:
    """The document. One with a document type, which XMP has not, is refused: its entities could be of any size."""
    try:
        if "<!DOCTYPE" in content.decode("utf-8"):
            raise InvalidInput(f"{sidecar} has a document type, which XMP does not allow", where=sidecar)
        return minidom.parseString(content)
    except (UnicodeDecodeError, ExpatError) as error:
        raise InvalidInput(f"{sidecar} is not XMP in UTF-8: {error}", where=sidecar) from error


def _bag(document: minidom.Document, sidecar: Path) -> minidom.Element:
    """The list of keywords, created if there is none."""
    roots = document.getElementsByTagNameNS(_RDF, "RDF")
    if not roots:
        raise InvalidInput(f"{sidecar} is not XMP: it has no rdf:RDF", where=sidecar)
    prefix = roots[0].tagName.removesuffix("RDF")
    for subject in document.getElementsByTagNameNS(_DC, "subject"):
        for kind in ("Bag", "Seq", "Alt"):
            if lists := subject.getElementsByTagNameNS(_RDF, kind):
                return lists[0]
    descriptions = document.getElementsByTagNameNS(_RDF, "Description")
    parent = (
        descriptions[0]
        if descriptions
        else roots[0].appendChild(document.createElementNS(_RDF, f"{prefix}Description"))
    )
    subject = parent.appendChild(document.createElementNS(_DC, "dc:subject"))
    subject.setAttributeNS(_XMLNS, "xmlns:dc", _DC)
    return subject.appendChild(document.createElementNS(_RDF, f"{prefix}Bag"))


def _text(element: minidom.Element) -> str:
    return "".join(node.data for node in element.childNodes if isinstance(node, minidom.Text)).strip()
