"""Train the tokenizer: byte-pair encoding over all possible captions, saved as `tokenizer.json`.

A Unigram vocabulary was different in every run.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

PAD, UNK, START, END = "<pad>", "<unk>", "<s>", "</s>"
PAD_ID, UNK_ID, START_ID, END_ID = range(4)
VOCABULARY = 11_000
CONTEXT = 40
"""maximum number of tokens of a text; the longest names have about 30"""


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Train on the texts. NFKC and lower case are part of `tokenizer.json`, so that no other cleaning is needed."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNK))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    tokenizer.decoder = decoders.Fuse()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, UNK, START, END],
        show_progress=False,
        max_token_length=12,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, START_ID), (END, END_ID)]
    )
    return tokenizer


def tokenizer_file(work: Path, texts: Callable[[], Iterable[str]]) -> Path:
    """The file of the trained tokenizer in a folder; the tokenizer is trained if there is none yet."""
    path = work / "tokenizer.json"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        train_tokenizer(texts()).save(str(path))
    return path
