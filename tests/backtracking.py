"""A backtracking matcher that counts its steps, and text that makes a pattern take many.

`re` does not say how much work a match was, and time depends on the machine. This matcher works as
`re` does, from the same parse tree, and counts; `test_linear_time.py` compares its results with
those of `re`. Checkers from the package index were tried first: one finds nothing in the pattern
that once hung every instance, another does not return.
"""

from __future__ import annotations

import re
import re._constants as op  # type: ignore[import-not-found]  # there is no public parse tree
import re._parser as parser  # type: ignore[import-not-found]  # likewise
from dataclasses import dataclass
from itertools import islice, product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Node = tuple[Any, Any]
    After = Callable[[int], Iterator[int]]

_LETTERS = "".join(map(chr, range(256)))


class TooManyStepsError(Exception):
    """The limit was reached."""


@dataclass(slots=True)
class Steps:
    """How many steps were made, and how many may be."""

    limit: int
    made: int = 0

    def take(self, count: int = 1) -> None:
        """Count steps.

        Raises:
            TooManyStepsError: There were too many.
        """
        self.made += count
        if self.made > self.limit:
            raise TooManyStepsError


def parse(pattern: re.Pattern[Any]) -> list[Node]:
    """Return the parse tree of a pattern."""
    return list(parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG & ~re.UNICODE))


class Matcher:
    """Matches one pattern as `re` does.

    Args:
        pattern: The pattern.
        text: The text, of characters below 256.
        steps: Counts.
    """

    def __init__(self, pattern: re.Pattern[Any], text: str, steps: Steps) -> None:
        self._tree = parse(pattern)
        self._text = text
        self._steps = steps
        self._flags = pattern.flags

    def run(self, mode: str, start: int = 0) -> tuple[int, int] | None:
        """Return the span that ``search``, ``match`` or ``fullmatch`` finds; None without one."""
        last = len(self._text) if mode == "search" else start
        for at in range(start, last + 1):
            for end in self._sequence(self._tree, 0, at):
                if mode != "fullmatch" or end == len(self._text):
                    return at, end
        return None

    def find_all(self) -> list[tuple[int, int]]:
        """Return the spans that ``findall`` finds."""
        spans, at = [], 0
        while at <= len(self._text) and (span := self.run("search", at)) is not None:
            spans.append(span)
            at = span[1] + (span[0] == span[1])
        return spans

    def _sequence(self, nodes: list[Node], index: int, at: int) -> Iterator[int]:
        # One character after another needs no depth.
        while index < len(nodes) and (accepts := self._one(nodes[index])) is not None:
            self._steps.take()
            if at >= len(self._text) or not accepts(self._text[at]):
                return
            at, index = at + 1, index + 1
        if index == len(nodes):
            yield at
            return
        for end in self._node(nodes[index], at):
            self._steps.take()
            yield from self._sequence(nodes, index + 1, end)

    def _one(self, node: Node) -> Callable[[str], bool] | None:
        """Return which characters a node accepts, if it is one that takes a single one."""
        if node[0] not in (op.LITERAL, op.NOT_LITERAL, op.IN, op.ANY):
            return None
        return members(node, self._flags).__contains__

    def _node(self, node: Node, at: int) -> Iterator[int]:  # noqa: C901 - a case for each kind
        kind, value = node
        if kind is op.SUBPATTERN:
            yield from self._sequence(list(value[-1]), 0, at)
        elif kind is op.BRANCH:
            for branch in value[1]:
                yield from self._sequence(list(branch), 0, at)
        elif kind is op.ATOMIC_GROUP:
            yield from islice(self._sequence(list(value), 0, at), 1)
        elif kind is op.POSSESSIVE_REPEAT:
            yield from islice(self._repeat(value, at), 1)
        elif kind is op.MAX_REPEAT:
            yield from self._repeat(value, at)
        elif kind is op.AT:
            if self._is_at(value, at):
                yield at
        elif kind in (op.ASSERT, op.ASSERT_NOT):
            direction, body = value
            start = at if direction > 0 else at - body.getwidth()[0]
            ends = self._sequence(list(body), 0, start) if start >= 0 else iter(())
            if (next(ends, None) is not None) == (kind is op.ASSERT):
                yield at
        else:
            raise NotImplementedError(str(kind))

    def _is_at(self, where: Any, at: int) -> bool:
        text = self._text
        before = text[at - 1 : at] if at else ""
        after = text[at : at + 1]
        if where in (op.AT_BEGINNING, op.AT_BEGINNING_STRING):
            return not before or (bool(self._flags & re.MULTILINE) and before == "\n")
        if where is op.AT_END:
            is_last = not after or (after == "\n" and at == len(text) - 1)
            return is_last or (bool(self._flags & re.MULTILINE) and after == "\n")
        if where is op.AT_BOUNDARY:
            return _is_word(before) != _is_word(after)
        raise NotImplementedError(str(where))

    def _repeat(self, value: Any, at: int) -> Iterator[int]:
        least, most, body = value
        nodes = list(body)
        if len(nodes) == 1 and (accepts := self._one(nodes[0])) is not None:
            end = at
            while end < len(self._text) and end - at < most and accepts(self._text[end]):
                end += 1
            self._steps.take(end - at + 1)
            yield from range(end, at + least - 1, -1)
            return
        # Depth first, by a stack of its own: thousands of rows are deeper than Python goes.
        stack = [(at, self._sequence(nodes, 0, at))]
        while stack:
            here, ends = stack[-1]
            self._steps.take()
            further = next(ends, None) if len(stack) <= most else None
            if further is None:
                stack.pop()
                if len(stack) >= least:
                    yield here
            elif further > here:
                stack.append((further, self._sequence(nodes, 0, further)))


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def members(node: Node, flags: int) -> frozenset[str]:
    """Return the characters below 256 that a node of a single character accepts."""
    kind, value = node
    if kind is op.ANY:
        return frozenset(_LETTERS) - {"\n"}
    if kind is op.LITERAL:
        return _cased({chr(value)}, flags)
    if kind is op.NOT_LITERAL:
        return frozenset(_LETTERS) - _cased({chr(value)}, flags)
    found: set[str] = set()
    is_negated = False
    for each, what in value:
        if each is op.NEGATE:
            is_negated = True
        elif each is op.LITERAL:
            found.add(chr(what))
        elif each is op.RANGE:
            found.update(map(chr, range(what[0], what[1] + 1)))
        else:
            # \d, \s, \w and their opposites: `re` itself knows what they are.
            source = {
                op.CATEGORY_DIGIT: r"\d",
                op.CATEGORY_SPACE: r"\s",
                op.CATEGORY_NOT_SPACE: r"\S",
                op.CATEGORY_WORD: r"\w",
                op.CATEGORY_NOT_WORD: r"\W",
            }[what]
            found.update(re.findall(source, _LETTERS, flags & re.ASCII))
    whole = _cased(found, flags)
    return frozenset(_LETTERS) - whole if is_negated else whole


