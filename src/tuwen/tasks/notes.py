"""What a person should know about a text before trusting what it finds. One line each, never an error."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tuwen.prepare.scripts import unknown_scripts

if TYPE_CHECKING:
    from tuwen.runtime.encoder import Encoder


def text_notes(texts: Sequence[str], encoder: "Encoder") -> list[str]:
    """Lines about scripts that the model was not trained on, and about texts that are too long for it."""
    return [*_script_notes(texts, encoder), *_length_notes(texts, encoder)]


def _script_notes(texts: Sequence[str], encoder: "Encoder") -> list[str]:
    languages = encoder.text_spec.languages
    if not languages:
        return []
    scripts = sorted({script for text in texts for script in unknown_scripts(text, languages)})
    if not scripts:
        return []
    return [
        f"the model {encoder.name} does not know {', '.join(scripts)} script (its languages: "
        f"{', '.join(languages)}): expect poor results"
    ]


def _length_notes(texts: Sequence[str], encoder: "Encoder") -> list[str]:
    truncated = encoder.to_tokens(texts).truncated if texts else 0
    if not truncated:
        return []
    which = "the text is" if len(texts) == 1 else f"{truncated} of {len(texts)} texts are"
    return [f"{which} longer than the model's {encoder.text_spec.context_length} tokens: the end is cut off"]
