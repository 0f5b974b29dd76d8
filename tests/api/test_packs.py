"""Packs of kernels: what is exported is what is installed; what does not fit is refused with a reason."""

import json
import zipfile
from types import SimpleNamespace

import pytest

from isochrone.api import packs
from isochrone.compiler.isa import available_targets, choose_target
from isochrone.errors import BadConfig, Unsupported

PLAN = SimpleNamespace(kernels={"k": ["Sample"]})


@pytest.fixture
def pack(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOCHRONE_HOME", str(tmp_path / "home"))
    library = tmp_path / "built.so"
    library.write_bytes(b"\x7fELF and so on")
    file = tmp_path / "m.pack"
    packs.write_pack(file, "m", PLAN, choose_target(), library)
    return file


def rewritten(file, **changes):
    """The same pack, saying something else of itself."""
    with zipfile.ZipFile(file) as old:
        members = {name: old.read(name) for name in old.namelist()}
    about = json.loads(members[packs.ABOUT]) | changes
    with zipfile.ZipFile(file, "w") as new:
        for name, data in (members | {packs.ABOUT: json.dumps(about).encode()}).items():
            new.writestr(name, data)
    return file


def test_an_installed_pack_is_where_the_loader_looks(pack):
    from isochrone.compiler.cache import find_library

    assert find_library(PLAN.kernels, choose_target(), packs.kernels_dir()) is None
    assert packs.install_pack(pack).model == "m"
    found = find_library(PLAN.kernels, choose_target(), packs.kernels_dir())
    assert found is not None and found.read_bytes().startswith(b"\x7fELF")
    packs.install_pack(pack)  # a second time changes nothing


def test_a_pack_for_another_processor_says_what_it_needs(pack):
    with pytest.raises(Unsupported, match="amx") as caught:
        packs.install_pack(rewritten(pack, target="amx"))
    assert "--isa" in caught.value.fix and available_targets()[0].name in caught.value.message


def test_a_pack_of_another_version_is_refused(pack):
    with pytest.raises(BadConfig, match="another compiler"):
        packs.install_pack(rewritten(pack, compiler="0" * 64))


def test_members_with_other_names_are_not_unpacked(pack):
    with zipfile.ZipFile(pack, "a") as more:
        more.writestr("../../escaped.so", b"x")
        more.writestr("notes.txt", b"x")
    packs.install_pack(pack)
    assert len(list(packs.kernels_dir().iterdir())) == 1
    assert not (packs.kernels_dir().parent.parent / "escaped.so").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no zip"])
def test_what_is_no_pack_is_named(tmp_path, content):
    file = tmp_path / "x.pack"
    file.write_bytes(content)
    with pytest.raises(BadConfig, match=r"x\.pack"):
        packs.install_pack(file)
    with pytest.raises(BadConfig, match="There is no pack"):
        packs.install_pack(tmp_path / "none.pack")
