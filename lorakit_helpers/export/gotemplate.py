"""The part of Go's text/template that Ollama's chat templates use: enough to see in Python what Ollama would send.

Text, ``{{ .Field }}``, ``$variables``, ``if``/``else``/``range``/``end``, ``eq ne lt le gt ge and or not len slice index``,
and the trimming of ``{{-`` and ``-}}`` (https://pkg.go.dev/text/template). Anything else is refused, never guessed.
"""

import json
import re
from dataclasses import dataclass, field

from ..errors import LorakitError

__all__ = ["Template", "parse"]

_ACTION = re.compile(r"(?P<left>\s*\{\{-(?=\s)|\{\{)(?P<code>.*?)(?P<right>(?<=\s)-\}\}\s*|\}\})", re.DOTALL)
_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|`[^`]*`|-?\d+|\$?(?:\.?[A-Za-z_]\w*)+|\$|\.|:=|=|[(),|])')
_OF = "\0"  # marks fields of what stands in brackets before them
_CHAIN = re.compile(r"(\$\w*)?((?:\.\w+)*)$")


@dataclass
class _Node:
    kind: str  # text, show, set, if, range
    code: object = None
    body: list = field(default_factory=list)
    otherwise: list = field(default_factory=list)
    names: tuple = ()


@dataclass(frozen=True)
class Template:
    """A parsed template.

    Attributes:
        nodes: its tree.
        fields: names of the fields it reads, anywhere.

    Example:
        >>> parse("{{ range .Messages }}<{{ .Role }}>{{ .Content }}{{ end }}!").execute(
        ...     {"Messages": [{"Role": "user", "Content": "Hi"}]})
        '<user>Hi!'
    """

    nodes: tuple
    fields: frozenset

    def execute(self, data: dict) -> str:
        """The text for this data.

        Raises:
            LorakitError: where the template does what this subset does not know.
        """
        out: list[str] = []
        _run(self.nodes, data, [{"$": data}], out)
        return "".join(out)

    def until_response(self) -> "Template":
        """Without what follows the first ``.Response``: how Ollama opens the last turn of a template without ``.Messages``."""
        return Template(tuple(_cut(self.nodes, [False])), self.fields)


def parse(text: str) -> Template:
    """Parse a template.

    Raises:
        LorakitError: for a block without end, and for what this subset does not know.
    """
    items, at, trim = [], 0, False
    for found in _ACTION.finditer(text):
        before = text[at : found.start()]
        items += [("text", before.lstrip() if trim else before), ("code", found["code"].strip())]
        at, trim = found.end(), False  # the trimmed blanks are part of the match
    items.append(("text", text[at:]))
    if any(kind == "text" and "{{" in piece for kind, piece in items):
        raise _odd("{{ without }}")
    fields: set[str] = set()
    nodes, rest = _block(items, 0, fields, top=True)
    if rest != len(items):
        raise _odd("end without a block")
    return Template(tuple(nodes), frozenset(fields))


def _odd(what: str) -> LorakitError:
    return LorakitError(
        "Ollama template", got=what, expected="the part of Go's templates that chat templates use",
        do="Compare with a template that modelfile() writes.",
    )  # fmt: skip


def _block(items, at, fields, top=False):
    """Nodes up to the matching end or else; the index of that item."""
    nodes = []
    while at < len(items):
        kind, code = items[at]
        word = code.split(None, 1)[0] if kind == "code" and code else ""
        if kind == "text":
            nodes += [_Node("text", code)] if code else []
        elif word in ("end", "else"):
            if top:
                raise _odd(f"{word} without a block")
            return nodes, at
        elif word in ("if", "range"):
            node, at = _branch(word, code[len(word) :], items, at, fields)
            nodes.append(node)
        elif not code.startswith("/*"):
            nodes.append(_action(code, fields))
        at += 1
    if not top:
        raise _odd("a block without end")
    return nodes, at


def _branch(word, code, items, at, fields):
    node = _action(code, fields)
    node = _Node(word, node.code, names=node.names)
    node.body, at = _block(items, at + 1, fields)
    code = items[at][1]
    if code.startswith("else"):
        more = code[4:].strip()
        if more:  # "else if x": as if an if stood in the else, with the same end
            inner, at = _branch("if", more.removeprefix("if"), items, at, fields)
            node.otherwise = [inner]
            return node, at
        node.otherwise, at = _block(items, at + 1, fields)
    return node, at


def _action(code, fields) -> _Node:
    tokens, at = [], 0
    while at < len(code.rstrip()):
        found = _TOKEN.match(code, at)
        if not found:
            raise _odd(code.strip())
        of_group = tokens[-1:] == [")"] and found[0][0] == "."  # (index .Messages 0).Role
        tokens.append(_OF + found[1] if of_group else found[1])
        at = found.end()
    fields |= {name for token in tokens if token[0] in ".$" + _OF for name in token.split(".")[1:] if name}
    for sign in (":=", "="):
        if sign in tokens:
            middle = tokens.index(sign)
            names = tuple(token for token in tokens[:middle] if token != ",")
            return _Node("set", (sign, _pipe(tokens[middle + 1 :])), names=names)
    return _Node("show", (None, _pipe(tokens)))


def _pipe(tokens):
    """A nested list: function or value, then its arguments."""
    stack: list[list] = [[]]
    for token in tokens:
        if token == "(":
            stack.append([])
        elif token == ")" and len(stack) > 1:
            inner = stack.pop()
            stack[-1].append(inner)
        elif token[0] == _OF:
            stack[-1][-1] = [_OF, stack[-1][-1], token[1:]]
        elif token in ("|", ")", ",", ":=", "="):
            raise _odd(" ".join(tokens))
        else:
            stack[-1].append(token)
    if len(stack) != 1 or not stack[0]:
        raise _odd(" ".join(tokens) or "an empty action")
    return stack[0]


def _run(nodes, dot, scopes, out) -> None:
    for node in nodes:
        if node.kind == "text":
            out.append(node.code)
            continue
        sign, pipe = node.code
        value = _value(pipe, dot, scopes)
        if node.kind == "show":
            out.append("<no value>" if value is None else str(value).lower() if isinstance(value, bool) else str(value))
        elif node.kind == "set":
            place = next((s for s in reversed(scopes) if node.names[0] in s), None) if sign == "=" else scopes[-1]
            if place is None:
                raise _odd(f"{node.names[0]} before it was declared")
            place[node.names[0]] = value
        elif node.kind == "if":
            _run(node.body if value else node.otherwise, dot, [*scopes, {}], out)
        else:
            for index, item in enumerate(value or ()):
                own = dict(zip(node.names[-2:], (index, item) if len(node.names) == 2 else (item,), strict=False))
                _run(node.body, item, [*scopes, own], out)
            if not value:
                _run(node.otherwise, dot, [*scopes, {}], out)


def _first(values, wanted: bool):
    """Of the values, taken one by one, the first that is true (or false), else the last: as Go's ``or`` (``and``)."""
    value = next(values)
    while bool(value) != wanted:
        try:
            value = next(values)
        except StopIteration:
            break
    return value


_FUNCTIONS = {
    "eq": lambda a, *others: any(a == b for b in others), "ne": lambda a, b: a != b, "not": lambda a: not a,
    "lt": lambda a, b: a < b, "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
    "and": lambda values: _first(values, False), "or": lambda values: _first(values, True), "len": len,
    "index": lambda a, i: a[i], "slice": lambda a, *ends: a[slice(*(*ends, None)[:2])],
}  # fmt: skip


def _value(pipe, dot, scopes):
    head, *arguments = pipe
    if head == _OF:
        return _operand(arguments[1], _value(arguments[0], dot, scopes), scopes)
    if isinstance(head, str) and head in _FUNCTIONS:
        values = (_value(a if isinstance(a, list) else [a], dot, scopes) for a in arguments)
        try:
            return _FUNCTIONS[head](values) if head in ("and", "or") else _FUNCTIONS[head](*values)
        except (TypeError, LookupError) as error:
            raise _odd(f"{head}: {error}") from error
    if arguments:
        raise _odd(f"{head} with arguments")
    if isinstance(head, list):
        return _value(head, dot, scopes)
    return _operand(head, dot, scopes)


def _operand(token: str, dot, scopes):
    if token[0] in '"`':
        return token[1:-1] if token[0] == "`" else json.loads(token)  # Go's escapes in templates are JSON's
    if token.lstrip("-").isdigit():
        return int(token)
    if token in ("true", "false"):
        return token == "true"
    if token == ".":
        return dot
    found = _CHAIN.match(token)
    if not found:
        raise _odd(token)
    value = dot
    if found[1]:
        place = next((s for s in reversed(scopes) if found[1] in s), None)
        if place is None:
            raise _odd(f"{found[1]}, which was not declared")
        value = place[found[1]]
    for name in found[2].split(".")[1:]:
        if value is not None and not isinstance(value, dict):
            raise _odd(f"{token} of {type(value).__name__}")
        value = value.get(name) if value else None
    return value


def _cut(nodes, found):
    kept = []
    for node in nodes:
        if found[0]:
            break
        if node.kind in ("if", "range"):
            node = _Node(node.kind, node.code, _cut(node.body, found), _cut(node.otherwise, found), node.names)
        elif node.kind == "show" and ".Response" in str(node.code):
            found[0] = True
        kept.append(node)
    return kept
