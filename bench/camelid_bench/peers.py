"""The peers, built natively for this machine from the sdists on PyPI, pinned by version and SHA-256.

A folder of peers holds for each peer its archive (`dl/`), its source and its build, and `venv/` with cmake and ninja. What
is there already is used, so that one folder serves all runs.
"""

import hashlib
import os
import sys
import tarfile
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

from .errors import BenchError, run

# Pinned, so that two machines build alike.
TOOLS = ["cmake==4.4.5", "ninja==1.13.2"]
TARGETS = ["llama-bench", "llama-batched-bench"]
FLAGS = ["-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DGGML_OPENMP=ON", "-DBUILD_SHARED_LIBS=OFF",
         "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF"]
# A script that the sdist of ik_llama.cpp leaves out and its build needs: it fills build-info.cpp.in.
IK_SCRIPT = """\
include(${CMAKE_CURRENT_SOURCE_DIR}/cmake/build-info.cmake)
configure_file(${CMAKE_CURRENT_SOURCE_DIR}/common/build-info.cpp.in ${CMAKE_CURRENT_SOURCE_DIR}/common/build-info.cpp)
"""


@dataclass(frozen=True)
class Peer:
    """One pinned sdist, where in it the source lies, the folder of its build and what the build needs beside FLAGS."""

    name: str
    package: str
    version: str
    sha256: str
    source: str
    build: str
    flags: tuple = ()
    missing: tuple = ()


LLAMA_CPP = Peer(
    "llama.cpp", "llama-cpp-python", "0.3.36", "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
    "llama_cpp_python-0.3.36/vendor/llama.cpp", "llama-build", ("-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_SERVER=OFF"))
IK_LLAMA_CPP = Peer(
    "ik_llama.cpp", "ik_llama_cpp_python", "0.1.5", "33c67eb99e4dcab5e611050433243815709b8b3067753f9ce18375013cf002ad",
    "ik_llama_cpp_python-0.1.5/vendor/ik_llama.cpp", "ik-build",
    missing=(("common/cmake/build-info-gen-cpp.cmake", IK_SCRIPT),))


def build(folder, peer, jobs):
    """The folder of the peer's build under `folder`, built if it is not."""
    folder = Path(folder).resolve()
    out = folder / peer.build
    if all((out / "bin" / target).is_file() for target in TARGETS):
        return out
    folder.mkdir(parents=True, exist_ok=True)
    source = unpacked(folder, peer)
    for name, text in peer.missing:
        path = source / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    tools = tools_of(folder)
    env = {"PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"}
    log = folder / f"{peer.build}.log"
    remedy = f"see {log}; a C++17 compiler is needed; delete {out} before another try"
    print(f"building {peer.name} in {out}: minutes", file=sys.stderr)
    run([tools / "cmake", "-S", source, "-B", out, *FLAGS, *peer.flags], remedy, env=env, log=log)
    run([tools / "ninja", "-C", out, "-j", jobs, *TARGETS], remedy, env=env, log=log)
    return out


def unpacked(folder, peer):
    """The peer's source, downloaded and unpacked if it is not there."""
    source = folder / peer.source
    if source.is_dir():
        return source
    archive = downloaded(folder / "dl", peer)
    print(f"unpacking {archive}", file=sys.stderr)
    top = peer.source.split("/")[0]
    try:
        # Elsewhere first, so that what is there under its name is whole.
        with tempfile.TemporaryDirectory(dir=folder) as partial, tarfile.open(archive) as tar:
            # Members that would lie outside the folder are refused.
            tar.extractall(partial, filter="data")
            os.replace(Path(partial) / top, folder / top)
    except (tarfile.TarError, OSError, TypeError) as error:
        raise BenchError(f"{archive} cannot be unpacked: {error}",
                         "delete it and run again; Python must be 3.11.4 or newer") from None
    if not source.is_dir():
        raise BenchError(f"{archive} has no {peer.source}", "the pin in bench/camelid_bench/peers.py is wrong")
    return source


def downloaded(folder, peer):
    """The peer's archive in `folder`, fetched by pip, which checks its hash before it runs anything in it."""
    archive = folder / (peer.source.split("/")[0] + ".tar.gz")
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        requirements = folder / f"{peer.build}.txt"
        requirements.write_text(f"{peer.package}=={peer.version} --hash=sha256:{peer.sha256}\n", encoding="utf-8")
        print(f"downloading {peer.package} {peer.version}", file=sys.stderr)
        # Only this package from source: pip gets what it needs to read the sdist's metadata as wheels.
        run([sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--no-input",
             "--no-binary", peer.package, "--dest", folder, "-r", requirements],
            "check that pip reaches PyPI; or give a folder with built peers: --peers DIR")
    if not archive.exists():
        raise BenchError(f"pip left no {archive.name} in {folder}", "look what it left there and report the name")
    with open(archive, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != peer.sha256:
        raise BenchError(f"{archive} has SHA-256 {found}, but {peer.sha256} is pinned", "delete it and run again")
    return archive


def tools_of(folder):
    """The folder of the programs cmake and ninja, installed into a virtual environment if they are not there."""
    bin = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    if not all((bin / tool).exists() for tool in ("cmake", "ninja")):
        venv.create(folder / "venv", with_pip=True)
        run([bin / "python", "-m", "pip", "install", "--no-input", *TOOLS], "check that pip reaches PyPI")
    return bin
