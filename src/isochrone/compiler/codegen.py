"""LLVM text to object code and assembly.  The only module that imports llvmlite, and only in the compiling process."""

from __future__ import annotations

import re
from typing import Any

from ..errors import MissingExtra
from .isa import Target


def _binding() -> Any:
    try:
        import llvmlite.binding as llvm
    except ImportError as error:
        raise MissingExtra(
            "Compiling kernels needs llvmlite, and no ready-made kernels fit this model and processor.",
            fix="Run pip install 'isochrone[compile]', or install a kernel pack (isochrone compile --pack).",
        ) from error
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()  # the driver's system calls are inline assembly
    return llvm


def _machine(llvm: Any, target: Target) -> Any:
    found = llvm.Target.from_triple(target.triple)
    # The small code model lets every constant be reached relative to the instruction pointer.
    return found.create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="small"
    )


def _optimised(llvm: Any, text: str, machine: Any) -> Any:
    """A short pipeline: the tile author has unrolled and vectorised, so LLVM's loop passes only get in the way."""
    module = llvm.parse_assembly(text)
    module.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    passes = llvm.create_new_module_pass_manager()
    for name in ("sroa", "instruction_combine", "simplify_cfg", "new_gvn", "loop_rotate", "loop_simplify",
                 "lcssa", "loop_strength_reduce", "instruction_combine", "aggressive_dce"):  # fmt: skip
        getattr(passes, f"add_{name}_pass")()
    passes.run(module, builder)
    return module


def emit_object(text: str, target: Target) -> bytes:
    """Object code (ELF) of a module."""
    llvm = _binding()
    machine = _machine(llvm, target)
    return bytes(machine.emit_object(_optimised(llvm, text, machine)))


def emit_assembly(text: str, target: Target) -> str:
    """Assembly of a module, as the assembler would see it."""
    llvm = _binding()
    machine = _machine(llvm, target)
    return str(machine.emit_assembly(_optimised(llvm, text, machine)))


_LABEL = re.compile(r"^(\.L\w+):")
_JUMP = re.compile(r"^\s+j\w+\s+(\.L\w+)")
_STACK_SLOT = re.compile(r"%[xyz]mm.*-?\d*\(%r[sb]p\)|-?\d*\(%r[sb]p\).*%[xyz]mm")


def count_spills(assembly: str) -> int:
    """Vector accesses to fixed stack slots inside innermost loops: registers saved there, or read back.

    A kernel's own scratch memory is addressed with an index in its inner loops, and does not count.
    """
    return sum(bool(_STACK_SLOT.search(line)) for loop in _innermost_loops(assembly.splitlines()) for line in loop)


def _innermost_loops(lines: list[str]) -> list[list[str]]:
    """Bodies of loops that hold no other loop: from a label to the jump back to it."""
    labels: dict[str, int] = {}
    spans: list[tuple[int, int]] = []
    for number, line in enumerate(lines):
        if label := _LABEL.match(line):
            labels[label[1]] = number
        elif (jump := _JUMP.match(line)) and jump[1] in labels:
            spans.append((labels[jump[1]], number))
    inner = [s for s in spans if not any(s != o and s[0] <= o[0] and o[1] <= s[1] for o in spans)]
    return [lines[first : last + 1] for first, last in inner]
