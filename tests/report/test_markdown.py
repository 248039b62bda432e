from hypothesis import given
from hypothesis import strategies as st

from privet.report.markdown import markdown
from privet.report.tables import table


def cells(line):
    """Split a row as GitHub does: at pipes that no backslash escapes; then undo the escapes."""
    found, cell, marks = [], "", iter(line)
    for mark in marks:
        if mark == "\\":
            cell += next(marks)
        elif mark == "|":
            found.append(cell)
            cell = ""
        else:
            cell += mark
    assert cell == ""
    return [one.strip(" ") for one in found[1:]]


def test_a_table_in_markdown():
    made = table("Title", ("attack", "AUC", "TPR"), [("nn|2", "0.5", "1% [0, 2]")], note="Note.")
    assert markdown(made) == (
        "| attack | AUC | TPR |\n"  # Neither title nor note: a document has its own.
        "| :-- | --: | --: |\n"
        "| nn\\|2 | 0.5 | 1% [0, 2] |\n"
    )


def test_labels_are_aligned_left():
    assert (
        markdown(table("", ("a", "b", "c"), [], labels=2)).splitlines()[1] == "| :-- | :-- | --: |"
    )


def test_what_markdown_or_html_would_act_on_is_escaped():
    made = markdown(table("", ("x",), [("a_b *c* `d` <i> &amp; ~~e~~ \\|",)]))
    assert made.splitlines()[2] == (r"| a\_b \*c\* \`d\` \<i> \&amp; \~\~e\~\~ \\\| |")


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_cells_come_back_as_they_were(rows):
    made = table("", ("a", "b"), rows)
    lines = markdown(made).split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(rows) + 2
    for line, row in zip(lines[2:], made.rows, strict=True):
        assert cells(line) == [cell.strip(" ") for cell in row]
