"""Which captions a picture has, by language, and which of them is drawn in an epoch.

Knows how sources name captions and languages. Does not know tokens.
"""

from collections.abc import Mapping
from random import Random
from typing import TypeAlias

from tuwen.prepare.samples import Fact, Listed, Sample
from tuwen.prepare.tables import values_of
from tuwen.train.config_data import PairSource

Captions: TypeAlias = Mapping[str, tuple[str, ...]]
"""language, "" where it is not known -> texts; none is empty"""


def captions_of(listed: Listed, sample: Sample, source: PairSource) -> Captions:
    """A picture's captions: those beside it, one a line; or those in the columns that the source names."""
    beside = listed.caption is not None or listed.facts is not None
    if isinstance(source.captions, Mapping):
        found = {language: _texts(sample.extra.get(column)) for language, column in source.captions.items()}
        if not beside:  # the first of them was asked for as the column of captions
            found[next(iter(source.captions))] = sample.captions
    else:
        texts = _texts(sample.extra.get(source.captions)) if beside and source.captions else sample.captions
        texts = _lines(texts) if beside and source.captions is None else texts
        found = _by_language(texts, source, sample)
    kept = {language: _kept(texts) for language, texts in found.items()}
    return {language: texts for language, texts in kept.items() if texts}


def _by_language(texts: tuple[str, ...], source: PairSource, sample: Sample) -> dict[str, tuple[str, ...]]:
    """Captions by what the source says of them, or a column: of all of them, or of each."""
    if source.language_column is None:
        return {source.language or "": texts}
    spoken = _texts(sample.extra.get(source.language_column))
    each = spoken if len(spoken) > 1 else (spoken or ("",)) * len(texts)
    if len(each) != len(texts):
        return {}  # nobody can say which is in which
    found: dict[str, tuple[str, ...]] = {}
    for language, text in zip(each, texts, strict=True):
        found[language] = (*found.get(language, ()), text)
    return found


def draw(captions: Captions, weights: Mapping[str, float], random: Random) -> str | None:
    """One caption: with weights, of a language drawn by them; else any. None: there is none of those languages."""
    if not weights:
        every = [text for texts in captions.values() for text in texts]
        return random.choice(every) if every else None
    spoken = [language for language in captions if language in weights]
    if not spoken:
        return None
    (language,) = random.choices(spoken, [weights[language] for language in spoken])
    return random.choice(captions[language])


def _lines(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(line for text in texts for line in text.splitlines())


def _texts(value: Fact) -> tuple[str, ...]:
    return tuple(values_of(value))


def _kept(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text.strip() for text in texts if text.strip())
