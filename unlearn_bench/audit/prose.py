"""The document as Markdown: ``audit.md``."""

from unlearn_bench.audit.document import Block, Bullets, Document, Shares, Table


def render(document: Document) -> str:
    """Return the text of ``audit.md``."""
    parts = [f"# {document.title}", f"**{document.word.capitalize()}.** {document.sentence}"]
    for section in document.sections:
        parts += [f"## {section.title}", *filter(None, map(_block, section.blocks))]
    parts.append(f"Hash of this statement: `{document.seal}`. `unlearn-bench verify` checks it.")
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, str):
        return _plain(block)
    if isinstance(block, Bullets):
        return "\n".join(f"- {_plain(item)}" for item in block.items)
    if isinstance(block, Shares):
        return ""  # its numbers are in the tables
    return _table(block)


def _table(table: Table) -> str:
    marks = ["---" if place < table.words else "---:" for place in range(len(table.columns))]
    lines = [table.columns, tuple(marks), *table.rows]
    return "\n".join(f"| {' | '.join(map(_plain, line))} |" for line in lines)


def _plain(text: str) -> str:
    """Return a text that Markdown shows as it is; names may be anybody's."""
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, f"\\{mark}")
    return text
