"""Build `pugd._native` with cffi in API mode from native/pugd.cdef and every native/*.c.

`python native/build.py` builds it into pugd/ of this checkout, through native/build/. What Python may call is written
by hand in pugd.cdef; every header beside it is included.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cffi import FFI

here = Path(__file__).resolve().parent
root = here.parent

ffi = FFI()
ffi.cdef((here / "pugd.cdef").read_text())
ffi.set_source(
    "pugd._native",
    "\n".join(f'#include "{path.name}"' for path in sorted(here.glob("*.h"))),
    sources=[str(path) for path in sorted(here.glob("*.c"))],
    include_dirs=[str(here)],
    depends=[str(path) for path in sorted(here.glob("*.h"))],
    extra_compile_args=["-std=gnu11", "-O3", "-g1", "-Wall", "-Wextra", "-Wno-unused-parameter", "-pthread"],
    extra_link_args=["-pthread"],
)


def build() -> Path:
    """Compile; returns where the extension now lies in pugd/."""
    work = here / "build"
    work.mkdir(exist_ok=True)
    built = Path(ffi.compile(tmpdir=str(work), verbose=bool(os.environ.get("PUGD_BUILD_VERBOSE"))))
    placed = root / "pugd" / built.name
    fresh = placed.with_suffix(".new")
    shutil.copy2(built, fresh)
    fresh.replace(placed)
    return placed


if __name__ == "__main__":
    print(build())
