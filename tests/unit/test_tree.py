"""What the files of the repository never tell: where packages come from, and where a checkout lies."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INDEX = re.compile(
    r"pypi\.(?:org|python)|pythonhosted\.|proxy\.golang\.|goproxy|artifactory|/simple/?(?=[\s\"'])|"
    r"--(?:extra-)?index-url[ =]|--trusted-host|--find-links"
)
MACHINE = re.compile(r"(?<![\w.~}])/(?:root|home|Users|work|workspace)/\w")
SETTINGS = (
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX", "UV_INDEX_URL", "UV_DEFAULT_INDEX"),
    *("UV_EXTRA_INDEX_URL", "GOPROXY", "GOSUMDB", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"),
)  # fmt: skip
PUBLIC = ("proxy.golang.org", "sum.golang.org", "direct", "off", "localhost")


@cache
def lines() -> tuple[tuple[str, str], ...]:
    """Every line of every text file that git knows, and where it stands."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no checkout of git")
    found = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if path.is_file() and path != Path(__file__):
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [(f"{name}:{number}", line) for number, line in enumerate(text.splitlines(), start=1)]
    return tuple(found)


def hosts() -> Iterator[str]:
    """The hosts that this machine is told to get packages from."""
    for setting in SETTINGS:
        for address in re.split(r"[\s,|]+", os.environ.get(setting, "")):
            host = re.sub(r"^\w+://|^[^/]*@", "", address).rpartition("@")[2].split("/")[0].split(":")[0]
            if "." in host and host not in PUBLIC:
                yield host


def where(pattern: re.Pattern[str]) -> list[str]:
    return [place for place, line in lines() if pattern.search(line)]


def test_files_never_name_a_package_index() -> None:
    text = {place.split(":")[0] for place, _ in lines()}
    assert {"pyproject.toml", "requirements.lock", ".ci/run"} <= text
    assert where(INDEX) == []
    for host in hosts():
        assert where(re.compile(re.escape(host))) == []


def test_files_never_name_a_folder_of_somebodys_machine() -> None:
    assert where(MACHINE) == []
    assert where(re.compile(re.escape(str(ROOT)) + r"(?![\w-])")) == []
