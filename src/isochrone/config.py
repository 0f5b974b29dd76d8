"""The settings of one run, each with its origin: flag over environment over file over default.

The dataclass below is the only list of settings there is: flags, variables (`ISOCHRONE_PORT`), keys of the TOML file
(`port`) and the reference page are all made from it.  It is filled once, at the edge, and passed down as plain data.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from isochrone import paths, units
from isochrone.errors import BadConfig

T = TypeVar("T")
Word = TypeVar("Word", bound=str)
Source = Literal["flag", "environment", "file", "default"]

PREFIX = "ISOCHRONE_"
OTHER_VARIABLES = {
    "ISOCHRONE_HOME": "One directory for settings, models, caches and state, in place of the XDG directories.",
    "ISOCHRONE_CONFIG": "The settings file to read, in place of `config.toml` in the settings directory.",
    "ISOCHRONE_DATA": "A directory of larger test data; the tests that need it are skipped without it.",
}
"""Variables that are no settings, because they say where settings and data are."""


def _text(text: str) -> str:
    return text


def _flag(text: str) -> bool:
    value = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if text.strip().lower() not in value:
        raise BadConfig(f"{text!r} is neither true nor false.", fix="Write true or false.")
    return value[text.strip().lower()]


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text.replace("_", ""))
        except ValueError:
            raise BadConfig(f"{text!r} is not a whole number.", fix=f"Write a number from {low} to {high}.") from None
        if not low <= value <= high:
            raise BadConfig(f"{value} is outside {low} to {high}.", fix=f"Write a number from {low} to {high}.")
        return value

    return parse


def _or_auto(parse: Callable[[str], T]) -> Callable[[str], T | None]:
    return lambda text: None if text == "auto" else parse(text)


def _one_of(*allowed: Word) -> Callable[[str], Word]:
    def parse(text: str) -> Word:
        for word in allowed:
            if word == text:
                return word
        raise BadConfig(f"{text!r} is not one of {', '.join(allowed)}.", fix=f"Write {nearest(text, allowed)}.")

    return parse


def _setting(
    default: T, explain: str, parse: Callable[[str], T], *, key: str | None = None, secret: bool = False,
    show: Callable[[Any], str] = str,
) -> T:  # fmt: skip
    metadata = {"explain": explain, "parse": parse, "key": key, "secret": secret, "show": show}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set.  None means that Isochrone decides (`auto`)."""

    host: str = _setting("127.0.0.1", "Address to listen on. Any but loopback needs an API key.", _text)
    port: int = _setting(8400, "Port to listen on; 0 takes a free one.", _whole(0, 65535))
    api_key: str | None = _setting(None, "Key that callers must send as a bearer token.", _text, secret=True)
    ledger: str | None = _setting(
        None, "URL of a PostgreSQL database that keeps the ledger, as several gateways share it; auto keeps a file.",
        _or_auto(_text), secret=True,
    )  # fmt: skip
    offline: bool = _setting(False, "Reach no network: models must be here already.", _flag)
    weights: str = _setting(
        "auto", "Form of the weights of an unquantised model: auto, f32, bf16, int8 or int4.",
        _one_of("auto", "f32", "bf16", "int8", "int4"),
    )  # fmt: skip
    context: int | None = _setting(
        None, "Most tokens of prompt and answer together; auto takes the model's, within free memory.",
        _or_auto(_whole(16, 1 << 24)),
    )  # fmt: skip
    kv_memory_bytes: int | None = _setting(
        None, "Memory for the KV cache; auto derives it from free memory.", _or_auto(units.parse_bytes),
        key="kv_memory", show=units.format_bytes,
    )  # fmt: skip
    kv_spill_bytes: int | None = _setting(
        None, "Disk for cold blocks of the KV cache, read back where that is faster; auto keeps none.",
        _or_auto(units.parse_bytes), key="kv_spill", show=units.format_bytes,
    )  # fmt: skip
    kv_type: Literal["bf16", "int8"] = _setting(
        "bf16", "Number type of the KV cache: bf16, or int8, which holds nearly twice as many tokens.",
        _one_of("bf16", "int8"),
    )  # fmt: skip
    threads: int | None = _setting(
        None, "Worker threads; auto counts the cores that affinity and cgroup quota leave.", _or_auto(_whole(1, 1024))
    )
    isa: str | None = _setting(
        None, "Instruction set of the kernels; auto takes the best that this CPU has.", _or_auto(_text)
    )
    pack: str | None = _setting(
        None, "File of exported kernels to load instead of compiling; auto compiles what the cache lacks.",
        _or_auto(_text),
    )  # fmt: skip
    cache_limit_bytes: int = _setting(
        20_000_000_000, "Size that packed weights, kernels and tokenizers may reach before the oldest are evicted.",
        units.parse_bytes, key="cache_limit", show=units.format_bytes,
    )  # fmt: skip
    log_level: str = _setting(
        "info", "Least grave event that is logged: debug, info, warning or error.",
        _one_of("debug", "info", "warning", "error"),
    )  # fmt: skip
    drain_s: float = _setting(
        30.0, "Time that running requests get to finish after SIGTERM.", units.parse_duration,
        key="drain", show=units.format_duration,
    )  # fmt: skip


