"""The documentation as a site: it is built strictly, and every link in it leads somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import revokebus

ROOT = Path(__file__).parents[2]


class Links(HTMLParser):
    """Collects what a page refers to, and what in it can be referred to."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - the parser's
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.targets.append(value)
            if name in ("id", "name") and value:
                self.names.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def read(path: Path) -> Links:
    links = Links()
    links.feed(path.read_text())
    return links


def test_every_link_leads_to_a_page_and_a_place_in_it(site: Path) -> None:
    """A reader would end on a missing page, or at the top of a long one."""
    pages = {path: read(path) for path in site.glob("*.html")}
    assert len(pages) > 15
    for path, links in pages.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            found = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert found.exists(), f"{path.name}: {target}"
            if parts.fragment and found in pages:
                names = pages[found].names
                assert unquote(parts.fragment) in names, f"{path.name}: {target}"


def test_everything_that_is_exported_is_in_the_reference(site: Path) -> None:
    """A user could not look up what he imports."""
    names = read(site / "reference.html").names
    documented = {each.split(".")[1] for each in names if re.fullmatch(r"revokebus\.\w+", each)}
    assert documented - {"errors", "testing"} == set(revokebus.__all__) - {"RevokeBusError"}
    assert "revokebus.errors.RevokeBusError" in names


def test_every_setting_is_in_the_reference(site: Path) -> None:
    """A setting would be known to those who read the source."""
    text = (site / "reference.html").read_text()
    for name in revokebus.Settings.model_fields:
        assert re.search(rf"\b{name}\b", text), name


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    """The pages would be empty for whoever reads them behind a firewall."""
    for path in site.glob("*.html"):
        for tag in re.findall(r"<(?:script|img|link)\b[^>]*>", path.read_text()):
            if 'rel="canonical"' not in tag:
                assert not re.search(r'(?:src|href)="https?://', tag), f"{path.name}: {tag}"
