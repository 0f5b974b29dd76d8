"""How byte-level vocabularies cut text into words, by the name a GGUF file gives (`tokenizer.ggml.pre`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isochrone.errors import BadModel

_SMALL = r"'s|'t|'re|'ve|'m|'ll|'d"
_GPT2 = rf"{_SMALL}| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|\s+(?!\S)|\s+"
_ANY_CASE = rf"(?i:{_SMALL})"
_BREAKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LEAD = r"[^\r\n\p{L}\p{N}]?"
_CJK = "[一-龥\u3040-ゟ゠-ヿ]+"
_CYRILLIC_LATIN_GREEK = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼι"
    "ῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲"
    "𑢠-𑣟𞤀-𞥃"
)
"""The cased scripts as DeepSeek's first tokenizer lists them."""


def _modern(digits: str, *, word: str = r"\p{L}+", other: str = r" ?[^\s\p{L}\p{N}]+[\r\n]*") -> str:
    return rf"{_ANY_CASE}|{_LEAD}{word}|{digits}|{other}|{_BREAKS}"


def _cased(digits: str, tail: str) -> str:
    words = rf"{_LEAD}{_UPPER}*{_LOWER}+{tail}|{_LEAD}{_UPPER}+{_LOWER}*{tail}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_BREAKS}"


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """patterns       regular expressions applied one after another, each to the pieces the one before left
    nfc            whether text is composed (Unicode NFC) first
    whole_words    whether a word that is itself in the vocabulary skips the merges
    add_bos        whether a text begins with the bos token when the file does not say
    """

    patterns: tuple[str, ...]
    nfc: bool = False
    whole_words: bool = False
    add_bos: bool = False

    def as_json(self) -> dict[str, Any]:
        splits = [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
            for pattern in self.patterns
        ]
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        return {"type": "Sequence", "pretokenizers": [*splits, byte_level]}


_DIGIT_THEN_GPT2 = PreTokenizer((r"\p{N}", _GPT2))
_LLAMA3 = PreTokenizer((_modern(r"\p{N}{1,3}"),), whole_words=True, add_bos=True)
_QWEN2 = PreTokenizer((_modern(r"\p{N}"),), nfc=True)
_DEEPSEEK3 = PreTokenizer(
    (
        r"\p{N}{1,3}",
        _CJK,
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_BREAKS}",
    )
)
_GPT2_WORDS = PreTokenizer((_GPT2,))
_GPT4O = PreTokenizer((_cased(r"\p{N}{1,3}", rf"{_ANY_CASE}?"),))

_BY_NAME: dict[str, PreTokenizer] = {
    **dict.fromkeys(
        ("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4", "mellum", "gigachat",
         "a.x-4.0", "modern-bert", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de"), _GPT2_WORDS),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), _DIGIT_THEN_GPT2),
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"), _LLAMA3),
    **dict.fromkeys(("dbrx", "smaug-bpe", "chatglm-bpe"), PreTokenizer((_modern(r"\p{N}{1,3}"),))),
    "glm4": PreTokenizer((_modern(r"\p{N}{1,3}"),), whole_words=True),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), _QWEN2),
    **dict.fromkeys(("stablelm2", "hunyuan", "megrez", "solar-open", "grok-2"), PreTokenizer((_modern(r"\p{N}"),))),
    "qwen35": PreTokenizer(
        (_modern(r"\p{N}", word=r"[\p{L}\p{M}]+", other=r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"),), nfc=True),
    "tekken": PreTokenizer((_cased(r"\p{N}", ""),), whole_words=True, add_bos=True),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "minimax-m2"), _GPT4O),
    "deepseek-llm": PreTokenizer(
        (r"[\r\n]", rf"\s?[{_CYRILLIC_LATIN_GREEK}]+", "\\s?[!-/:-~！-／：-～‘-‟\u3000-。]+", r"\s+$",
         "[一-龥ࠀ-一가-퟿]+", r"\p{N}+")),
    "deepseek-coder": PreTokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}")),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense", "joyai-llm"), _DEEPSEEK3),
    "falcon": PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, r"[0-9][0-9][0-9]")),
    "default": PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")),
}  # fmt: skip


def pre_tokenizer(name: str) -> PreTokenizer:
    """The pre-tokenizer a GGUF file asks for; raises BadModel for a name we do not know, since guessing spoils text."""
    found = _BY_NAME.get(name)
    if found is None:
        raise BadModel(
            f"The file's tokenizer splits words in a way named {name!r}; known are {', '.join(sorted(_BY_NAME))}.",
            fix="Use the model's Hugging Face directory, whose tokenizer.json carries the rule itself.",
        )
    return found
