"""A tokenizer rebuilt from the metadata of a GGUF file, which keeps the vocabulary but not the rules around it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from isochrone.errors import BadModel

from .pretokenizers import pre_tokenizer
from .spec import NUM_TOKENS_MAX, TOKENS_THAT_END_A_TURN, TokenizerSpec, special_token, surround

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
MARK = "▁"  # how SentencePiece writes a space
T = TypeVar("T")
_FIX = "Download the file again, or use the model's Hugging Face directory."


def spec_from_gguf(metadata: Mapping[str, Any]) -> TokenizerSpec:
    """The tokenizer of a file, from its keys `tokenizer.ggml.*` and `tokenizer.chat_template`.

    Kinds: gpt2 (byte-level BPE), llama (SentencePiece BPE with byte fallback), t5 (unigram), bert (WordPiece).
    Raises BadModel when a key is missing, has the wrong type, or contradicts another.
    """
    vocabulary = _Vocabulary.read(metadata)
    kind = vocabulary.text("model", None)
    build = _BUILDERS.get(kind or "")
    if build is None:
        raise BadModel(
            f"The file's tokenizer is of kind {kind!r}; known are {', '.join(_BUILDERS)}.",
            fix="Use the model's Hugging Face directory if it has a tokenizer.json.",
        )
    library, add_bos, add_eos = build(vocabulary)
    bos_id, eos_id = vocabulary.id("bos_token_id", _BOS_DEFAULT.get(kind or "")), vocabulary.id("eos_token_id", None)
    before = [bos_id] if vocabulary.flag("add_bos_token", add_bos) else []
    after = [eos_id] if vocabulary.flag("add_eos_token", add_eos) else []
    if kind == "bert":
        after = [vocabulary.id("seperator_token_id", vocabulary.id("separator_token_id", eos_id))]
    library["post_processor"] = surround(vocabulary.spell(before), vocabulary.spell(after))
    return TokenizerSpec(
        library=library,
        tokens=vocabulary.tokens,
        special_ids=frozenset(i for i, type in enumerate(vocabulary.types) if type in (CONTROL, UNKNOWN)),
        bos_id=bos_id,
        eos_ids=_eos_ids(vocabulary, eos_id),
        chat_template=_chat_template(metadata),
        named_tokens=_named_tokens(vocabulary, bos_id, eos_id),
    )


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    metadata: Mapping[str, Any]
    tokens: list[str]
    types: Sequence[int]

    @classmethod
    def read(cls, metadata: Mapping[str, Any]) -> _Vocabulary:
        tokens = _strings(metadata, "tokenizer.ggml.tokens")
        if not 0 < len(tokens) <= NUM_TOKENS_MAX:
            raise BadModel(f"tokenizer.ggml.tokens has {len(tokens)} entries.", fix=_FIX)
        types = metadata.get("tokenizer.ggml.token_type")
        if types is None:
            types = [NORMAL] * len(tokens)
        types = _numbers("token_type", types, len(tokens), int)
        return cls(metadata, tokens, types)

    def get(self, name: str) -> Any:
        return self.metadata.get(f"tokenizer.ggml.{name}")

    def text(self, name: str, default: str | None) -> str | None:
        return _typed(name, self.get(name), str, default)

    def flag(self, name: str, default: bool) -> bool:
        return bool(_typed(name, self.get(name), bool, default))

    def id(self, name: str, default: int | None) -> int | None:
        found = _typed(name, self.get(name), int, default)
        if found is not None and not 0 <= found < len(self.tokens):
            if name not in ("bos_token_id", "eos_token_id"):
                return None  # padding and mask ids past the end are common, and nothing here needs them
            raise BadModel(f"{name} is {found}, but there are {len(self.tokens)} tokens.", fix=_FIX)
        return found

    def scores(self) -> Sequence[float]:
        return _numbers("scores", self.get("scores"), len(self.tokens), float)

    def merges(self) -> list[list[str]]:
        merges = [merge.split(" ", 1) for merge in _strings(self.metadata, "tokenizer.ggml.merges")]
        bad = next((i for i, merge in enumerate(merges) if len(merge) != 2), None)
        if bad is not None:
            raise BadModel(f"Merge {bad} of tokenizer.ggml.merges is not two tokens: {merges[bad]!r}.", fix=_FIX)
        return merges

    def ids(self) -> dict[str, int]:
        """Token -> id; the first id where a file repeats a token, as encoding must pick one."""
        return {token: i for i, token in reversed(list(enumerate(self.tokens)))}

    def cut_out(self) -> list[dict[str, Any]]:
        """Tokens found in a text before its words are: control tokens, the unknown token, and those added later."""
        return [
            special_token(i, self.tokens[i], special=type != USER_DEFINED)
            for i, type in enumerate(self.types)
            if type in (CONTROL, UNKNOWN, USER_DEFINED) and self.tokens[i]
        ]

    def spell(self, ids: Sequence[int | None]) -> list[tuple[str, int]]:
        return [(self.tokens[id], id) for id in ids if id is not None]


_Built = tuple[dict[str, Any], bool, bool]  # the library's form, add bos by default, add eos by default


def _library(vocabulary: _Vocabulary, model: dict[str, Any], **rules: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder"))
    return {"version": "1.0", **empty, "added_tokens": vocabulary.cut_out(), "model": model, **rules}


def _bpe(**options: Any) -> dict[str, Any]:
    base = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False}  # fmt: skip
    return {**base, **options}


def _byte_level(vocabulary: _Vocabulary) -> _Built:
    rule = pre_tokenizer(vocabulary.text("pre", None) or "default")
    model = _bpe(vocab=vocabulary.ids(), merges=vocabulary.merges(), ignore_merges=rule.whole_words)
    decoder = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    normalizer = {"type": "NFC"} if rule.nfc else None
    library = _library(vocabulary, model, normalizer=normalizer, pre_tokenizer=rule.as_json(), decoder=decoder)
    return library, rule.add_bos, False


def _sentencepiece(vocabulary: _Vocabulary) -> _Built:
    ids, unknown = vocabulary.ids(), vocabulary.id("unknown_token_id", 0)
    has_bytes = BYTE in vocabulary.types
    model = _bpe(
        vocab=ids, merges=merges_from_scores(vocabulary.tokens, vocabulary.scores(), ids), fuse_unk=True,
        unk_token=None if unknown is None else vocabulary.tokens[unknown], byte_fallback=has_bytes,
    )  # fmt: skip
    prefix = vocabulary.flag("add_space_prefix", True)
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": MARK}
    normalizers = [{"type": "Prepend", "prepend": MARK}, spaces] if prefix else [spaces]
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": MARK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if prefix:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    library = _library(
        vocabulary, model,
        normalizer={"type": "Sequence", "normalizers": normalizers},
        decoder={"type": "Sequence", "decoders": decoders},
    )  # fmt: skip
    return library, True, False


def merges_from_scores(tokens: Sequence[str], scores: Sequence[float], ids: Mapping[str, int]) -> list[list[str]]:
    """SentencePiece keeps no merges: it joins whatever two neighbours make the best-scored token.

    The list that does the same: every split of every token into two tokens, best token first.
    """
    found: list[tuple[float, int, int, int, str, str]] = []
    for token, score in zip(tokens, scores, strict=True):
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in ids and right in ids:
                found.append((-score, ids[token], ids[left], ids[right], left, right))
    found.sort()
    return [[left, right] for *_, left, right in found]


def _unigram(vocabulary: _Vocabulary) -> _Built:
    scores = [float(score) for score in vocabulary.scores()]
    model = {
        "type": "Unigram", "unk_id": vocabulary.id("unknown_token_id", 2), "byte_fallback": BYTE in vocabulary.types,
        "vocab": [[token, score] for token, score in zip(vocabulary.tokens, scores, strict=True)],
    }  # fmt: skip
    normalizers: list[dict[str, Any]] = []
    charsmap = vocabulary.get("precompiled_charsmap")
    if charsmap is not None:
        encoded = base64.b64encode(_bytes("precompiled_charsmap", charsmap)).decode("ascii")
        normalizers.append({"type": "Precompiled", "precompiled_charsmap": encoded})
    if vocabulary.flag("remove_extra_whitespaces", False):
        normalizers.append({"type": "Strip", "strip_left": True, "strip_right": True})
        normalizers.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    prefix = "always" if vocabulary.flag("add_space_prefix", True) else "never"
    marks = {"type": "Metaspace", "replacement": MARK, "prepend_scheme": prefix, "split": True}
    library = _library(
        vocabulary, model, pre_tokenizer=marks, decoder=marks,
        normalizer={"type": "Sequence", "normalizers": normalizers} if normalizers else None,
    )  # fmt: skip
    return library, False, True


def _wordpiece(vocabulary: _Vocabulary) -> _Built:
    unknown = vocabulary.id("unknown_token_id", 100)
    for i, (token, type) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True)):
        if type == NORMAL:  # the file marks the starts of words; WordPiece marks the rest
            vocabulary.tokens[i] = token[1:] if token.startswith(MARK) else f"##{token}"
    model = {
        "type": "WordPiece", "unk_token": None if unknown is None else vocabulary.tokens[unknown],
        "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocabulary.ids(),
    }  # fmt: skip
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                  "strip_accents": None, "lowercase": True}  # fmt: skip
    library = _library(
        vocabulary, model, normalizer=normalizer, pre_tokenizer={"type": "BertPreTokenizer"},
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
    )  # fmt: skip
    return library, True, True


_BUILDERS: dict[str, Callable[[_Vocabulary], _Built]] = {
    "gpt2": _byte_level, "llama": _sentencepiece, "t5": _unigram, "bert": _wordpiece,
}  # fmt: skip
_BOS_DEFAULT: dict[str, int] = {"llama": 1, "bert": 101}


def _eos_ids(vocabulary: _Vocabulary, eos_id: int | None) -> tuple[int, ...]:
    named = [eos_id, vocabulary.id("eot_token_id", None), vocabulary.id("eom_token_id", None)]
    ends = set(TOKENS_THAT_END_A_TURN)
    by_text = [i for i, type in enumerate(vocabulary.types) if type == CONTROL and vocabulary.tokens[i] in ends]
    return tuple(dict.fromkeys(id for id in (*named, *by_text) if id is not None))


def _named_tokens(vocabulary: _Vocabulary, bos_id: int | None, eos_id: int | None) -> dict[str, str]:
    unk_id, pad_id = vocabulary.id("unknown_token_id", None), vocabulary.id("padding_token_id", None)
    ids = {"bos_token": bos_id, "eos_token": eos_id, "unk_token": unk_id, "pad_token": pad_id}
    return {name: vocabulary.tokens[id] for name, id in ids.items() if id is not None}


def _chat_template(metadata: Mapping[str, Any]) -> str | None:
    return _typed("tokenizer.chat_template", metadata.get("tokenizer.chat_template"), str, None)


def _typed(name: str, value: Any, type_: type[T], default: T | None) -> T | None:
    if value is None:
        return default
    if not isinstance(value, type_) or (type_ is int and isinstance(value, bool)):
        raise BadModel(f"{name} should be of type {type_.__name__}, but is {type(value).__name__}.", fix=_FIX)
    return value


def _strings(metadata: Mapping[str, Any], key: str) -> list[str]:
    values = metadata.get(key)
    texts = list(values) if isinstance(values, Sequence) and not isinstance(values, str | bytes) else [None]
    if not all(type(text) is str for text in texts):
        raise BadModel(f"{key} should be a list of texts, but is {type(values).__name__}.", fix=_FIX)
    return texts  # type: ignore[return-value]


def _numbers(name: str, values: Any, count: int, type_: type[int] | type[float]) -> Sequence[Any]:
    """A list of numbers, one per token; arrays of any library will do, as long as they turn into one."""
    values = values.tolist() if hasattr(values, "tolist") else values
    allowed = (int, float) if type_ is float else int
    if not isinstance(values, list | tuple) or not all(isinstance(value, allowed) for value in values):
        raise BadModel(f"tokenizer.ggml.{name} should be a list of numbers.", fix=_FIX)
    if len(values) != count:
        raise BadModel(f"tokenizer.ggml.{name} has {len(values)} entries for {count} tokens.", fix=_FIX)
    return values


def _bytes(name: str, values: Any) -> bytes:
    if isinstance(values, bytes | bytearray | memoryview):
        return bytes(values)
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, list | tuple) or not all(isinstance(v, int) and -128 <= v <= 255 for v in values):
        raise BadModel(f"tokenizer.ggml.{name} should be a list of bytes.", fix=_FIX)
    return bytes(value & 255 for value in values)
