"""Texts that tokenizers must get right, and the vocabularies to try them with."""

import gzip
from collections.abc import Sequence
from pathlib import Path

SENTENCES = {
    "en": "A brown dog isn't running on the grass; it's asleep at 7 o'clock.",
    "zh": "一只棕色的狗在草地上奔跑，旁边有两个孩子。",
    "ja": "茶色い犬が草の上を走っていて、そばに子どもが二人います。",
    "ko": "갈색 개가 풀밭 위를 달리고 옆에 아이가 두 명 있어요.",
    "fr": "Un chien brun court dans l'herbe, près de deux élèves âgés.",
    "de": "Ein brauner Hund läuft über die Wiese, daneben stehen zwei Mädchen und ein großer Bär.",
    "es": "Un perro marrón corre por el césped, ¿y dónde están los niños?",
    "it": "Un cane marrone corre sull'erba, perché c'è il sole.",
    "pt": "Um cão castanho corre na relva, ao lado de duas crianças.",
    "nl": "Een bruine hond rent over het gras, naast twee kinderen en een reeën.",
    "pl": "Brązowy pies biegnie po trawie, obok stoją dwie małe dziewczynki.",
    "ru": "Коричневая собака бежит по траве, рядом стоят двое детей.",
    "uk": "Коричневий собака біжить по траві, а поруч їдять двоє дітей.",
    "ar": "كلب بني يركض على العشب وبجانبه طفلان.",
    "hi": "एक भूरा कुत्ता घास पर दौड़ रहा है और पास में दो बच्चे हैं।",
    "th": "สุนัขสีน้ำตาลวิ่งบนสนามหญ้าข้าง ๆ เด็กสองคน",
    "tr": "Kahverengi bir köpek çimlerde koşuyor, İstanbul'da IŞIK var.",
    "vi": "Một con chó màu nâu đang chạy trên cỏ, bên cạnh là hai đứa trẻ.",
}

ODD = (
    "",
    " ",
    "\t a \n\r\n dog\x0b\x0c ",
    "salt &amp; pepper &amp;amp; &lt;b&gt; &#x1F600; &nbsp;&eacute;",
    "“curly” ‘quotes’ — it’s an en–dash…",
    "ﬁve ﬂowers, oﬃce, ĳsland, ǆ",
    "ＦＵＬＬ　ｗｉｄｔｈ　１２３　ｶﾀｶﾅ",
    "ΟΔΥΣΣΕΥΣ ΣΑΣ Σ ΑΣ. ὈΔΥΣΣΕΎΣ",
    "cafÃ© schÃ¶n â€œquotedâ€\x9d",
    "the <end_of_text> of <START_OF_TEXT>!<end_of_text> and<end_of_text>7<end_of_text><end_of_text>",
    "[CLS] [SEP] [MASK] <s> </s> <mask> <pad> <unk>",
    "👩‍👩‍👧 🎉🎉 ❤️ 🇨🇳 ☃",
    "bell\x07 null\x00 zero\u200bwidth\ufeff\u202eleft\x1b[31mred",
    "e\u0301 vs é, \u1100\u1161\u11a8, a\u0345b",
    "half a pair \ud83d, the other \ude00, both \ud83d\ude00",
    "it'ſ <ſtart_of_text> Kelvin K, Å, ẞ, İ, ŉ",
    "1234567890 3.14 ½ Ⅷ ٣ 百",
    "snake_case kebab-case C++ #hashtag @user a/b\\c",
    "𝔣𝔯𝔞𝔨𝔱𝔲𝔯 𠮷野家 㐀",
    "x" * 300,
    "one dog and another, " * 60,
    "狗" * 120,
)

TEXTS = (*SENTENCES.values(), *ODD)


def clip_merges(shared_data: Path) -> list[str]:
    """The merges that CLIP uses, of those in OpenAI's file."""
    packed = (shared_data / "vocab" / "bpe_simple_vocab_16e6.txt.gz").read_bytes()
    return gzip.decompress(packed).decode().split("\n")[1 : 49152 - 256 - 2 + 1]


def bert_vocabulary(shared_data: Path) -> list[str]:
    text = (shared_data / "vocab" / "chinese_clip_bert_vocab.txt").read_text(encoding="utf-8")
    return text.removesuffix("\n").split("\n")


def differing(texts: Sequence[str], ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> list[str]:
    """The texts whose ids differ, as they would be typed."""
    rows = zip(texts, ours, theirs, strict=True)
    return [ascii(text) for text, mine, other in rows if list(mine) != list(other)]