def _cased(characters: set[str], flags: int) -> frozenset[str]:
    if not flags & re.IGNORECASE:
        return frozenset(characters)
    both = {each.lower() for each in characters} | {each.upper() for each in characters}
    return frozenset(each for each in both if len(each) == 1)


def attacks(pattern: re.Pattern[Any]) -> Iterator[tuple[str, str]]:
    """Yield pairs of a beginning and a text to repeat after it, one for each repetition.

    The beginning leads to a repetition of the pattern, and the text is what it repeats, in each of
    its alternatives, so that an end that does not fit has the matcher try all others.
    """
    yield "", "A"
    yield from _attacks(parse(pattern), [""], pattern.flags)


def _attacks(  # noqa: C901 - a case for each kind
    nodes: list[Node], before: list[str], flags: int
) -> Iterator[tuple[str, str]]:
    for node in nodes:
        kind, value = node
        inside: list[list[Node]] = []
        if kind is op.SUBPATTERN:
            inside = [list(value[-1])]
        elif kind is op.BRANCH:
            inside = [list(each) for each in value[1]]
        elif kind is op.ATOMIC_GROUP:
            inside = [list(value)]
        elif kind in (op.MAX_REPEAT, op.POSSESSIVE_REPEAT):
            inside = [list(value[2])]
            for head, body in product(before, _samples(list(value[2]), flags)):
                if body:
                    yield head, body
        for each in inside:
            yield from _attacks(each, before, flags)
        before = list(islice(map("".join, product(before, _samples([node], flags))), 4))


def _samples(nodes: list[Node], flags: int) -> list[str]:
    """Return some texts that `nodes` match, the shortest of each alternative."""
    found = [""]
    for node in nodes:
        kind, value = node
        if kind is op.SUBPATTERN:
            each = _samples(list(value[-1]), flags)
        elif kind is op.BRANCH:
            each = [text for branch in value[1] for text in _samples(list(branch), flags)]
        elif kind is op.ATOMIC_GROUP:
            each = _samples(list(value), flags)
        elif kind in (op.MAX_REPEAT, op.POSSESSIVE_REPEAT):
            each = [text * value[0] for text in _samples(list(value[2]), flags)]
        elif kind in (op.LITERAL, op.NOT_LITERAL, op.IN, op.ANY):
            accepted = sorted(members(node, flags))
            # A letter, where one fits: it is in most alternatives of a class.
            each = ["A" if "A" in accepted else accepted[0]]
        else:
            each = [""]
        found = list(islice(map("".join, product(found, each)), 4))
    return found
