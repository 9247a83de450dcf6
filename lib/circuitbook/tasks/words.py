"""Words as a tokenizer writes them in running text, and which words of a lexicon it can be asked.

A word's tokens are found where it stands: they are what a text gains when the word is written
behind it. So nothing is assumed about spaces: " Mary" is one token for Pythia, "▁Mary" for a
SentencePiece tokenizer, which would make two of " Mary" alone.

    tokens_after(tokenizer, "to", ["Mary", "Hermione"]) -> [(6393,), (19423, 6035)]
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

from transformers import BatchEncoding, PreTrainedTokenizerBase

from circuitbook.tasks.lexicon import Lexicon, held_out_pair, lexicon_for

Forms = tuple[str, str]  # singular and plural
Word = TypeVar("Word", str, Forms)
WAY_OUT = "the task cannot be put to its models"  # where there is none


# ------------------------------------------------------------------ tokens in context


def tokenizer_name(tokenizer: PreTrainedTokenizerBase) -> str:
    """As errors name it."""
    return repr(tokenizer.name_or_path or type(tokenizer).__name__)


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> BatchEncoding:
    """Texts as tokens without special ones in front or behind, each as long as it is.

    ValueError for a tokenizer that does not say where in the text a token stands.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ValueError(
            f"tokenizer {tokenizer_name(tokenizer)} ({type(tokenizer).__name__}) does not say "
            "which characters a token stands for, and the tasks find their positions by that; save "
            "it as a fast tokenizer (tokenizer.json: AutoTokenizer.from_pretrained(..., "
            "use_fast=True).save_pretrained(folder))"
        )
    return tokenizer(list(texts), add_special_tokens=False, padding=False, truncation=False)


def offsets(encoding: BatchEncoding, i: int) -> list[tuple[int, int]]:
    """First character of each token of text `i`, and the one behind its last."""
    assert encoding.encodings is not None  # of a fast tokenizer: see `encode`
    return encoding.encodings[i].offsets


def unread(
    tokenizer: PreTrainedTokenizerBase, encoding: BatchEncoding, i: int, text: str, start: int = 0
) -> str:
    """The first piece of text `i`, from a character on, that the tokenizer does not know or leaves
    out; "" for none."""
    read: set[int] = set()
    tokens = zip(encoding["input_ids"][i], offsets(encoding, i), strict=True)
    for token, (begin, end) in tokens:
        if token == tokenizer.unk_token_id and end > start:
            return text[begin:end]
        read.update(range(begin, end))
    lost = (at for at in range(start, len(text)) if at not in read and not text[at].isspace())
    at = next(lost, None)
    return "" if at is None else text[:at].rpartition(" ")[2] + text[at:].partition(" ")[0]


def tokens_after(
    tokenizer: PreTrainedTokenizerBase, text: str, words: Sequence[str]
) -> list[tuple[int, ...]]:
    """What tokens a text gains by each word behind it, parted from it by a space.

    No tokens for a word that is not known, or that changes the tokens of the text itself.
    """
    texts = [text, *(f"{text} {word}" for word in words)]
    encoding = encode(tokenizer, texts)
    before = encoding["input_ids"][0]
    gained = []
    for i, row in enumerate(encoding["input_ids"][1:], 1):
        stays = row[: len(before)] == before
        known = not unread(tokenizer, encoding, i, texts[i], start=len(text))
        gained.append(tuple(row[len(before) :]) if stays and known else ())
    return gained


def single_tokens(
    tokenizer: PreTrainedTokenizerBase, words: Sequence[str], after: Sequence[str] = ("and",)
) -> dict[str, int]:
    """The words that are one known token behind each of these texts, and their token.

    single_tokens(tokenizer, ["Mary", "Hermione"]) -> {"Mary": 6393}, for Pythia's tokenizer
    """
    gained = (tokens_after(tokenizer, text, words) for text in after)
    found = [set(tokens) for tokens in zip(*gained, strict=True)]
    return {
        word: next(iter(tokens))[0]
        for word, tokens in zip(words, found, strict=True)
        if len(tokens) == 1 and len(next(iter(tokens))) == 1
    }


def single_token(
    tokenizer: PreTrainedTokenizerBase, word: str, after: str = "and", task: str = ""
) -> int:
    """The id of a word that must be one token behind a text: of " she" 703, for Pythia's tokenizer.

    The space before it may be given. ValueError, which names the task, if it is not one.
    """
    bare = word.removeprefix(" ")
    (tokens,) = tokens_after(tokenizer, after, [bare])
    if len(tokens) != 1:
        how = f"{len(tokens)} tokens, where one is needed," if tokens else "not known"
        way_out = "the lexicon (circuitbook.tasks.lexicon) needs another word for it"
        raise ValueError(
            (f"{task}: " if task else "")
            + f"{word!r} is {how} for tokenizer {tokenizer_name(tokenizer)}; "
            + (WAY_OUT if task else way_out)
        )
    return tokens[0]


