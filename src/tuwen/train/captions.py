"""Which captions a picture has, by language, and which of them is drawn in an epoch.

Knows how sources name captions and languages. Does not know tokens.
"""

import json
from collections.abc import Mapping
from random import Random
from typing import TypeAlias

from tuwen.prepare.samples import Fact, Listed, Sample
from tuwen.train.config_data import PairSource

Captions: TypeAlias = Mapping[str, tuple[str, ...]]
"""language, "" where it is not known -> texts; none is empty"""


def captions_of(listed: Listed, sample: Sample, source: PairSource) -> Captions:
    """A picture's captions: those beside it, one a line; or those in the columns that the source names."""
    beside = listed.caption is not None or listed.facts is not None
    columns = source.captions if isinstance(source.captions, Mapping) else {}
    if not columns:
        if beside and isinstance(source.captions, str):
            found = {source.language or "": _texts(sample.extra.get(source.captions))}
        else:
            found = {source.language or "": _lines(sample.captions) if beside else _kept(sample.captions)}
    else:
        found = {language: _texts(sample.extra.get(column)) for language, column in columns.items()}
        if not beside:  # the first of them was asked for as the column of captions
            found[next(iter(columns))] = _kept(sample.captions)
    return {language: texts for language, texts in found.items() if texts}


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
    return _kept(tuple(line for text in texts for line in text.splitlines()))


def _texts(value: Fact) -> tuple[str, ...]:
    """A field's texts: itself, or those of a list, which readers give as JSON."""
    if not isinstance(value, str):
        return ()
    try:
        several = json.loads(value) if value.startswith("[") else None
    except ValueError:
        several = None
    is_list = isinstance(several, list) and all(isinstance(text, str) for text in several)
    return _kept(tuple(several) if several is not None and is_list else (value,))


def _kept(texts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(text.strip() for text in texts if text.strip())
