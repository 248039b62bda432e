"""One line on stderr, exit status 2, and not a byte changed."""

import pytest

from privet.cli import run


def cases(table):
    return pytest.mark.parametrize(("command", "word"), table.values(), ids=table.keys())


def snapshot(folder):
    """Everything below a folder: the content of files, None for folders."""
    paths = sorted(folder.rglob("*"))
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in paths}


def assert_refused(command, word, *, place, capsys):
    before = snapshot(place)
    capsys.readouterr()
    # A --key, --bundle or --budget given twice would itself be an error: the last one counts.
    status = run(last_of_each(command.split()))
    out, err = capsys.readouterr()
    assert err.startswith("privet: "), err
    assert err.count("\n") == 1, err
    assert err.endswith("\n")
    assert word in err
    assert status == 2
    assert out == ""
    assert snapshot(place) == before
    assert not (place.parent / "cache").exists()


def last_of_each(words):
    """Drop options that are given again later, with their values."""
    kept = []
    for position, word in enumerate(words):
        if word.startswith("--") and word in words[position + 1 :]:
            continue
        previous = words[position - 1] if position else ""
        if previous.startswith("--") and previous in words[position:]:
            continue
        kept.append(word)
    return kept
