"""The wheel in an empty environment: no LLVM there, and still a model answers, from a pack of kernels."""

import os
import subprocess
import sys
import venv

import pytest

from isochrone.weights import here

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(900)]
MODEL = "smollm2-135m"


def run(*command, home, expect=0):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ISOCHRONE_", "PYTHON"))}
    done = subprocess.run(
        [str(part) for part in command], env=environment | {"ISOCHRONE_HOME": str(home)}, capture_output=True,
        text=True, timeout=600, cwd=home,
    )  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def test_a_base_install_without_llvm_answers_from_a_pack(tmp_path, request):
    model = here.find(MODEL)
    if model is None:
        pytest.skip("the model is missing: isochrone pull smollm2-135m")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, request.config.rootpath, home=tmp_path)
    (wheel,) = tmp_path.glob("isochrone-*-py3-none-any.whl")
    venv.create(tmp_path / "empty", with_pip=True)
    python = tmp_path / "empty/bin/python"
    run(python, "-m", "pip", "install", "-q", wheel, home=tmp_path)
    run(python, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('llvmlite') is not None)", home=tmp_path)
    # Kernels are named by the compiler's source, so the wheel's own copy makes them, with the LLVM of this environment.
    installed = next((tmp_path / "empty/lib").glob("python*/site-packages/isochrone")).parent
    export = (
        f"import sys; sys.path.insert(0, {str(installed)!r}); from isochrone.cli import main; "
        f"main(['compile', {str(model)!r}, '--pack', 'm.pack'])"
    )
    run(sys.executable, "-c", export, home=tmp_path)
    ask = (tmp_path / "empty/bin/isochrone", "complete", model, "The capital of France is", "--max-tokens", "4")
    for cached in (tmp_path / "cache/kernels").glob("*.so"):
        cached.unlink()
    assert "isochrone[compile]" in run(*ask, home=tmp_path, expect=1).stderr
    assert "Paris" in run(*ask, "--pack", "m.pack", home=tmp_path).stdout
