"""The methods paragraph: it says what the records say, once where they agree, and obeys no name in it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import planted
import pytest

from pgbench.records import Failure, ModuleGroup, Quantization, RunRecord, Stack
from pgbench.registry import load_task
from pgbench.report import bibtex, methods, methods_text
from pgbench.report.known import tasks_of
from pgbench.report.methods_subjects import differing, joined
from pgbench.store import read_record
from pgbench.types import DataSource, Task

TASKS = {name: load_task(name) for name in ("textvqa", "pope")}
VERSIONS = {**planted.VERSIONS, "bitsandbytes": "0.50.2", "pgbench code": "c0de" * 16, "kernels": "absent"}
H100 = Stack(
    "paligemma",
    VERSIONS,
    device="cuda",
    device_name="NVIDIA H100",
    matmul_precision="highest",
    attention={"text": "eager", "vision": "sdpa"},
    numerics={"padding": "left"},
)
PROOF = Quantization(
    "4bit",
    (
        ModuleGroup("a.*.q", "bitsandbytes.nn.Linear4bit", 100, 5),
        ModuleGroup("b", "bitsandbytes.nn.Linear4bit", 26, 5),
    ),
    (ModuleGroup("lm_head", "torch.nn.Linear", 1, 7),),
    compute_dtype="bfloat16",
    quant_type="nf4",
    double_quant=True,
    replaced_bytes=27,
    replaced_bytes_bf16=100,
    workarounds=("a workaround",),
)
HOSTILE = "<script>\\input{x} $1$ % & #_^~ =cmd|x \x1b[31m\n::error::y ##[z] ``` 中 \ud800 **b** ]]>"


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, RunRecord]:
    found = {}
    for task, samples in (("textvqa", planted.textvqa(20)), ("pope", planted.pope(24))):
        out = tmp_path_factory.mktemp(task)
        planted.plant(out, samples, planted.spoiled(planted.gold(task, samples), 5), task=task, stack=H100)
        record = read_record(next(out.rglob("record.json")).parent)
        assert record is not None
        data = replace(record.data, selected=5_000, available=5_000, published=5_000)
        found[task] = replace(record, data=data)
    return MappingProxyType(found)


def cell(one: RunRecord, point: str = "google/paligemma-3b-pt-224", **more: Any) -> RunRecord:
    """The record as one of another checkpoint; 4-bit cells with their proof."""
    spec = replace(one.spec, checkpoint=planted.checkpoint(point, **more))
    stack = (
        replace(one.stack, quantization=replace(PROOF, level=more["quant"])) if "quant" in more else one.stack
    )
    return replace(one, spec=spec, key=spec.key, stack=stack)


def text(
    records: Sequence[RunRecord], tasks: Mapping[str, Task] = TASKS, form: str = "plain", command: str = ""
) -> str:
    return methods_text.render(methods.of(records, tasks, command), form)


def test_a_run_is_told_in_full(originals: Mapping[str, RunRecord]) -> None:
    told = text([cell(originals["textvqa"], quant="4bit")], command="pgbench report runs --methods")
    for words in (
        "1 cell was evaluated with pgbench 0.1.0.",
        "google/paligemma-3b-pt-224 (revision 000000000000; paligemma, pre-trained; 224 px) [beyer2024palig",
        "4bit: all linear layers asked for, the rest in bfloat16; by bitsandbytes 0.50.2, 126 linear lay",
        " found to be bitsandbytes.nn.Linear4bit, type nf4, statistics quantized once more, computed in ",
        " computed in bfloat16, 1 left as they were (lm_head), the quantized layers take 27.0 % of their ",
        "a workaround [dettmers2023qlora].",
        "Prompts in the wording of PaliGemma.",
        "Greedy decoding of at most 32 new tokens.",
        "Batches of 64.",
        "Protocol hf (published image processor); images: exif orientation applied",
        "Attention: eager in the text model, sdpa in the vision model.",
        "textvqa (TextVQA: questions about text in photographs), version 1, split val: 5,000 of ",
        "5,000 of 5,000 samples, 5,000 as published, from planted.json (files; content digest ",
        f"{originals['textvqa'].data.digest[:12]}) [singh2019towards].",
        "accuracy (facebookresearch/mmf:mmf/utils/m4c_evaluators.py@b0ffc7f",
        "primary: accuracy.",
        "95 % intervals: Student's t on sums per cluster",
        "No sample failed.",
        "Computed on NVIDIA H100.",
        "Software: torch 2.13.0, transformers 5.23.0, bitsandbytes 0.50.2.",
        "Numerics: float32 matrix products at precision highest, padding left.",
        f"Run on {originals['textvqa'].started[:10]} (UTC).",
        "Command: pgbench report runs --methods",
        "@article{beyer2024paligemma,",
        "arXiv:2407.07726",
        "@inproceedings{dettmers2023qlora,",
        "@inproceedings{singh2019towards,",
    ):
        assert words in told, words
    assert "c0de" not in told
    assert "absent" not in told
    assert "2412.03555" not in told
    assert "2208.07339" not in told


def test_what_is_equal_is_said_once_and_the_rest_by_what_it_differs_by(
    originals: Mapping[str, RunRecord],
) -> None:
    points = ("google/paligemma-3b-pt-224", "google/paligemma2-3b-pt-448")
    records = [
        cell(one, point, **({"quant": quant} if quant else {}))
        for one in originals.values()
        for point in points
        for quant in (None, "8bit")
    ]
    told = text(records)
    assert told.count("Batches of") == 1
    assert "Batches of 64." in told
    new = {name: originals[name].spec.max_new_tokens for name in originals}
    assert f"at most {new['textvqa']} new tokens (textvqa val); greedy decoding" in told
    assert f"; greedy decoding of at most {new['pope']} new tokens (pope test)." in told
    assert told.count("@inproceedings{dettmers2022llmint8,") == 1
    assert "@article{steiner2024paligemma2," in told
    assert "Not quantized: weights in bfloat16." in told
    slow = [
        replace(one, spec=replace(one.spec, batch=2)) if "448" in one.spec.checkpoint.id else one
        for one in records
    ]
    assert "Batches of 64 (224 px); batches of 2 (448 px)." in text(slow)
    levels = [
        replace(one, spec=replace(one.spec, batch=4)) if one.spec.checkpoint.quant == "8bit" else one
        for one in records
    ]
    assert "Batches of 64 (bf16); batches of 4 (8bit)." in text(levels)
    odd = [replace(records[0], spec=replace(records[0].spec, batch=3)), *records[1:]]
    assert (
        "batches of 64 (textvqa val google/paligemma-3b-pt-224 8bit, textvqa val google/paligemma2-3b-pt"
        in text(odd)
    )


def test_records_that_no_axis_tells_apart_are_told_by_their_keys(originals: Mapping[str, RunRecord]) -> None:
    one = originals["textvqa"]
    other = replace(one, key="f" * 64, spec=replace(one.spec, batch=2))
    parts = differing([one, other], lambda record: str(record.spec.batch))
    assert [value for value, _ in parts] == ["64", "2"]
    assert parts[1][1][0].endswith("cell ffffffff")
    assert joined([("", ("x",)), ("y", ())]) == "y"


def test_failures_limits_and_doubts_are_told(originals: Mapping[str, RunRecord]) -> None:
    one = originals["textvqa"]
    lost = replace(cell(one, quant="4bit"), failures=(Failure("7", "a\nreason"), Failure("8", "another")))
    demo = replace(cell(originals["pope"], "tiny", demo=True), data=replace(one.data, demo=True))
    mixed = cell(one, "google/paligemma-3b-mix-224")
    limited = replace(
        cell(one), data=replace(one.data, selected=50), spec=replace(cell(one).spec, limit=50, seed=3)
    )
    told = text([lost, demo, mixed, limited])
    assert "Samples without an answer, which count as wrong: 2 of 5,000." in told
    assert "reason" not in told, "a reason is text from anywhere"
    assert (
        "DEMO NUMBERS: drawn images and a tiny checkpoint trained on drawings; they say nothing about" in told
    )
    assert "CONTAMINATED: suspect: mix checkpoints" in told
    assert "LIMITED to 50 of 5,000 samples (--limit 50)" in told
    assert "50 of 5,000 samples, 5,000 as published, drawn with seed 3, from planted.json" in told
    assert "tiny (revision 000000000000; paligemma, fine-tuned on textvqa; 224 px; a tiny checkpoint" in told
    assert told.count("@article{beyer2024paligemma,") == 1
    assert "beyer" not in text([demo]), "a demo checkpoint is nobody's model"
    unread = replace(one.scores["accuracy"], invalid=12)
    assert "by the primary metric: 12 of 20." in text([replace(one, scores={"accuracy": unread})])
    assert "LIMITED to 50 of 5,000 samples (--limit 50) (all cells)." in text([limited])


def test_no_sentence_begins_with_a_name_or_in_lower_case(originals: Mapping[str, RunRecord]) -> None:
    one = originals["textvqa"]
    some = replace(cell(one, quant="4bit"), data=replace(one.data, unscored=3))
    found = methods.of([some, cell(originals["pope"], backend="oracle")], TASKS)
    begins = [said.text.split()[0] for topic in found.topics for said in topic.sentences]
    assert {"Checkpoint", "No", "Level", "Task", "Metrics", "Without"} <= set(begins)
    assert [word for word in begins if not (word[0].isupper() or word[0].isdecimal())] == []


def test_a_split_without_references_gets_no_command_and_no_interval(
    originals: Mapping[str, RunRecord],
) -> None:
    one = cell(originals["textvqa"])
    score = replace(one.scores["accuracy"], value=None, low=None, high=None, interval="none")
    sent = replace(
        cell(one, quant="8bit"),
        scores={"accuracy": score},
        data=replace(one.data, unscored=one.data.selected),
    )
    told = text([one, sent])
    assert "Without references, answered and not scored: 5,000 (" in told
    assert "pgbench submit" not in told
    assert "degrees of freedom (textvqa accuracy in 1 of 2 cells" in told
    assert "; no score, and so no interval (textvqa accuracy in 1 of 2 cells)." in told
    assert "; no interval (" not in told


def test_an_oracle_has_no_number_format(originals: Mapping[str, RunRecord]) -> None:
    one = cell(originals["textvqa"])
    oracle = cell(one, "oracle", backend="oracle", dtype="float32", resolution=0)
    told = text([one, replace(oracle, spec=replace(oracle.spec, batch=7))])
    assert "Batches of 64 (bf16); batches of 7 (no model)." in told
    assert "fp32" not in told
    assert differing([oracle, one], lambda record: record.key)[0][1] == ("no model",)


def test_checkpoints_stand_as_in_a_table(originals: Mapping[str, RunRecord]) -> None:
    names = [
        f"google/{name}" for name in ("paligemma-3b-pt-224", "paligemma-3b-pt-448", "paligemma2-10b-pt-224")
    ]
    told = text([cell(originals["textvqa"], name, resolution=int(name[-3:])) for name in names[::-1]])
    places = [told.index(f"Checkpoint {name} (") for name in names]
    assert places == sorted(places)


def test_nothing_is_said_that_a_record_does_not_say(originals: Mapping[str, RunRecord]) -> None:
    one = originals["textvqa"]
    replayed = cell(one, backend="replay", resolution=0)
    told = text([replace(replayed, stack=Stack("replay", {}))])
    assert "No model: answers of the replay backend" in told
    assert "Decoding as the backend replay does it." in told
    assert "Computed on no device." in told
    assert "pgbench of a version that was not recorded" in told
    for words in ("Greedy", "Attention", "Protocol", "Software", "weights in", "beyer", "Numerics"):
        assert words not in told
    unproved = replace(cell(one, quant="8bit"), stack=replace(one.stack, quantization=None))
    told = text([unproved])
    assert (
        "8bit: all linear layers asked for, the rest in bfloat16; the record does not hold what was" in told
    )
    assert "dettmers" not in told
    assert "(definitions not at hand: the task is not installed here); primary: accuracy" in text([one], {})
    newer = {"textvqa": replace(TASKS["textvqa"], version=2)}
    assert "(definitions not at hand: version 2 is installed here)" in text([one], newer)
    hub = replace(
        one,
        spec=replace(one.spec, source=DataSource("hub", "lmms-lab/textvqa", "9c" * 20), mode="likelihood"),
    )
    assert "from lmms-lab/textvqa at revision 9c9c9c9c9c9c (hub; " in text([hub])
    assert "Answers chosen by likelihood." in text([hub])
    assert methods.of([], {}).topics == (methods.Topic("Models", (methods.Said("0 cells were evaluated"),)),)


def test_records_of_every_schema_are_told() -> None:
    folder = Path(__file__).parent / "records"
    records = [read_record(path) for path in sorted(folder.iterdir())]
    found = [record for record in records if record is not None]
    assert len(found) == len(records) >= 2
    assert "27 linear layers found to be bitsandbytes.nn.Linear4bit" in text(found, tasks_of(found))


def test_a_record_chooses_no_file_to_be_run(originals: Mapping[str, RunRecord], tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(f"open({str(tmp_path / 'was run')!r}, 'w')\n")
    one = originals["textvqa"]
    names = (str(tmp_path / "bad.py"), "never_heard_of", "textvqa")
    records = [replace(one, spec=replace(one.spec, task=name)) for name in names]
    assert list(tasks_of(records)) == ["textvqa"]
    assert not (tmp_path / "was run").exists()


def hostile(one: RunRecord) -> tuple[list[RunRecord], dict[str, Task]]:
    """A record whose every text is hostile, and a task that is as well."""
    records = []
    for number in range(2):
        point = planted.checkpoint(f"{HOSTILE}{number}", revision=HOSTILE, adapter=HOSTILE, quant="4bit")
        spec = replace(
            one.spec,
            task=HOSTILE,
            split=HOSTILE,
            variant=HOSTILE,
            checkpoint=point,
            images=HOSTILE,
            source=DataSource(HOSTILE, HOSTILE, HOSTILE),
        )
        proof = replace(PROOF, skipped=(ModuleGroup(HOSTILE, HOSTILE, 1, 1),), workarounds=(HOSTILE,))
        stack = replace(
            H100,
            device_name=HOSTILE,
            versions={"pgbench": HOSTILE, HOSTILE: str(number)},
            attention={"text": HOSTILE},
            quantization=proof,
        )
        records.append(replace(one, spec=spec, stack=stack, key=str(number) * 64, started=HOSTILE))
    note = "\\end{document}\x0b\u2028\n```\n<script>\n```\n"
    cite = f"@article{{evil2024,\n title = {{{HOSTILE}}},\r note = {{{note}}}}}\n@misc{{a b%}},"
    return records, {HOSTILE: replace(TASKS["textvqa"], title=HOSTILE, cite=cite, version=1)}


@pytest.mark.parametrize("form", ["plain", "markdown", "latex"])
def test_hostile_texts_are_harmless(originals: Mapping[str, RunRecord], form: str) -> None:
    told = text(*hostile(originals["textvqa"]), form, f"pgbench {HOSTILE}")
    told.encode()
    assert not re.search(r"[^\n -~ -퟿-�]", told.replace("\t", "?")), "control characters"
    assert not [line for line in told.split("\n") if line.startswith("::") or "##[" in line]
    if form == "latex":
        live = "\n".join(line for line in told.split("\n") if not line.startswith("%"))
        assert live.isascii()
        assert "\\input" not in live
        assert "\\end{document}" not in live
        assert set(re.findall(r"\\cite\{([^}]*)\}", live)) == {
            "beyer2024paligemma",
            "dettmers2023qlora",
            "evil2024",
        }
    if form == "markdown":
        from markdown_it import MarkdownIt

        page = MarkdownIt("commonmark", {"html": True}).render(told)
        assert "<script" not in page
        assert "<strong>b</strong>" not in page
        assert page.count("<pre>") == 2


def test_latex_compiles(originals: Mapping[str, RunRecord], tmp_path: Path) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    fine = text(
        [cell(one, quant="4bit") for one in originals.values()],
        form="latex",
        command="pgbench report --methods x",
    )
    bad = text(*hostile(originals["textvqa"]), "latex", f"pgbench {HOSTILE}")
    body = f"\\documentclass{{article}}\n\\begin{{document}}\n{fine}\n{bad}\n\\end{{document}}\n"
    (tmp_path / "paper.tex").write_text(body, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout.decode(errors="replace")[-2000:]
    assert b"Output written on paper.pdf" in run.stdout
    wide = [float(found) for found in re.findall(rb"Overfull \\hbox \(([\d.]+)pt", run.stdout)]
    assert max(wide, default=0.0) < 40


def test_latex_cites_and_keeps_the_command_as_typed(originals: Mapping[str, RunRecord]) -> None:
    told = text([cell(originals["textvqa"])], form="latex", command="pgbench report a_b --methods")
    assert r"\texttt{pgbench report a\_b -{}-methods}" in told
    assert r"; 224 px)~\cite{beyer2024paligemma}." in told
    assert "% @article{beyer2024paligemma," in told
    assert all(line.startswith("%") for line in told[told.index("% BibTeX") :].splitlines())


def test_markdown_cites_as_pandoc_reads(originals: Mapping[str, RunRecord]) -> None:
    told = text([cell(originals["textvqa"])], form="markdown", command="pgbench report x")
    assert " [@beyer2024paligemma]." in told
    assert "```sh\npgbench report x\n```" in told
    assert "```bibtex\n@article{beyer2024paligemma," in told
    assert "**Models.** 1 cell was" in told


def test_keys_are_those_of_entries() -> None:
    assert bibtex.keys(["@STRING{x = 1}\n@Comment{y,}\n@misc{ z-1 ,\n}@book{w:2024,a={@misc}}"]) == (
        "z-1",
        "w:2024",
    )
    assert bibtex.keys(["@misc{a b,}", "@misc{x\\input,}"]) == ()
    own = [*bibtex.OF_FAMILY.values(), *bibtex.OF_LEVEL.values()]
    assert all(len(bibtex.keys([entry])) == 1 for entry in own)
    assert all(entry.count("{") == entry.count("}") for entry in own)
    assert bibtex.of_task(replace(TASKS["pope"], cite="  ")) == ()


def test_every_shipped_task_can_be_cited() -> None:
    from pgbench.registry import task_names

    for name in task_names():
        task = load_task(name)
        assert len(bibtex.keys(bibtex.of_task(task))) >= 1 or not task.cite.strip(), name