def same_length(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Forms], after: str
) -> list[Forms]:
    """The pairs of which both words are known and have as many tokens behind a text: they can stand
    for each other."""
    tokens = tokens_after(tokenizer, after, [word for pair in pairs for word in pair])
    both = zip(pairs, tokens[::2], tokens[1::2], strict=True)
    return [pair for pair, first, second in both if len(first) == len(second) > 0]


def known(tokenizer: PreTrainedTokenizerBase, words: Sequence[Word], after: str) -> list[Word]:
    """The words (or pairs of forms) that the tokenizer knows behind a text, of however many
    tokens."""
    forms = [form for word in words for form in _forms(word)]
    tokens = dict(zip(forms, tokens_after(tokenizer, after, forms), strict=True))
    return [word for word in words if all(tokens[form] for form in _forms(word))]


def _forms(word: str | Forms) -> tuple[str, ...]:
    return (word,) if isinstance(word, str) else word


def token_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Every token as text, by its id, without spaces around it and without the marks that stand for
    them."""
    pieces = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    texts = (tokenizer.convert_tokens_to_string([piece]) if piece else "" for piece in pieces)
    return [text.strip(" \n\t\r▁Ġ") for text in texts]


# ------------------------------------------------------------------ which words can be asked

# With fewer words than these a task is refused. In the mini suite's language, whose lists are
# shorter, with fewer than half.
FEWEST = {
    "people": 40,
    "places": 8,
    "objects": 4,
    "names": 10,
    "events": 10,
    "verbs": 20,
    "humans": 8,
    "things": 4,
    "transitive": 3,
    "intransitive": 3,
    "long_phrases": 3,
    "speech": 1,
    "prepositions": 1,
    "thing_prepositions": 1,
}


class Vocabulary:
    """The words of a lexicon that a tokenizer can be asked about, and those that are left out."""

    def __init__(self, task: str, tokenizer: PreTrainedTokenizerBase) -> None:
        """ValueError if the tokenizer does not tell capital letters from small ones."""
        self.task, self.tokenizer = task, tokenizer
        self.lexicon: Lexicon = lexicon_for(tokenizer)
        self.left_out: dict[str, tuple[str, ...]] = {}
        proper, small = encode(tokenizer, ["So Mary and John", "so mary and john"])["input_ids"]
        if proper == small and tokenizer.unk_token_id not in proper:
            raise ValueError(
                f"{task}: tokenizer {tokenizer_name(tokenizer)} does not tell 'Mary' from 'mary' "
                "(it makes all letters small, as BERT's uncased ones do), and the tasks' prompts "
                "have names and sentences; they can be put to models whose tokenizer keeps text as "
                "it is"
            )

    def partners(self, people: Sequence[str]) -> dict[str, list[str]]:
        """{receiver: givers}, of those who have one: where pairs are held out from training, these
        alone."""
        apart = self.lexicon.holds_out
        givers = {
            io: [s for s in people if io != s and (not apart or held_out_pair(io, s))]
            for io in people
        }
        return {io: found for io, found in givers.items() if found}

    def keep(
        self,
        slot: str,
        words: Sequence[Word],
        fitting: Collection[Word],
        must: str,
        way_out: str = WAY_OUT,
    ) -> list[Word]:
        """The words that are `fitting`; the others are noted in `left_out`.

        ValueError with fewer than `FEWEST`, saying what they `must` be and the way out.
        """
        kept = [word for word in words if word in fitting]
        lost: tuple[str, ...] = tuple(
            "/".join(_forms(word)) for word in words if word not in fitting
        )
        if lost:
            self.left_out[slot] = tuple(dict.fromkeys((*self.left_out.get(slot, ()), *lost)))
        fewest = FEWEST[slot]
        if self.lexicon.holds_out:
            fewest = min(fewest, (len(words) + 1) // 2)
        if len(kept) < fewest:
            raise ValueError(
                f"{self.task}: for tokenizer {tokenizer_name(self.tokenizer)} only {len(kept)} of "
                f"the {len(words)} {slot.replace('_', ' ')} of the {self.lexicon.name} lexicon "
                f"{must} ({lost[0]!r}, for one, is not so), and {fewest} are needed; {way_out}"
            )
        return kept

    def keep_known(
        self, slot: str, words: Sequence[Word], after: str, way_out: str = WAY_OUT
    ) -> list[Word]:
        """The words that the tokenizer knows, of however many tokens."""
        return self.keep(slot, words, known(self.tokenizer, words, after), "are known", way_out)
