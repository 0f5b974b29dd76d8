"""Where the peers live: installs llama.cpp and OpenVINO GenAI from PyPI beside the repository, never inside it.

    python -m benchmarks.peers install            10 to 20 minutes; a finished part is not done again
    python -m benchmarks.peers gateway            1 to 3 minutes: LiteLLM's proxy, which the gateway is held against
    python -m benchmarks.peers where              prints what is there

llama-cpp-python is built from source for this very processor (its ggml defaults to -march=native), and the tools its
wheel leaves out (llama-bench, llama-batched-bench, llama-server) are built from the llama.cpp that its sdist carries.
The directory is $BENCH_PEERS, else ~/.cache/isochrone-bench/peers.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import click

LLAMA_CPP_PYTHON = "llama-cpp-python==0.3.36"
OPENVINO_GENAI = "openvino-genai==2026.4.1.0"
LITELLM = "litellm[proxy]==1.108.7"
TOOLS = ("llama-bench", "llama-batched-bench", "llama-server")
CMAKE_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_TOOLS=ON",
    "-DLLAMA_BUILD_SERVER=ON",
)


class PeerMissing(Exception):
    """A peer that a comparison needs is not installed: a miss, never a skip."""


@dataclass(frozen=True, slots=True)
class Peers:
    """The directory that holds the peers, and the parts inside it."""

    root: Path

    @property
    def python(self) -> Path:
        """The interpreter of the peers' own environment."""
        return self.root / "venv" / "bin" / "python"

    @property
    def source(self) -> Path:
        """The llama.cpp tree that the llama-cpp-python sdist carries."""
        return self.root / "source" / "vendor" / "llama.cpp"

    def tool(self, name: str) -> Path:
        """Path of a llama.cpp tool; raises PeerMissing when it was not built."""
        path = self.root / "tools" / "bin" / name
        if not path.exists():
            raise PeerMissing(f"{name} is not at {path}. Run `python -m benchmarks.peers install`.")
        return path

    def litellm(self) -> Path:
        """LiteLLM's command, in an environment of its own; raises PeerMissing when it was not installed."""
        path = self.root / "litellm" / "bin" / "litellm"
        if not path.exists():
            raise PeerMissing(f"litellm is not at {path}. Run `python -m benchmarks.peers gateway`.")
        return path

    def interpreter(self) -> Path:
        """The peers' interpreter; raises PeerMissing when the environment is not complete."""
        for package in ("llama_cpp", "openvino_genai"):
            if not list(self.root.glob(f"venv/lib/python*/site-packages/{package}/__init__.py")):
                raise PeerMissing(f"{package} is not in {self.root}. Run `python -m benchmarks.peers install`.")
        return self.python


def find_peers() -> Peers:
    """The peers' directory of this user; nothing is checked yet."""
    home = os.environ.get("BENCH_PEERS")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Peers(Path(home) if home else cache / "isochrone-bench" / "peers")


def run(*command: str | Path, **environment: str) -> None:
    """Run one build command at the lowest priority; its failure ends the installation."""
    words = ["nice", "-n", "19", *map(str, command)]
    click.echo("$ " + " ".join(words), err=True)
    subprocess.run(words, check=True, env={**os.environ, **environment})


def make_environment(peers: Peers) -> None:
    """A virtual environment of the peers' own, with pip."""
    if not peers.python.exists():
        run(sys.executable, "-m", "venv", peers.root / "venv")


def install_packages(peers: Peers, jobs: int) -> None:
    """Both Python packages; llama-cpp-python compiles for this processor."""
    pip = (peers.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, OPENVINO_GENAI, "numpy")
    name, version = LLAMA_CPP_PYTHON.split("==")
    run(*pip, f"{name}[server]=={version}", "--no-binary", name, CMAKE_BUILD_PARALLEL_LEVEL=str(jobs))


def unpack_source(peers: Peers) -> None:
    """Fetch the sdist and unpack it, without its outermost folder."""
    if peers.source.exists():
        return
    sdist = peers.root / "sdist"
    name = LLAMA_CPP_PYTHON.split("==")[0]
    download = (peers.python, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", name)
    run(*download, LLAMA_CPP_PYTHON, "-d", sdist)
    (archive,) = sdist.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            member.name = member.name.partition("/")[2]
            if member.name:
                tar.extract(member, peers.root / "source", filter="data")


def build_tools(peers: Peers, jobs: int) -> None:
    """The llama.cpp tools, compiled for this processor."""
    build = peers.root / "tools"
    if all((build / "bin" / tool).exists() for tool in TOOLS):
        return
    run("cmake", "-S", peers.source, "-B", build, *CMAKE_OPTIONS)
    run("cmake", "--build", build, "-j", str(jobs), "--target", *TOOLS)


@click.group()
def main() -> None:
    """Install and find the peers that Isochrone is compared with."""


@main.command()
@click.option("--jobs", default=1, show_default=True, help="Compilers at once.")
def install(jobs: int) -> None:
    """Install llama.cpp and OpenVINO GenAI, and build llama.cpp's tools."""
    peers = find_peers()
    make_environment(peers)
    unpack_source(peers)
    build_tools(peers, jobs)
    install_packages(peers, jobs)
    click.echo(f"The peers are in {peers.root}.")


@main.command()
def gateway() -> None:
    """Install LiteLLM's proxy, whose pins would clash with everybody else's, into an environment of its own."""
    root = find_peers().root / "litellm"
    if not (root / "bin" / "litellm").exists():
        run(sys.executable, "-m", "venv", root)
        run(root / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", LITELLM)
    click.echo(f"LiteLLM is in {root}.")


@main.command()
def where() -> None:
    """Print each part and whether it is there."""
    peers = find_peers()
    for tool in TOOLS:
        click.echo(f"{tool:20} {peers.tool(tool)}")
    click.echo(f"{'python':20} {peers.interpreter()}")


if __name__ == "__main__":
    try:
        main()
    except PeerMissing as missing:
        sys.exit(str(missing))
