"""Texts that tokenizers get wrong, and small tokenizers trained on them."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

DATA = Path(__file__).parents[1] / "data" / "wikitext-2" / "first-20000-bytes.txt"

TEXTS = [
    "",
    " ",
    "Hello, world!",
    "  two spaces before, two between  words, and two after  ",
    "line one\nline two\r\nline three\n\n\n   \n\tindented\t\ttabs",
    "def f(x: int) -> list[int]:\n    return [i**2 for i in range(x) if i % 2 == 0]\n\n\n# done\n",
    "const a = {b: `${c}`, d: [1_000, 0xFF, 1e-9]};  // ok?",
    "I'm sure they'll say it's 'fine'; WE'VE SEEN IT'S NOT. DON'T",
    "3.14159 12345678 1,234,567 007 ½ ² Ⅷ ١٢٣ १२३",
    "Größe, naïve, façade, Ångström, œuvre, ﬁne, İstanbul, ſ",
    "Cafe\u0301 (decomposed) and caf\u00e9 (composed), a\u0308o\u0308u\u0308",
    "Привет, мир! Как дела? Ёжик в тумане.",
    "Καλημέρα κόσμε. Τι κάνεις;",
    "你好,世界!今天天气怎么样?我们去公园吧。",
    "こんにちは世界。カタカナとひらがな、漢字。ｶﾀｶﾅ",
    "안녕하세요 세계. 오늘 날씨가 좋네요.",
    "مرحبا بالعالم، كيف حالك؟ السَّلَامُ",
    "שלום עולם, מה שלומך?",
    "नमस्ते दुनिया, आप कैसे हैं? क्षत्रिय",
    "สวัสดีชาวโลก วันนี้อากาศดี",
    "Xin chào thế giới, tiếng Việt có dấu",
    "🙂🚀🔥 👩‍👩‍👧‍👦 🇫🇷🇩🇪 👍🏽 ❤️ ✈︎ \U0001f9d1\u200d\U0001f4bb",
    "zero\u200bwidth\u00a0nbsp\u3000ideographic\u2028line\u2029para\ufeffbom\u00adsoft",
    "\x00\x01\x7f control \x1b[31m red",
    "a" * 300,
    "       " * 40 + "end",
    "https://example.org/path?q=1&r=%20#frag user@example.com C:\\Windows\\system32",
    "<|not_special|> </s> <s> [INST] <0x41> ▁mark Ġg",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𒀀 \U0010ffff",
    "trailing newline\n",
    "... --- *** ___ ~~~ !!! ??? «quotes» “curly” ‘single’ – — …",
]


@cache
def corpus() -> list[str]:
    return [*DATA.read_text("utf-8").splitlines(), *TEXTS * 3]


GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def split_by(pattern: str) -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), BYTES])


@cache
def byte_level(cut: str = "gpt-2", *, nfc: bool = False, vocab_size: int = 900) -> Tokenizer:
    """A byte-level BPE as its makers would build it, trained here."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC() if nfc else None  # type: ignore[assignment]
    tokenizer.pre_tokenizer = cutter(cut)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    specials = ["<|end|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=alphabet, special_tokens=specials, show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False), AddedToken("<wide>", lstrip=True, rstrip=True)])
    return tokenizer


def cutter(name: str) -> Any:
    """The pre-tokenizer that goes by a name in GGUF files, from its makers' own definition."""
    from transformers.models.qwen2 import tokenization_qwen2

    match name:
        case "gpt-2":
            return GPT2
        case "smollm":
            return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2])
        case "falcon":
            punctuation = pre_tokenizers.Split(Regex(r"[\p{P}\$\+<=>\^~\|`]+"), "isolated")
            digits = pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated")
            return pre_tokenizers.Sequence([punctuation, GPT2, digits])
        case "llama-bpe":
            return split_by(LLAMA3_PATTERN)
        case "qwen2":
            return split_by(tokenization_qwen2.PRETOKENIZE_REGEX)
    raise LookupError(name)


@cache
def marks(*, prefix: bool = True, vocab_size: int = 1200) -> Tokenizer:
    """A BPE over marked spaces with byte fallback, in the form that Llama 2's tokenizer.json has."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    replace = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace] if prefix else [replace])
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=specials, limit_alphabet=300, show_progress=False, max_token_length=12
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    form = json.loads(tokenizer.to_str())
    form["added_tokens"] = form["added_tokens"][:3]  # bytes are ordinary tokens
    tokenizer = Tokenizer.from_str(json.dumps(form))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


@cache
def unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    specials = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=700, special_tokens=specials, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


@cache
def wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=1000, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def gguf_metadata(tokenizer: Tokenizer, **facts: Any) -> dict[str, Any]:
    """What a GGUF file would keep of a tokenizer: its tokens, their types, its merges."""
    form = json.loads(tokenizer.to_str())
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    added = {entry["content"]: 3 if entry["special"] else 4 for entry in form["added_tokens"]}
    merges = [" ".join(merge) for merge in form["model"].get("merges", [])]
    values = {"tokens": tokens, "token_type": [added.get(token, 1) for token in tokens], "merges": merges, **facts}
    return {f"tokenizer.ggml.{name}": value for name, value in values.items()}


def write_directory(path: Path, tokenizer: Tokenizer, **settings: Any) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **settings}
    (path / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return path
