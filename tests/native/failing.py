"""`pugd._native` once more, with a heap that fails when it is told to: for tests that go through the Python faces.

`load()` compiles it where it is not there yet or old, and puts it in the place of the real one, for the whole process:
so only a process of its own may do this, before it imports anything of pugd.identity. `fail_at(n)` makes the n-th
allocation from now fail, and those after it; `fail_at(0)` none. `held()` says how many are allocated and not freed.
"""

from __future__ import annotations

import fcntl
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from cffi import FFI

NATIVE = Path(__file__).resolve().parents[2] / "native"
BUILT = NATIVE / "build" / "failing"
HEAP = """
#include "memory.h"
static long failing_in, failing_held;
static int failing(void) { return failing_in && (failing_in == 1 || (--failing_in, 0)); }
void *pugd_malloc(size_t size)
{
    void *memory = failing() ? NULL : malloc(size);
    if (memory) failing_held += 1;
    return memory;
}
void *pugd_calloc(size_t count, size_t size)
{
    void *memory = failing() ? NULL : calloc(count, size);
    if (memory) failing_held += 1;
    return memory;
}
void *pugd_realloc(void *old, size_t size)
{
    void *memory = failing() ? NULL : realloc(old, size);
    if (memory && !old) failing_held += 1;
    return memory;
}
void pugd_free(void *old)
{
    if (old) failing_held -= 1;
    free(old);
}
static void pugd_test_fail_at(long at) { failing_in = at; }
static long pugd_test_held(void) { return failing_held; }
"""
FACE = "void pugd_test_fail_at(long at); long pugd_test_held(void);"

_loaded: ModuleType | None = None


def _build() -> Path:
    ffi = FFI()
    ffi.cdef((NATIVE / "pugd.cdef").read_text() + FACE)
    ffi.set_source(
        "pugd._native",
        "\n".join(f'#include "{path.name}"' for path in sorted(NATIVE.glob("*.h"))) + HEAP,
        sources=[str(path) for path in sorted(NATIVE.glob("*.c"))],
        include_dirs=[str(NATIVE)],
        define_macros=[("PUGD_TEST_MEMORY", "1")],
        extra_compile_args=["-std=gnu11", "-O2", "-g1", "-pthread"],
        extra_link_args=["-pthread"],
    )
    return Path(ffi.compile(tmpdir=str(BUILT)))


def load() -> None:
    """From here on `pugd._native` is the one that can fail."""
    global _loaded
    assert "pugd._native" not in sys.modules, "too late: the real one is in use"
    BUILT.mkdir(parents=True, exist_ok=True)
    sources = [*NATIVE.glob("*.[ch]"), NATIVE / "pugd.cdef", Path(__file__)]
    with (BUILT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = sorted((BUILT / "pugd").glob("_native*.so"))
        newest = max(path.stat().st_mtime for path in sources)
        path = found[0] if found and found[0].stat().st_mtime > newest else _build()
    import pugd

    spec = importlib.util.spec_from_file_location("pugd._native", path)
    assert spec is not None
    assert spec.loader is not None
    _loaded = importlib.util.module_from_spec(spec)
    sys.modules["pugd._native"] = _loaded
    spec.loader.exec_module(_loaded)
    pugd._native = _loaded  # type: ignore[attr-defined]


def fail_at(number: int) -> None:
    assert _loaded is not None
    _loaded.lib.pugd_test_fail_at(number)


def held() -> int:
    assert _loaded is not None
    return int(_loaded.lib.pugd_test_held())
