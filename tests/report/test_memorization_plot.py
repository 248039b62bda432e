"""The plot of memorization scores: bars, and a line where samples begin to count as risky."""

from privet.report import memorization

SCORES = {"counts": [3, 0, 5, 2], "edges": [0.0, 0.25, 0.5, 0.75, 1.0], "threshold": 0.6}


def test_the_line_is_drawn_and_told_only_where_the_defense_has_a_threshold():
    risky, plain = ({"scores": {**SCORES, "threshold": line}} for line in (0.6, None))
    drawings = [memorization.plot(run, identity="run") for run in (risky, plain)]
    assert all("memorization score" in drawing for drawing in drawings)
    assert drawings[0].count("stroke-dasharray") == drawings[1].count("stroke-dasharray") + 1
    assert "dashed" in memorization.caption(risky)
    assert "dashed" not in memorization.caption(plain)
