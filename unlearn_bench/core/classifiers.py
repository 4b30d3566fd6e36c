"""Which modules of a network give its logits, as timm names them."""

from torch import nn


def parts_of(model: nn.Module) -> list[nn.Module]:
    """Return the modules that end in logits; empty for a model without timm's interface.

    ``get_classifier`` names them, but for VOLO's ``aux_head``, whose logits of patches are added
    to those of the image: only the configuration names that one.
    """
    ask = getattr(model, "get_classifier", None)
    if ask is None:
        return []
    given = ask()
    found = list(given) if isinstance(given, tuple | list) else [given]
    configured = (getattr(model, "default_cfg", None) or {}).get("classifier")
    for name in configured if isinstance(configured, tuple | list) else ():
        named = dict(model.named_modules()).get(name)
        if named is not None and not any(named in part.modules() for part in found):
            found.append(named)
    return found
