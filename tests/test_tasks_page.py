"""docs/tasks.md says what the tasks say, and the page shows what moves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pgbench.cli import invoke
from pgbench.errors import UsageError
from pgbench.registry import load_task, task_head, task_names
from pgbench.report.tasks_page import Entry, page
from pgbench.types import Profile, Sample, Task

PAGE = Path(__file__).parents[1] / "docs" / "tasks.md"
RENEW = "docs/tasks.md is behind the tasks; renew it: pgbench tasks --markdown > docs/tasks.md"


def section(task: Task, head: str = "") -> str:
    return page([Entry(task.name, head, task)]).split("\n## ", 1)[1]


@pytest.fixture
def textvqa() -> Task:
    return load_task("textvqa")


def test_the_page_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["tasks", "--markdown"]) == 0
    assert capsys.readouterr().out == PAGE.read_text(encoding="utf-8"), RENEW


def test_every_shipped_task_is_on_it_with_prompt_and_sources() -> None:
    text = PAGE.read_text(encoding="utf-8")
    parts = {one.split("\n", 1)[0]: one for one in text.split("\n## ")[1:]}
    assert {name for name, owner in task_names().items() if owner == "pgbench"} <= parts.keys()
    for name, part in parts.items():
        task = load_task(name)
        assert all(f"`{metric.name}`" in part for metric in task.metrics)
        assert all(f"{split} (" in part for split in task.splits)
        assert task.licence in part
        assert task.cite in part
        assert "depends on the sample" not in part, "the made-up sample lacks what the prompt reads"


def test_a_head_becomes_paragraphs_and_no_html(textvqa: Task) -> None:
    head = "Title.\n\nLayouts: a/<x>/b.\nPrompt: `<image 1>` stays,\nso does this.\n"
    text = section(textvqa, head)
    assert "Title.\n\nLayouts: a/&lt;x>/b.\n\nPrompt: `<image 1>` stays,\nso does this.\n" in text


def test_a_prompt_is_shown_once_where_all_are_asked_alike(textvqa: Task) -> None:
    assert section(textvqa).count("answer en Is the car red?") == 1


def test_kinds_and_variants_that_differ_are_named(textvqa: Task) -> None:
    def prompt(_sample: Sample, profile: Profile, variant: str) -> str:
        long = (profile.kind, profile.family) == ("mix", "paligemma2")
        return f"{variant} {'describe' if long else 'caption'}"

    text = section(replace(textvqa, prompt=prompt, variants=("short", "long")))
    assert "variant short, pt, mix of paligemma, ft, chat:\n```text\nshort caption\n```" in text
    assert "variant long, mix of paligemma2:\n```text\nlong describe\n```" in text


def test_forms_of_question_that_a_task_cannot_score_are_left_out() -> None:
    text = section(load_task("scienceqa"))
    assert "Options: (A) yes, (B) no" in text
    assert "Options: \n" not in text
    assert "to be judged:" in section(load_task("cmmmu"))


def test_a_task_that_refuses_or_needs_more_is_no_end_of_the_page(textvqa: Task) -> None:
    def refused(_sample: Sample, _profile: Profile, _variant: str) -> str:
        raise UsageError("no such style")

    def needy(sample: Sample, _profile: Profile, _variant: str) -> str:
        return sample.images[0].name

    assert "(not asked: no such style)" in section(replace(textvqa, prompt=refused))
    assert "(depends on the sample: IndexError)" in section(replace(textvqa, prompt=needy))
    assert "## broken\n\nCannot be loaded: it has no TASK" in page([Entry("broken", "", "it has no TASK")])


def test_sizes_that_are_not_known_and_numbers_that_are_no_fractions(textvqa: Task) -> None:
    metric = replace(textvqa.metrics[0], number=True, floor=3.0, direction="down", source="a | b")
    text = section(replace(textvqa, splits={"all": None}, metrics=(metric,)))
    assert "all (size not fixed)" in text
    assert "| `accuracy` (primary) | 3 | lower | a \\| b |" in text


def test_the_head_of_a_task_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text('"""What it is.\n\n    Deviation: none.\n"""\nraise SystemExit\n')
    assert task_head(str(tmp_path / "mine.py")) == "What it is.\n\nDeviation: none."
    with pytest.raises(UsageError, match="unknown task 'gqaa'; did you mean gqa"):
        task_head("gqaa")


def test_two_forms_at_once_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["tasks", "--markdown", "--json"]) == 2
    assert "take one of them" in capsys.readouterr().err
