"""Markdown tables."""

from nemo.collections.asr.parts.utils.markdown import markdown_table


def test_a_table_has_a_header_a_rule_and_its_rows():
    assert markdown_table(["context", "loss"], [["[80, 0]", 3.5], [(1, 2), None]]) == (
        "| context | loss |\n|---|---|\n| [80, 0] | 3.5 |\n| (1, 2) | None |"
    )


def test_a_table_without_rows_is_its_header():
    assert markdown_table(["one"], iter([])) == "| one |\n|---|"
