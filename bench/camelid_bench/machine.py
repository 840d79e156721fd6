"""What the machine is: processor, the flags that kernels look at, cores, load, compilers, and what its memory gives."""

import json
import os
import platform
from pathlib import Path

from .errors import BenchError, run

ROOT = Path(__file__).resolve().parents[2]
# Flags of /proc/cpuinfo that decide which kernels run.
FLAGS = ["sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16",
         "avx512_fp16", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve"]


def describe(cpuinfo=None):
    """Processor, cores and flags, out of the text of /proc/cpuinfo."""
    if cpuinfo is None:
        try:
            cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        except OSError:
            cpuinfo = ""
    fields = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    has = set(fields.get("flags", fields.get("Features", "")).split())
    family = [fields[key] for key in ("cpu family", "model", "stepping") if key in fields]
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "family_model_stepping": "/".join(family),
        "cores": os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in has],
        "cache": fields.get("cache size", ""),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def load():
    """Processes that wanted a core in the last minute, or None where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def build_crate(name, program, target, native=False):
    """Builds a crate of bench/ for release, `native` for this processor alone; the path of its program."""
    manifest = ROOT / "bench" / name / "Cargo.toml"
    env = {"RUSTFLAGS": f"{os.environ.get('RUSTFLAGS', '')} -C target-cpu=native".strip()} if native else {}
    run(["cargo", "build", "--release", "--locked", "--manifest-path", manifest, "--target-dir", target],
        env=env, remedy=f"run it by hand; Rust comes from rustup, and {manifest.name} pins what it needs")
    return Path(target) / "release" / program


def bandwidth(program, threads, launcher=()):
    """GB/s that `threads` threads read together."""
    output = run([*launcher, program, "--threads", threads, "--rounds", 5], "free 1 GiB of memory, or give --no-bandwidth", timeout=600)
    try:
        return float(json.loads(output)["gb_per_s"])
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{program} printed what cannot be read ({error}): {output!r}", "build it anew") from None
