"""The document as one HTML page that needs nothing else, and prints on A4: ``audit.html``."""

from html import escape

from unlearn_bench.audit.document import Block, Bullets, Document, Section, Shares, Table
from unlearn_bench.audit.words import percent

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --line: #ccc; --soft: #f3f3f3;
  --good: #1a6b3c; --bad: #a3261b; --open: #7a5b00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #161616; --line: #444;
  --soft: #222; --good: #6fcf97; --bad: #ff8a7a; --open: #e2b93b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2rem; }
.headline { border-left: .4rem solid var(--tone); padding: .5rem 1rem; background: var(--soft); }
.headline strong { color: var(--tone); font-size: 1.2rem; display: block; }
.exposed { --tone: var(--bad); } .undetected { --tone: var(--good); }
.open { --tone: var(--open); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .5rem; text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
th, td:first-child { overflow-wrap: break-word; } th { font-weight: 600; }
.number { text-align: right; white-space: nowrap; }
figure { margin: 1rem 0; } figcaption { font-size: .9rem; } svg { width: 100%; height: auto; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; }
footer { margin-top: 2rem; font-size: .85rem; overflow-wrap: anywhere; }
@page { size: A4; margin: 18mm 15mm; }
@media print { :root { --ink: #000; --paper: #fff; --soft: #f3f3f3; --line: #bbb;
  --good: #1a6b3c; --bad: #a3261b; --open: #7a5b00; }
  body { max-width: none; padding: 0; font-size: 10pt; } table { font-size: 8.5pt; }
  h2 { break-after: avoid; }
  tr, figure, .headline { break-inside: avoid; } .wide { overflow: visible; } }
"""
_TONES = {"exposed": "exposed", "not detected": "undetected"}
_WIDTH, _LEFT, _ROW = 720, 170, 26


def render(document: Document) -> str:
    """Return the text of ``audit.html``."""
    sections = "".join(map(_section, document.sections))
    tone = _TONES.get(document.word, "open")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(document.title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<h1>{escape(document.title)}</h1>"
        f'<p class="headline {tone}"><strong>{escape(document.word.capitalize())}</strong>'
        f"{escape(document.sentence)}</p>{sections}</main>"
        f"<footer>Hash of this statement: <code>{escape(document.seal)}</code>. "
        "<code>unlearn-bench verify</code> checks it, and that this page says what audit.json "
        "holds.</footer></body></html>\n"
    )


def _section(section: Section) -> str:
    blocks = "".join(map(_block, section.blocks))
    return f"<section><h2>{escape(section.title)}</h2>{blocks}</section>"


def _block(block: Block) -> str:
    if isinstance(block, str):
        return f"<p>{escape(block)}</p>"
    if isinstance(block, Bullets):
        return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in block.items)}</ul>"
    if isinstance(block, Shares):
        return _figure(block)
    return _table(block)


def _table(table: Table) -> str:
    def row(cells: tuple[str, ...], tag: str) -> str:
        made = []
        for place, cell in enumerate(cells):
            kind = ' class="number"' if place >= table.words else ""
            made.append(f"<{tag}{kind}>{escape(cell)}</{tag}>")
        return f"<tr>{''.join(made)}</tr>"

    head = f"<thead>{row(table.columns, 'th')}</thead>" if any(table.columns) else ""
    body = "".join(row(cells, "td") for cells in table.rows)
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'


def _figure(shares: Shares) -> str:
    """Draw each model's share with its interval, and the share that chance gives."""
    most = max([shares.chance, *(found.high for found in shares.findings)])
    scale = (_WIDTH - _LEFT - 70) / most
    height = _ROW * (len(shares.findings) + 1)

    def x(value: float) -> str:
        return f"{_LEFT + value * scale:.1f}"

    lines = [
        f'<line x1="{x(shares.chance)}" x2="{x(shares.chance)}" y1="0" y2="{height - _ROW}" '
        'stroke="currentColor" stroke-dasharray="4 4"/>'
        f'<text x="{x(shares.chance)}" y="{height - 8}">chance, {percent(shares.chance)}</text>'
    ]
    for place, found in enumerate(shares.findings):
        y = _ROW * place + _ROW / 2
        color = "var(--bad)" if found.detected else "var(--good)"
        lines.append(
            f'<text x="0" y="{y + 5:.1f}">{escape(found.model)}</text>'
            f'<line x1="{x(found.low)}" x2="{x(found.high)}" y1="{y}" y2="{y}" stroke="{color}" '
            f'stroke-width="2"/><circle cx="{x(found.share)}" cy="{y}" r="4" fill="{color}"/>'
            f'<text x="{_LEFT + found.high * scale + 8:.1f}" y="{y + 5:.1f}">'
            f"{percent(found.share)}</text>"
        )
    label = "; ".join(f"{found.model} {percent(found.share)}" for found in shares.findings)
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(label)}">'
        f"{''.join(lines)}</svg><figcaption>{escape(shares.title)}, with exact 95 % intervals."
        "</figcaption></figure>"
    )
