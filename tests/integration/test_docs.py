"""The documents: what they name is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from revokebus.connection.script import Script
from revokebus.protocol.names import Names
from revokebus.protocol.wire import MAX_BYTES, decode_inquiry, decode_message, decode_payload
from revokebus.scripts import data_set, exchanging, presence, questions, writing
from revokebus.store.audit import _commands, _rule

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_test_that_is_named_exists(document: Path) -> None:
    """A promise would rest on a test that nobody runs."""
    for path, name in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", document.read_text()):
        tree = ast.parse((ROOT / path).read_text())
        defined = {getattr(node, "name", None) for node in tree.body}
        assigned = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        assert not name or name in defined | assigned, f"{path}::{name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    """A reader would be sent to a page that is not there."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_the_bytes_that_are_shown_can_be_read() -> None:
    """Whoever writes another implementation would begin with a wrong example."""
    text = (ROOT / "docs" / "protocol.md").read_text()
    payload, keeping, message = re.findall(r"```text\n((?:2|RB) .*)\n```", text)
    assert [each.claim for each in decode_payload(payload.encode())] == ["jti", "sub"]
    assert [each.kept for each in decode_payload(keeping.encode())] == [("0aZ…", 0.0)]
    heard = decode_message(message.replace("0f3a…c2", "0" * 32).encode())
    assert [each.claim for each in decode_payload(heard.payload)] == ["jti"]
    assert heard.previous < heard.entry
    (question,) = re.findall(r"```text\n(RQ .*)\n```", text)
    question = question.replace("0f3a…c2", "0" * 32).replace("77d0…1e", "0" * 16)
    asked = decode_inquiry(question.encode())
    assert asked is not None
    assert asked.entry == heard.entry
    assert MAX_BYTES == 1024**2


def test_the_rights_that_are_named_are_those_of_the_scripts() -> None:
    """An operator who follows the page would be refused by a command that was added since."""
    text = (ROOT / "docs" / "protocol.md").read_text()
    (recipe,) = re.findall(r"ACL SETUSER app (.*)", text)
    used = set()
    for module in (data_set, exchanging, presence, questions, writing):
        for script in (each for each in vars(module).values() if isinstance(each, Script)):
            used |= set(re.findall(r"redis\.p?call\('(\w+)'", script.text))
    rules = set(recipe.split())
    assert {f"+{command.lower()}" for command in used} <= rules
    audited = {_rule(command) for command in _commands(Names("x"))}
    assert audited | {"+select", "+wait"} == {rule for rule in rules if rule.startswith("+")}
