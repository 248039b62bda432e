"""How commands behave beside their answers: interrupts, logs, and sentences on narrow terminals."""

import logging
import subprocess
import sys
from textwrap import dedent

import pytest

from cli.commands import refusal
from privet.cli import console
from privet.progress import track


def test_an_interrupt_that_a_callback_swallows_ends_the_command_all_the_same():
    script = dedent(
        """
        import time
        from privet import cli

        class Callback:
            def __del__(self):
                raise KeyboardInterrupt

        def work(*arguments, **options):
            Callback()
            time.sleep(60)

        cli.build = lambda: work
        cli.main([])
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 130
    assert done.stderr.startswith("privet: interrupted")
    assert done.stderr.count("\n") == 1


def test_other_errors_of_callbacks_are_still_told():
    script = dedent(
        """
        from privet import cli

        class Callback:
            def __del__(self):
                raise ValueError("told")

        def work(*arguments, **options):
            Callback()

        cli.build = lambda: work
        cli.main([])
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0
    assert "ValueError: told" in done.stderr


@pytest.mark.parametrize(("patience", "lines"), [(0, 3), (60, 0)])
def test_a_log_tells_of_long_work_now_and_then(patience, lines, monkeypatch, caplog):
    monkeypatch.setattr(console, "PATIENCE", patience)
    with caplog.at_level(logging.INFO, "privet"), console.progress():
        assert list(track("abc", "training, epochs")) == ["a", "b", "c"]
    assert len(caplog.messages) == lines
    if lines:
        assert caplog.messages[-1] == "training, epochs: 3 of 3"


def test_sentences_are_broken_and_commands_are_not(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    words = "word " * 20
    console.answer({}, *console.prose(words), f"Next: {words}", as_json=False)
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].strip() == f"Next: {words}".strip()
    assert all(len(line) <= 40 for line in printed[:-1])
    assert len(printed) > 2


def test_a_table_of_many_runs_has_no_page(tmp_path, capsys):
    (tmp_path / "wemem.json").write_text("{}")
    assert "--table" in refusal("report {}", tmp_path, capsys=capsys)
