"""Rules files: every mistake at its place, and what a rule changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import planted
import pytest

from pgbench.check import asking, gate
from pgbench.check.findings import Check, Finding
from pgbench.check.rules import Rules
from pgbench.check.sides import Run, Side
from pgbench.cli import invoke
from pgbench.paired.evidence import Evidence
from pgbench.paired.reading import read
from pgbench.recipe.places import Mistakes
from pgbench.records import PeakMemory, RunRecord

POPE = planted.pope(180)
GOLD = planted.gold("pope", POPE)


def other(answer: str) -> str:
    return "no" if answer == "yes" else "yes"


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Evidence, Evidence]:
    """POPE; the candidate is wrong on half of the adversarial questions, and says neither once."""
    out = tmp_path_factory.mktemp("runs")
    worse = {
        name: other(answer) if name.startswith("adversarial") and int(name.split("-")[1]) % 2 else answer
        for name, answer in GOLD.items()
    }
    worse["random-3"] = "perhaps"
    before = planted.plant(out / "a", POPE, GOLD, task="pope", split="test").folder
    after = planted.plant(out / "b", POPE, worse, task="pope", split="test").folder
    return read(before), read(after)


def rules_of(tmp_path: Path, text: str) -> Rules:
    (tmp_path / "rules.yaml").write_text(text)
    return asking.read(tmp_path / "rules.yaml")


def side(*runs: Evidence) -> Side:
    return Side(tuple(Run(run.record, run) for run in runs))


def check(before: Evidence, after: Evidence, rules: Rules = Rules(), **more: bool) -> Check:  # noqa: B008
    return gate.check(side(before), side(after), rules, draws=999, **more)  # type: ignore[arg-type]


def by_what(found: Check) -> dict[str, Finding]:
    return {one.what: one for one in found}


def changed(run: Evidence, **record: object) -> Evidence:
    return replace(run, record=replace(run.record, **record))  # type: ignore[arg-type]


MISTAKEN = """\
defaults:
  tolerance: 0.5
  tolerance: 3
rules:
  - match: {task: pope, resolution: 224}
    require: {failures: 2.5, invalid: 101, memory: 5, speed: 1e1}
  - match: {tsk: pope}
    tolerance: yes
    alpha: 0.7
  - match: {}
    ignore: slow
  - 3
  - tolerance: 1
  - match: {task: a}
    metrics: f1
  - match: {task: b}
  - match: {task: c}
    ignore: few
    tolerance: 2
  - match: {quant: 4bit}
    metrics: [3]
