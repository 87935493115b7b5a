"""A YAML document from somebody we do not trust, read without building anything it should not.

By PyYAML, which cloud-init reads it with too, so that the verdict is the guest's. Depth, number and
repetition of its nodes are known before a value is made; what is made are plain values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vms.config.finding import Severity

NODES, DEPTH, ALIASES, EXPANDED = 50_000, 40, 1_000, 200_000
"""What a document may have: nodes as written, levels, references, and nodes once references are followed."""


@dataclass(frozen=True)
class Remark:
    """Something to say about a text. ``line`` counts from 1; 0 is the whole. ``block`` keeps it out."""

    severity: Severity
    text: str
    line: int = 0


@dataclass(frozen=True)
class Document:
    """A document's plain value, and where the keys of its top level stand."""

    value: Any
    lines: Mapping[str, int]

    def line(self, key: str) -> int:
        """The line of a key of the top level; 0 without it."""
        return self.lines.get(key, 0)


def read(text: str) -> tuple[Document | None, list[Remark]]:
    """The document in ``text``, or why it cannot be one. Never raises, builds nothing but plain values."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        problem = _measured(yaml.parse(text, Loader=loader))
        if problem is not None:
            return None, [problem]
        node = yaml.compose(text, Loader=loader)
        if node is None:
            return Document(None, {}), []
        problem = _expanded(node)
        if problem is not None:
            return None, [problem]
        remarks = [*_twice(node)]
        value = yaml.constructor.SafeConstructor().construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = error.problem or error.context or "it cannot be read"
        return None, [Remark("block", f"no YAML: {said}", mark.line + 1 if mark else 0)]
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        said = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        return None, [Remark("block", f"no YAML: {said}")]
    lines = {}
    if isinstance(node, yaml.MappingNode):
        lines = {str(key.value): key.start_mark.line + 1 for key, _ in node.value}
    return Document(value, lines), remarks


def _measured(events: Iterator[Any]) -> Remark | None:
    """Depth and number of nodes, told from the stream of events: a parser that never recurses."""
    import yaml

    depth = nodes = aliases = documents = 0
    for event in events:
        line = event.start_mark.line + 1
        if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            depth += 1
            if depth > DEPTH:
                return Remark("block", f"it is nested more than {DEPTH} levels deep", line)
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            depth -= 1
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                return Remark("block", "a second document begins; cloud-init reads one", line)
        nodes += isinstance(event, yaml.NodeEvent)
        if nodes > NODES or aliases > ALIASES:
            return Remark("block", f"it has more than {NODES} nodes or {ALIASES} references", line)
    return None


def _expanded(node: Any) -> Remark | None:
    """How many nodes there are once every reference is followed; a reference to its own parent is none."""
    import yaml

    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(one: Any) -> int:
        if isinstance(one, yaml.ScalarNode):
            return 1
        if id(one) in sizes:
            return sizes[id(one)]
        if id(one) in open_nodes:
            return EXPANDED + 1
        open_nodes.add(id(one))
        parts = (
            one.value if isinstance(one, yaml.SequenceNode) else [part for pair in one.value for part in pair]
        )
        total = 1 + sum(size(part) for part in parts)
        open_nodes.discard(id(one))
        sizes[id(one)] = min(total, EXPANDED + 1)
        return sizes[id(one)]

    if size(node) > EXPANDED:
        return Remark("block", f"its references (&, *) expand to more than {EXPANDED} nodes", 1)
    return None


def _twice(node: Any) -> Iterator[Remark]:
    """Keys given twice: cloud-init keeps the last and says nothing."""
    import yaml

    waiting, seen = [node], set[int]()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, yaml.SequenceNode):
            waiting += one.value
        elif isinstance(one, yaml.MappingNode):
            keys = set[str]()
            for key, value in one.value:
                waiting.append(value)
                if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                    if key.value in keys:
                        text = f"'{key.value[:60]}' is given twice; the last one counts"
                        yield Remark("warn", text, key.start_mark.line + 1)
                    keys.add(key.value)
