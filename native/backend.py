"""How `pip install` builds pugd: setuptools, given the native extension that native/build.py describes (PEP 517).

setuptools reads everything else from pyproject.toml; an extension whose C is generated cannot be described there.
"""

from __future__ import annotations

import os
from typing import Any

import build as native
import setuptools
from setuptools import build_meta
from setuptools.build_meta import (
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_wheel",
]


def _extension() -> Any:
    """The extension, its C written out, its paths as setuptools wants them: relative."""
    work = native.here / "build"
    work.mkdir(exist_ok=True)
    extension = native.ffi.distutils_extension(tmpdir=str(work), verbose=False)
    extension.sources = [os.path.relpath(source, native.root) for source in extension.sources]
    return extension


_setup = setuptools.setup


def _setup_with_extension(**given: Any) -> Any:
    return _setup(ext_modules=[_extension()], **given)


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """A wheel with the extension in it, for this Python and this machine."""
    setuptools.setup = _setup_with_extension
    try:
        return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
    finally:
        setuptools.setup = _setup


build_sdist = build_meta.build_sdist
