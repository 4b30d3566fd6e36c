"""What pages share: templates that escape, a script with its hash, names and numbers typeset."""

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def environment() -> "Environment":
    """Return the templates' environment; every text is escaped, and a missing one is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("unlearn_bench.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"breakable": _breakable, "typeset": _typeset}
    return found


def scripted(templates: "Environment", *names: str) -> dict[str, Any]:
    """Return a page's script, and the hash by which its policy lets that script alone run.

    Args:
        templates: Where the scripts lie.
        names: Of the files, in the order in which they run.
    """
    sources = ['"use strict";\n']
    for name in names:
        assert templates.loader is not None
        sources.append(templates.loader.get_source(templates, name)[0])
    script = "\n".join(sources)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {"script": script, "script_hash": digest}


def _breakable(name: str) -> "Markup":
    """Let a long name break where a reader expects it: after an underscore, colon or semicolon."""
    from markupsafe import Markup

    return Markup("<wbr>").join(re.split("(?<=[_:;])", name))


def _typeset(text: str) -> str:
    """Keep a number with its unit and its interval on one line."""
    return text.replace(" %", "\u00a0%").replace(" ± ", "\u00a0±\u00a0")
