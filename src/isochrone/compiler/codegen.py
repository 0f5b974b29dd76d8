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


def count_spills(assembly: str) -> int:
    """Vector registers saved to the stack and read back, as LLVM marks them in comments."""
    return len(re.findall(r"# \d+-byte (?:Folded )?(?:Spill|Reload)", assembly))
