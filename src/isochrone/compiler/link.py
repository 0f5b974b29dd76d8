"""A linker for our own objects: one relocatable ELF file in, one shared library out.

Kernels import nothing, so linking is: lay out the sections, resolve distances between them, and write the few
tables a dynamic loader asks for.  The result loads with dlopen, where perf and gdb see its symbols.
Format: System V ABI, AMD64 supplement (relocations of section 4.4.1).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_PAGE = 4096
_SHT_PROGBITS, _SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS = 1, 2, 4, 8
_SHF_ALLOC = 2
_R_PC32, _R_PLT32 = 2, 4
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELA = struct.Struct("<QQq")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_DYNAMIC = struct.Struct("<qQ")


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int


def link_shared(obj: bytes) -> bytes:
    """A shared library that exports the global functions of one x86-64 object.

    Raises ValueError for bytes that are no whole object, and for an object that imports a symbol, has writable data
    or uses a relocation kernels never need.
    """
    try:
        return _link(obj)
    except (struct.error, IndexError) as error:
        raise ValueError(f"not a whole object: {error}") from error


def _link(obj: bytes) -> bytes:
    sections = _read_sections(obj)
    kept = [i for i, s in enumerate(sections) if s.flags & _SHF_ALLOC and s.size and s.name != ".eh_frame"]
    if any(sections[i].kind == _SHT_NOBITS or sections[i].flags & 1 for i in kept):
        raise ValueError("kernels have no writable data")
    addresses, image_end = {}, 0
    for i in kept:
        align = max(sections[i].align, 1)
        if align > _PAGE or align & (align - 1):
            raise ValueError(f"section {sections[i].name!r} cannot be aligned to {align} bytes")
        image_end = -(-image_end // align) * align
        addresses[i] = image_end
        image_end += len(_bytes_of(obj, sections[i]))
    image = bytearray(image_end)
    for i in kept:
        image[addresses[i] : addresses[i] + sections[i].size] = _bytes_of(obj, sections[i])
    symbols = _read_symbols(obj, sections)
    for table in (s for s in sections if s.kind == _SHT_RELA and s.info in addresses):
        _relocate(image, _bytes_of(obj, table), addresses, symbols, table.info, sections[table.info].size)
    exported = [
        (name, addresses[section] + value, size)
        for name, info, section, value, size in symbols
        if info >> 4 == 1 and section in addresses
    ]
    if any(address + size > image_end for _, address, size in exported):
        raise ValueError("a symbol lies outside its section")
    return _write_library(bytes(image), exported)


def _bytes_of(obj: bytes, section: _Section) -> bytes:
    if section.offset + section.size > len(obj):
        raise ValueError(f"section {section.name!r} ends after the object")
    return obj[section.offset : section.offset + section.size]


def _name_at(table: bytes, offset: int) -> str:
    return table[offset : table.index(b"\0", offset)].decode()


def _read_sections(obj: bytes) -> list[_Section]:
    fields = _HEADER.unpack_from(obj)
    if fields[0][:5] != b"\x7fELF\x02" or fields[2] != 62:
        raise ValueError("not an x86-64 ELF object")
    start, count, names_index = fields[6], fields[12], fields[13]
    raw = [_SECTION.unpack_from(obj, start + i * _SECTION.size) for i in range(count)]
    names = obj[raw[names_index][4] : raw[names_index][4] + raw[names_index][5]]
    return [_Section(_name_at(names, r[0]), r[1], r[2], r[4], r[5], r[6], r[7], r[8]) for r in raw]


def _read_symbols(obj: bytes, sections: list[_Section]) -> list[tuple[str, int, int, int, int]]:
    """(name, info, section, value, size) of every symbol."""
    table = next((s for s in sections if s.kind == _SHT_SYMTAB), None)
    if table is None:
        raise ValueError("the object has no symbols")
    names = _bytes_of(obj, sections[table.link])
    rows = _SYMBOL.iter_unpack(_bytes_of(obj, table))
    return [(_name_at(names, name), info, section, value, size) for name, info, _, section, value, size in rows]


def _relocate(
    image: bytearray,
    table: bytes,
    addresses: dict[int, int],
    symbols: list[tuple[str, int, int, int, int]],
    target: int,
    size: int,
) -> None:
    """Write the distances that a table names into the section it belongs to."""
    for offset, info, addend in _RELA.iter_unpack(table):
        name, _, section, value, _ = symbols[info >> 32]
        if section not in addresses:
            raise ValueError(f"the object imports {name!r}")
        if info & 0xFFFFFFFF not in (_R_PC32, _R_PLT32):
            raise ValueError(f"relocation {info & 0xFFFFFFFF} is not relative to the instruction pointer")
        if offset + 4 > size:
            raise ValueError(f"a relocation at {offset} lies outside its section of {size} bytes")
        place = addresses[target] + offset
        struct.pack_into("<i", image, place, addresses[section] + value + addend - place)


def _write_library(image: bytes, exported: list[tuple[str, int, int]]) -> bytes:
    """One read-execute segment with everything in it: header, tables, then the code at a page boundary."""
    strings, symbols = bytearray(b"\0"), bytearray(_SYMBOL.pack(0, 0, 0, 0, 0, 0))
    name_offsets = []
    for name, _, _ in exported:
        name_offsets.append(len(strings))
        strings += name.encode() + b"\0"
    head = _HEADER.size + 3 * _SEGMENT.size
    symbols_at = -(-head // 64) * 64
    symbols_size = (len(exported) + 1) * _SYMBOL.size
    strings_at = symbols_at + symbols_size
    hash_at = -(-(strings_at + len(strings)) // 8) * 8
    hashes = _hash_table([name for name, _, _ in exported])
    code_at = -(-(hash_at + len(hashes)) // _PAGE) * _PAGE
    dynamic_at = -(-(code_at + len(image)) // _PAGE) * _PAGE
    for (_, address, size), name_offset in zip(exported, name_offsets, strict=True):
        symbols += _SYMBOL.pack(name_offset, 0x12, 0, 1, code_at + address, size)
    tags = ((4, hash_at), (5, strings_at), (6, symbols_at), (10, len(strings)), (11, _SYMBOL.size), (0, 0))
    dynamic = b"".join(_DYNAMIC.pack(*tag) for tag in tags)
    end = dynamic_at + len(dynamic)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    out = bytearray(end)
    header = _HEADER.pack(ident, 3, 62, 1, 0, _HEADER.size, 0, 0, _HEADER.size, _SEGMENT.size, 3, 0, 0, 0)
    code_end = code_at + len(image)
    segments = (
        _SEGMENT.pack(1, 5, 0, 0, 0, code_end, code_end, _PAGE),
        _SEGMENT.pack(1, 6, dynamic_at, dynamic_at, dynamic_at, len(dynamic), len(dynamic), _PAGE),
        _SEGMENT.pack(2, 6, dynamic_at, dynamic_at, dynamic_at, len(dynamic), len(dynamic), 8),
    )
    for at, data in ((0, header + b"".join(segments)), (symbols_at, symbols), (strings_at, strings),
                     (hash_at, hashes), (code_at, image), (dynamic_at, dynamic)):  # fmt: skip
        out[at : at + len(data)] = data
    return bytes(out)


def _hash_table(names: list[str]) -> bytes:
    """DT_HASH: buckets of chains, as the System V ABI describes it."""
    num_buckets = max(1, len(names))
    buckets, chains = [0] * num_buckets, [0] * (len(names) + 1)
    for index, name in enumerate(names, start=1):
        bucket = _sysv_hash(name) % num_buckets
        chains[index], buckets[bucket] = buckets[bucket], index
    return struct.pack(f"<{2 + num_buckets + len(chains)}I", num_buckets, len(chains), *buckets, *chains)


def _sysv_hash(name: str) -> int:
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        high = value & 0xF0000000
        value = (value ^ (high >> 24)) & ~high & 0xFFFFFFFF
    return value
