"""Small tokenizers of the kinds that English models have, over the words of the English lexicon."""

from __future__ import annotations

from collections.abc import Iterator

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import PreTrainedTokenizerFast

from circuitbook.tasks import gendered_pronoun, greater_than, ioi
from circuitbook.tasks.constructions import CONSTRUCTIONS
from circuitbook.tasks.lexicon import ENGLISH

SPACE = "Ġ"  # of byte-level tokenizers


def english_words() -> list[str]:
    """Every word of the lexicon and of the tasks' frames."""
    e = ENGLISH
    words = {
        *e.people,
        *e.female,
        *e.male,
        *e.more_female,
        *e.more_male,
        *e.places,
        *e.objects,
        *e.events,
        *e.speech,
        "she",
        "he",
    }
    pairs = (*e.humans, *e.things, *e.verbs, *e.transitive, *e.intransitive, *e.long_phrases)
    words |= {word for pair in pairs for form in pair for word in form.split()}
    frames = [*ioi.FRAMES, gendered_pronoun.FRAME, greater_than.FRAME]
    frames += [*gendered_pronoun.ENDINGS, *gendered_pronoun.MORE_ENDINGS]
    frames += [kind.frame for kind in CONSTRUCTIONS.values()]
    for text in (*frames, *e.prepositions, *e.thing_prepositions, "So and"):
        words |= {word.strip(",.") for word in text.split() if "{" not in word and "'" not in word}
    return sorted(words - {""})


def _bpe(space: str, drop: tuple[str, ...], years: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Tokens and merges in which each word with its space is one token, less those in `drop`.

    years: "pairs" (" 17" + "32"), "spaced pairs" (" 32" is a token too), "three" (" 173" + "2") or
    "" (each digit alone).
    """
    tokens: dict[str, None] = {}
    merges: dict[tuple[str, str], None] = {}

    def chain(text: str, start: str) -> None:
        for c in text:
            merges[start, c] = None
            start += c
            tokens[start] = None

    if years:
        for century in range(10, 21):
            chain(str(century), space)
    if years == "three":
        for decade in range(100, 210):
            chain(str(decade), space)
    for word in english_words():
        if word not in drop:
            chain(word, space)
    for year in range(100) if years.endswith("pairs") else ():
        chain(f"{year:02d}"[1], f"{year:02d}"[0])
        if years == "spaced pairs":
            chain(f"{year:02d}", space)
    return list(tokens), list(merges)


def byte_level(
    drop: tuple[str, ...] = (), prefix_space: bool = False, years: str = "pairs", **special: str
) -> PreTrainedTokenizerFast:
    """As GPT-2's, Pythia's or, with years="", SmolLM2's."""
    tokens, merges = _bpe(SPACE, drop, years)
    vocabulary: dict[str, int] = {}
    for token in ("<|end|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *tokens):
        vocabulary.setdefault(token, len(vocabulary))
    inner = Tokenizer(models.BPE(vocabulary, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    if not years:
        digits = pre_tokenizers.Digits(individual_digits=True)
        inner.pre_tokenizer = pre_tokenizers.Sequence([digits, inner.pre_tokenizer])
    inner.decoder = decoders.ByteLevel()
    special = {"eos_token": "<|end|>"} | special
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)


def sentence_piece(scheme: str, years: str = "") -> PreTrainedTokenizerFast:
    """As Llama's, which puts "<s>" in front unless it is told not to.

    scheme: how a space comes in front of a text: "prepend" (a normalizer's), "always" or "first" (a
    pre-tokenizer's, which also splits at spaces).
    """
    tokens, merges = _bpe("▁", (), years)
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{i:02X}>": 3 + i for i in range(256)}
    for token in (*map(chr, range(33, 127)), "▁", *tokens):
        vocabulary.setdefault(token, len(vocabulary))
    inner = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    if scheme == "prepend":
        inner.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        inner.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=scheme)
    inner.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)


def unigram() -> PreTrainedTokenizerFast:
    """A SentencePiece model of the other kind, as T5's: the likeliest pieces, digits alone."""
    pieces = [("<unk>", 0.0), ("▁", -8.0), *((chr(c), -9.0) for c in range(33, 127))]
    pieces += [("▁" + word, -5.0) for word in english_words()]
    inner = Tokenizer(models.Unigram(list(dict(pieces).items()), unk_id=0))
    inner.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always")
    inner.decoder = decoders.Metaspace("▁")
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


def word_piece(lower: bool) -> PreTrainedTokenizerFast:
    """As BERT's: pieces behind the first begin with "##"."""
    words = [word.lower() if lower else word for word in english_words()]
    letters = [chr(c) for c in range(33, 127)]
    vocabulary: dict[str, int] = {}
    for token in ("[UNK]", "[CLS]", "[SEP]", *letters, *("##" + c for c in letters), *words):
        vocabulary.setdefault(token, len(vocabulary))
    inner = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=lower)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]")


def word_level(drop: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """Whole words with their spaces and two digits, as the mini suite's, but of English; "<unk>"
    for what it does not know."""
    pattern = r"'t| ?[A-Za-z]+| ?\d\d| ?[^\sA-Za-z\d]|\s"
    years = [f"{year:02d}" for year in range(100)]
    known = [word for word in [*english_words(), "isn"] if word not in drop]
    tokens = ["<unk>", *years, *(" " + y for y in years), "'t", ",", ".", *known]
    tokens += [" " + word for word in known]
    inner = Tokenizer(models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    inner.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")


def every_kind() -> Iterator[tuple[str, PreTrainedTokenizerFast]]:
    """Those that the tasks can be put to."""
    yield "byte-level", byte_level(drop=("Brandon", "Connor", "Kyle", "hates", "banker"))
    yield "prefix space", byte_level(prefix_space=True, years="spaced pairs")
    yield "single digits", byte_level(years="", bos_token="<|end|>")
    yield "prefix space without years of its own", byte_level(prefix_space=True)
    for scheme in ("prepend", "always", "first"):
        yield f"SentencePiece {scheme}", sentence_piece(scheme)
    yield "SentencePiece with years", sentence_piece("always", years="pairs")
    yield "unigram", unigram()
    yield "words", word_level()