def ledger_where(settings: Settings) -> Path | str:
    """The ledger of these settings: its URL, or its file."""
    return settings.ledger or paths.ledger_path()


@dataclass(frozen=True, slots=True)
class Value:
    """One setting as resolved.  where  the flag, variable or file that set it"""

    key: str
    value: Any
    shown: str
    source: Source
    where: str
    explain: str

    @property
    def origin(self) -> str:
        """`default`, or the source with its name, such as `environment ISOCHRONE_PORT`."""
        return self.source if self.source == "default" else f"{self.source} {self.where}"


@dataclass(frozen=True, slots=True)
class Resolved:
    settings: Settings
    values: tuple[Value, ...]


def config_path(environ: Mapping[str, str] | None = None) -> Path:
    """The TOML file that settings are read from; it need not exist."""
    named = (os.environ if environ is None else environ).get("ISOCHRONE_CONFIG")
    return Path(named).expanduser() if named else paths.config_dir() / "config.toml"


def keys() -> dict[str, str]:
    """Public key of each setting -> what it does."""
    return {_key(f): f.metadata["explain"] for f in fields(Settings)}


def switches() -> frozenset[str]:
    """Keys of the settings that are on or off."""
    return frozenset(_key(f) for f in fields(Settings) if isinstance(f.default, bool))


def resolve(
    flags: Mapping[str, str | None] | None = None, environ: Mapping[str, str] | None = None, file: Path | None = None
) -> Resolved:
    """Fill the settings from flags (key -> text, None when not given), environment and file.

    Raises BadConfig for a key that does not exist (naming the nearest), or a value that cannot be used.
    """
    for key in flags or {}:
        if key not in keys():
            raise BadConfig(f"There is no setting {key!r}.", fix=f"Did you mean {nearest(key, keys())}?")
    environ = os.environ if environ is None else environ
    file = config_path(environ) if file is None else file
    sources: tuple[tuple[Source, Mapping[str, tuple[str, str]]], ...] = (
        ("flag", {k: (f"--{k.replace('_', '-')}", v) for k, v in (flags or {}).items() if v is not None}),
        ("environment", _from_environment(environ)),
        ("file", _from_file(file)),
    )
    filled: dict[str, Any] = {}
    values = []
    for f in fields(Settings):
        value = _resolve_one(f.name, f.metadata, f.default, sources)
        filled[f.name] = value.value
        values.append(value)
    return Resolved(Settings(**filled), tuple(values))


def _resolve_one(
    name: str, about: Mapping[str, Any], default: Any, sources: Iterable[tuple[Source, Mapping[str, tuple[str, str]]]]
) -> Value:
    key = about["key"] or name
    for source, found in sources:
        if key not in found:
            continue
        where, text = found[key]
        try:
            value = about["parse"](text)
        except BadConfig as error:
            raise BadConfig(f"{key}, set by {source} {where}: {error.message}", fix=error.fix) from None
        return Value(key, value, _show(value, about), source, where, about["explain"])
    return Value(key, default, _show(default, about), "default", "", about["explain"])


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    known = {PREFIX + key.upper(): key for key in keys()}
    found = {}
    for variable, text in environ.items():
        if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES:
            continue
        if variable not in known:
            raise BadConfig(
                f"The environment sets {variable}, and there is no such setting.",
                fix=f"Did you mean {nearest(variable, [*known, *OTHER_VARIABLES])}? Otherwise unset it.",
            )
        if text:
            found[known[variable]] = (variable, text)
    return found


def _from_file(file: Path) -> dict[str, tuple[str, str]]:
    try:
        text = file.read_text()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadConfig(f"{file} cannot be read: {error.strerror}.", fix="Make it readable, or remove it.") from error
    import tomllib  # 3 ms, and most runs have no file

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(f"{file} is not TOML: {error}.", fix="Correct that line.") from error
    found = {}
    for key, value in table.items():
        if key not in keys():
            raise BadConfig(
                f"{file} sets {key!r}, and there is no such setting.", fix=f"Did you mean {nearest(key, keys())}?"
            )
        if not isinstance(value, str | int | float):
            kind = type(value).__name__
            raise BadConfig(f"{file} gives {key} a {kind}.", fix="Write a text, a number, true or false.")
        found[key] = (str(file), str(value).lower() if isinstance(value, bool) else str(value))
    return found


def _show(value: Any, about: Mapping[str, Any]) -> str:
    if value is None:
        return "not set" if about["secret"] else "auto"
    if about["secret"]:
        return "set (hidden)"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(about["show"](value))


def _key(f: Any) -> str:
    return cast(str, f.metadata["key"] or f.name)


def nearest(word: str, known: Iterable[str]) -> str:
    """The known name that is most like this word, for errors that help."""
    import difflib  # only on the way to an error

    names = list(known)
    return (difflib.get_close_matches(word, names, n=1, cutoff=0.0) or names)[0]
