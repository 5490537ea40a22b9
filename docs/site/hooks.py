"""What the documentation site takes from outside its folder: pages of the root, plots, examples.

The pages are read in a checkout as well, where links go to files beside ``docs/``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[2]
OUTSIDE = re.compile(r"\]\(\.\./([^)#]+)")
IN_README = re.compile(r"\]\((?!https?:|#|docs/)([^)#]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the README as the first page, and every file that a page links to."""
    readme = (ROOT / "README.md").read_text()
    linked = {match for file in files for match in _outside(file)}
    linked |= set(IN_README.findall(readme))
    for name in sorted(linked):
        if name.endswith(".md"):
            text = (ROOT / name).read_text()
            files.append(File.generated(config, name, content=_beside_docs(text)))
        elif (ROOT / name).is_file():
            source = str(ROOT / name)
            files.append(File.generated(config, name, abs_src_path=source))
    files.append(File.generated(config, "index.md", content=_beside_docs(readme)))
    return files


def _outside(file: File) -> list[str]:
    return OUTSIDE.findall(file.content_string) if file.src_uri.endswith(".md") else []


def _beside_docs(page: str) -> str:
    """Return a page of the root as it reads within ``docs/``."""
    # A folder is no page; its name is shown as it is.
    without_folders = re.sub(r"\[(`[\w/]+`)\]\([a-z_]+\)", r"\1", page)
    return without_folders.replace("](docs/", "](")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead links that go beside ``docs/`` to what was added."""
    return OUTSIDE.sub(r"](\1", markdown)
