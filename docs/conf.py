"""How Sphinx builds these pages: `sphinx-build -W -n --keep-going -b html docs docs/_build/html`."""

from __future__ import annotations

import tomllib
from pathlib import Path

_PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"

project: str = "LeaderWorkerSet"
author: str = "the authors"
project_copyright: str = "the authors, under the Apache License 2.0"
release: str = tomllib.loads(_PYPROJECT.read_text(encoding="utf-8"))["project"]["version"]
version: str = release

extensions: list[str] = ["myst_parser"]
exclude_patterns: list[str] = ["_build"]
myst_heading_anchors: int = 3

html_theme: str = "furo"
html_title: str = f"LeaderWorkerSet {release}"
html_static_path: list[str] = ["_static"]
html_css_files: list[str] = ["tables.css"]
html_copy_source: bool = False
