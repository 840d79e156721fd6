"""The groups of levels `op` and `module`: which cases go into which file."""

from pathlib import Path

import attention_cases
import large_cases
import module_cases
import op_cases
import row_cases
import torch
from graph_case import Case, write_group

OPS = [
    op_cases.linear,
    op_cases.rms_norm,
    op_cases.rope,
    op_cases.elementwise,
    op_cases.activation,
    op_cases.softmax,
    op_cases.bmm,
    row_cases.gather_rows,
    row_cases.scatter,
    row_cases.moves,
    op_cases.fused,
    attention_cases.attention,
    *large_cases.LARGE,
]


def groups() -> dict[str, list[Case]]:
    """The cases by `LEVEL/GROUP`; an id given twice is an error."""
    found: dict[str, list[Case]] = {}
    seen: set[str] = set()
    for table in [*OPS, *module_cases.MODULES]:
        for case in table():
            if case.id in seen:
                raise ValueError(f"{case.id}: two cases have this id")
            seen.add(case.id)
            found.setdefault("/".join(case.id.split("/")[:2]), []).append(case)
    return found


def make(name: str, cases: list[Case], out: Path) -> None:
    """Writes `out/NAME.toml` and `out/NAME.safetensors`."""
    torch.set_num_threads(1)
    level, group = name.split("/")
    write_group(level, group, cases, out)