"""


def test_all_mistakes_at_once_each_at_its_place(tmp_path: Path) -> None:
    with pytest.raises(Mistakes) as raised:
        rules_of(tmp_path, MISTAKEN)
    said = [line.removeprefix(f"{tmp_path}/") for line in raised.value.lines]
    noisy = "a number of percent, 10 or more: machines are noisy, and a smaller change is none"
    expected = [
        f"rules.yaml:3:3: key 'tolerance' stands twice, first at {tmp_path}/rules.yaml:2:3",
        "rules.yaml:6:25: failures: got 2.5; expected failed samples at most: a whole number",
        "rules.yaml:6:39: invalid: got 101; expected points that the share of invalid answers may rise",
        f"rules.yaml:6:52: memory: got 5; expected how far peak memory may rise, {noisy}",
        "rules.yaml:6:62: speed: got '1e1' (YAML 1.1 reads it as text",
        "rules.yaml:7:13: unknown key 'tsk'; did you mean task?",
        "rules.yaml:8:16: tolerance: got 'yes' (YAML reads it as true",
        "rules.yaml:9:12: alpha: got 0.7; expected a number above 0 and below 0.5",
        "rules.yaml:10:12: match: an empty mapping; what holds for every cell stands under defaults:",
        "rules.yaml:12:5: rules: got 3; expected a rule: a mapping with match:",
        "rules.yaml:13:5: match is missing; expected a mapping of task, split",
        "rules.yaml:15:14: metrics: got 'f1'; expected a list of metrics",
        "rules.yaml:16:5: a rule that asks for nothing",
        "rules.yaml:17:5: ignore: stands beside tolerance",
        "rules.yaml:21:15: metrics: got 3; expected a metric's name, as text",
    ]
    assert [line for line, start in zip(said, expected, strict=True) if not line.startswith(start)] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "expected a mapping with rules:"),
        ("rules: [\n", "no YAML"),
        ("a: &a [*a]\n", "alias inside itself"),
        (
            "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 1}]\n" for n in range(9)),
            "aliases",
        ),
        ("rules: !!python/object/apply:os.system [ls]\n", "tags are not used"),
        ("rulez: []\n", "unknown key 'rulez'; did you mean rules?"),
        ('rules: [{match: {task: "a\\nb"}, tolerance: 1}]\n', "rules.yaml:1:24: task: got"),
    ],
)
def test_files_that_are_none(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(Mistakes, match=r"rules\.yaml") as raised:
        rules_of(tmp_path, text)
    assert said in str(raised.value)


def test_later_rules_count_and_defaults_fill_in(sides: tuple[Evidence, Evidence], tmp_path: Path) -> None:
    rules = rules_of(
        tmp_path,
        "defaults: {tolerance: 0.5, require: {invalid: 2}}\n"
        "rules:\n"
        "- {match: {task: po*}, metrics: [f1], tolerance: 2.25, alpha: 0.01}\n"
        '- {match: {split: test, quant: none, resolution: "2?4"}, tolerance: 3, require: {speed: 12.5}}\n'
        "- {match: {task: mmvp}, tolerance: 9, metrics: [precision]}\n",
    )
    spec = sides[0].record.spec
    terms = rules.terms(spec)
    assert (terms.tolerance, terms.alpha, terms.metrics) == (0.03, 0.01, ("f1",))
    assert (terms.invalid, terms.speed, terms.memory) == (0.02, 0.125, None)
    assert rules.idle([spec]) == ("rules.yaml:5:3",)
    flagged = asking.read(tmp_path / "rules.yaml", tolerance=7.0).terms(spec)
    assert (flagged.tolerance, flagged.alpha) == (0.07, 0.01)
    assert Rules().terms(spec).tolerance == 0.01
    zero = rules_of(tmp_path, "defaults: {tolerance: 0}\n")
    assert zero.terms(spec).tolerance == 0.0


def test_only_the_primary_metric_gates_unless_a_rule_says_more(
    sides: tuple[Evidence, Evidence], tmp_path: Path
) -> None:
    assert [one.what for one in check(*sides)] == ["accuracy"]
    rules = rules_of(
        tmp_path, "rules: [{match: {task: pope}, metrics: [f1], groups: [setting, setting=random]}]\n"
    )
    found = check(*sides, rules)
    values = ("random", "popular", "adversarial")
    groups = {f"{metric} [setting={value}]" for metric in ("accuracy", "f1") for value in values}
    assert {one.what for one in found} == {"accuracy", "f1"} | groups
    assert found.family == 8  # what is asked for twice is gated once
    by_name = by_what(found)
    assert by_name["accuracy [setting=adversarial]"].verdict == "regressed"
    assert by_name["accuracy [setting=popular]"].verdict == "cannot tell"  # nothing differs in 60 samples
    assert by_name["accuracy [setting=adversarial]"].measure is not None
    assert by_name["accuracy [setting=adversarial]"].measure.n == 60
    assert by_name["accuracy [setting=adversarial]"].measure.before == 1.0
    assert found.exit_code == 1


def test_rules_that_name_what_a_cell_has_not(sides: tuple[Evidence, Evidence], tmp_path: Path) -> None:
    rules = rules_of(
        tmp_path,
        "rules:\n- {match: {task: pope}, metrics: [f2, yes_ratio]}\n"
        "- {match: {quant: none}, groups: [sett, setting=none]}\n",
    )
    with pytest.raises(Mistakes) as raised:
        check(*sides, rules)
    expected = [
        "rules.yaml:2:3: unknown metric of pope 'f2'. Available: accu",
        "rules.yaml:2:3: no value of yes_ratio of pope is better than",
        "rules.yaml:3:3: unknown breakdown of pope 'sett'; did you me",
        "rules.yaml:3:3: unknown setting of pope 'none'. Available: a",
    ]
    assert [line[:60] for line in raised.value.lines] == expected


def test_ignored_cells_are_listed_with_the_reason(sides: tuple[Evidence, Evidence], tmp_path: Path) -> None:
    rules = rules_of(tmp_path, "rules: [{match: {task: pope}, ignore: being replaced}]\n")
    found = check(*sides, rules)
    assert [(one.verdict, one.reason) for one in found] == [("ignored", "being replaced")]
    assert (found.exit_code, found.family) == (0, 0)
    missing = gate.check(side(sides[0]), side(), rules)
    assert [one.verdict for one in missing] == ["ignored"]
    assert [one.verdict for one in gate.check(side(sides[0]), side())] == ["missing"]


def test_a_rule_that_matches_nothing_is_a_warning(sides: tuple[Evidence, Evidence], tmp_path: Path) -> None:
    rules = rules_of(tmp_path, "rules: [{match: {task: popes}, tolerance: 9}]\n")
    assert check(*sides, rules).warnings == ("the rule at rules.yaml:1:9 matches no cell",)


def test_invalid_answers_may_rise_by_so_much(sides: tuple[Evidence, Evidence], tmp_path: Path) -> None:
    """One of 180, 0.56 points."""
    for limit, verdict in (("0.5", "regressed"), ("0.6", "ok"), ("0", "regressed")):
        rules = rules_of(tmp_path, f"defaults: {{require: {{invalid: {limit}}}}}\n")
        assert by_what(check(*sides, rules))["invalid answers"].verdict == verdict
    back = check(sides[1], sides[0], rules)
    assert by_what(back)["invalid answers"].verdict == "ok"


def costing(run: Evidence, peak: int, rate: float | None, device: str = "a card") -> Evidence:
    record: RunRecord = run.record
    cost = replace(
        record.cost, peak_memory=PeakMemory(peak, "device allocated"), samples_per_second=rate, batch_size=8
    )
    return changed(run, cost=cost, stack=replace(record.stack, device_name=device))


@pytest.mark.parametrize(
    ("peak", "rate", "device", "memory", "speed"),
    [
        (1099, 9.1, "a card", "ok", "ok"),
        (1101, 8.9, "a card", "regressed", "regressed"),
        (500, 20.0, "a card", "ok", "ok"),
        (9999, 1.0, "another", "not compared", "not compared"),
        (1000, None, "a card", "ok", "not compared"),
    ],
)
def test_memory_and_speed(
    peak: int,
    rate: float | None,
    device: str,
    memory: str,
    speed: str,
    sides: tuple[Evidence, Evidence],
    tmp_path: Path,
) -> None:
    rules = rules_of(tmp_path, "defaults: {require: {memory: 10, speed: 10}}\n")
    before = costing(sides[0], 1000, 10.0)
    found = check(before, costing(sides[0], peak, rate, device), rules)
    seen = by_what(found)
    assert (seen["peak memory"].verdict, seen["samples/s"].verdict) == (memory, speed)
    assert found.exit_code == ("regressed" in (memory, speed))
    if device == "another":
        assert seen["samples/s"].reason == "device: a card there, another here"
        assert "changed: device name: a card → another" in seen["samples/s"].notes


def test_where_less_is_better_a_rise_is_worse(sides: tuple[Evidence, Evidence]) -> None:
    down = [
        replace(run, units={name: replace(one, direction="down") for name, one in run.units.items()})
        for run in sides
    ]
    found = by_what(check(down[1], down[0]))["accuracy"]  # it rises
    assert found.verdict == "regressed"
    assert found.measure is not None
    assert found.measure.low is not None
    assert found.measure.high is not None
    assert found.measure.difference < 0
    assert found.measure.low < found.measure.difference < found.measure.high
    assert by_what(check(down[0], down[1]))["accuracy"].verdict == "improved"
    neither = [
        replace(run, units={name: replace(one, direction=None) for name, one in run.units.items()})
        for run in sides
    ]
    assert by_what(check(neither[0], neither[1]))["accuracy"].verdict == "not compared"


def test_undefined_values(sides: tuple[Evidence, Evidence]) -> None:
    def undefined(run: Evidence) -> Evidence:
        """Nothing but zeros, of which neither metric makes a value."""
        gone = {
            name: replace(one, sums={key: [0.0] * len(one.ids) for key in one.sums})
            for name, one in run.units.items()
        }
        return replace(run, units=gone)

    found = check(sides[0], undefined(sides[1]))
    assert [(one.verdict, found.exit_code) for one in found] == [("failed", 3)]
    assert "undefined in the candidate, 100.00 in the baseline" in found.findings[0].reason
    assert [one.verdict for one in check(undefined(sides[0]), sides[1])] == ["not compared"]


def test_runs_without_references_are_not_compared(sides: tuple[Evidence, Evidence]) -> None:
    def blank(run: Evidence, unscored: int) -> Evidence:
        record = run.record
        scores = {name: replace(score, value=None, n=0) for name, score in record.scores.items()}
        return changed(run, data=replace(record.data, unscored=unscored), scores=scores)

    before, after = (blank(run, len(POPE)) for run in sides)
    found = check(before, after)
    assert [(one.verdict, found.exit_code) for one in found] == [("not compared", 0)]
    found = check(sides[0], blank(sides[1], 3))
    assert [(one.verdict, one.reason) for one in found] == [("failed", "no sample was scored")]


def test_pairs_are_gated_as_pairs(tmp_path: Path) -> None:
    mmvp = planted.mmvp(120)
    gold = planted.gold("mmvp", mmvp)
    before = planted.plant(tmp_path / "a", mmvp, gold, task="mmvp").folder
    after = planted.plant(tmp_path / "b", mmvp, planted.spoiled(gold, 30, text="zzz"), task="mmvp").folder
    found = by_what(check(read(before), read(after)))["pair_accuracy"]
    assert found.verdict == "regressed"
    assert found.measure is not None
    assert (found.measure.n, found.measure.clusters) == (120, 60)


def test_mistakes_exit_2_one_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rules.yaml").write_text(MISTAKEN)
    asked = ["check", "--baseline", str(tmp_path), "--candidate", str(tmp_path)]
    assert invoke([*asked, "--rules", str(tmp_path / "rules.yaml")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1 + 15
