import pytest

import colours
from data.material import SENTENCES
from tuwen.runtime.languages import text_notes, unknown_scripts
from tuwen.runtime.loading import Choice, load_encoder

SCRIPTS = {
    "zh": {"Han"},
    "ja": {"Han", "Hiragana", "Katakana"},
    "ko": {"Hangul"},
    "ru": {"Cyrillic"},
    "uk": {"Cyrillic"},
    "ar": {"Arabic"},
    "hi": {"Devanagari"},
    "th": {"Thai"},
}
"""of the languages that are not written in Latin"""


@pytest.mark.parametrize("language", SENTENCES)
def test_each_language_knows_its_own_script_and_no_other(language: str) -> None:
    script = SCRIPTS.get(language, {"Latin"})
    assert unknown_scripts(SENTENCES[language], [language]) == ()
    for other, sentence in SENTENCES.items():
        unknown = unknown_scripts(sentence, [language])
        expected = SCRIPTS.get(other, {"Latin"}) - script
        assert set(unknown) <= expected
        assert bool(unknown) == bool(expected), other


def test_any_of_the_languages_will_do() -> None:
    assert unknown_scripts("a dog, 一只狗", ["en", "zh"]) == ()
    assert unknown_scripts("一只狗 a dog собака", ["ru"]) == ("Han", "Latin")
    assert unknown_scripts("собака 一只狗", ["en"]) == ("Cyrillic", "Han")


@pytest.mark.parametrize("text", ["", "123 4.5", "?! «…» —", "🎉 ❤️ 👩‍👩‍👧", "５％", "5 µ²", "①½", "+−×÷", "\x00\t"])
def test_what_is_no_letter_is_in_no_script(text: str) -> None:
    assert unknown_scripts(text, ["zh"]) == ()


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("ＤＯＧ", "Latin"),
        ("ｶﾀｶﾅ", "Katakana"),
        ("ひらがな", "Hiragana"),
        ("שלום", "Hebrew"),
        ("Σκύλος", "Greek"),
        ("நாய்", "Tamil"),
        ("ዕይ", "Ethiopic"),
        ("한글", "Hangul"),
        ("ㄅㄆ", "Bopomofo"),
        ("𠮷", "Han"),
    ],
)
def test_scripts_by_name(text: str, script: str) -> None:
    assert unknown_scripts(text, ["ru"]) == (script,)


def test_language_tags_may_be_longer() -> None:
    assert unknown_scripts("一只狗", ["zh-Hans"]) == ()
    assert unknown_scripts("um cão", ["pt_BR"]) == ()


def test_nothing_is_said_of_languages_that_are_not_known() -> None:
    assert unknown_scripts("一只狗", []) == ()
    assert unknown_scripts("一只狗", ["en", "tlh"]) == ()


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
