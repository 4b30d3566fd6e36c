"""Equal specifications give equal keys, everywhere and for ever."""

import hashlib
from pathlib import Path

import pytest

from unlearn_bench.core.keys import canonical_json, code_hash, content_key, file_hash


def test_the_order_of_keys_does_not_matter_the_order_of_lists_does() -> None:
    assert canonical_json({"b": [1, 2], "a": None}) == '{"a":null,"b":[1,2]}'
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})
    assert content_key([1, 2]) != content_key([2, 1])


def test_a_key_is_half_a_sha256_and_stays_what_it_is() -> None:
    # sha256 of the two characters {}: a changed key would orphan everybody's results.
    assert content_key({}) == "44136fa355b3678a1146ad16f7e8649e"


def test_a_number_is_not_its_text() -> None:
    assert len({content_key(v) for v in (1, "1", True, 1.5, [1], None)}) == 6


def test_numbers_without_a_json_word_are_refused() -> None:
    with pytest.raises(ValueError):
        content_key({"lr": float("nan")})


def test_a_files_hash_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\x00abc" * 100_000)
    assert file_hash(path) == hashlib.sha256(b"\x00abc" * 100_000).hexdigest()


CODE = '"""What."""\n\ndef f(x):\n    """Say é\n    more."""\n    return "x"  # é\n'


@pytest.mark.parametrize(
    ("edit", "same"),
    [
        (("What.", "What, and why,\nat length."), True),
        (("more", ""), True),
        (('"x"', '"y"'), False),
        (("f(x)", "f(z)"), False),
        (("return", "'not a docstring'; return"), False),
    ],
)
def test_a_code_hash_follows_what_is_done_and_not_what_is_said(
    tmp_path: Path, edit: tuple[str, str], same: bool
) -> None:
    path = tmp_path / "code.py"
    path.write_text(CODE, encoding="utf-8")
    before = code_hash(path)
    path.write_text(CODE.replace(*edit), encoding="utf-8")
    assert (code_hash(path) == before) is same


def test_a_code_hash_takes_docstrings_beside_code(tmp_path: Path) -> None:
    hashes = set()
    for said in ("a", "b"):
        path = tmp_path / "code.py"
        path.write_text(f"class A: '{said}'\nclass B:\n    '{said}'; x = 1\n")
        hashes.add(code_hash(path))
    assert len(hashes) == 1
