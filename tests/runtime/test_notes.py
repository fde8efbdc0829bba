import colours
from tuwen.runtime.languages import text_notes
from tuwen.runtime.loading import Choice, load_encoder


def test_a_script_that_no_language_of_the_model_has_is_noted(encoder) -> None:
    (note,) = text_notes(["собака", "red", "कुत्ता"], encoder)
    assert "Cyrillic, Devanagari" in note
    assert "en, de, zh" in note


def test_known_scripts_numbers_and_emoji_are_not_noted(encoder) -> None:
    assert text_notes(["grün 红 42 🐱 !?"], encoder) == []
    assert text_notes([], encoder) == []


def test_a_long_text_is_noted(encoder) -> None:
    (note,) = text_notes(["red " * colours.CONTEXT], encoder)
    assert str(colours.CONTEXT) in note
    (note,) = text_notes(["red", "red " * 50, "blue " * 50], encoder)
    assert note.startswith("2 of 3 texts are longer")


def test_a_model_that_names_no_languages_gets_no_note(tmp_path) -> None:
    folder = colours.make_bundle(tmp_path / "plain", languages=())
    plain = load_encoder(str(folder), Choice(runtime="onnxruntime"), models=tmp_path, cache=None)
    assert text_notes(["собака"], plain) == []
