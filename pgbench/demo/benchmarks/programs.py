"""The programs of GQA's questions, step by step, in the operations of the published files.

An operation has an argument and the places of the operations that it works on: select: circle (21)->filter
color: red [0]->exist: ? [1].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from pgbench.demo.questions import Question
from pgbench.demo.world import Scene

Program: TypeAlias = list[dict[str, object]]

# kind -> types.structural, types.semantic, types.detailed, the number that local groups begin with
TYPES: Mapping[str, tuple[str, str, str, str]] = {
    "colour": ("query", "attr", "directWhich", "10q"),
    "shape": ("query", "attr", "directWhich", "10q"),
    "exists": ("verify", "obj", "existAttr", "04"),
    "verify": ("verify", "attr", "verifyAttr", "06"),
    "both": ("logical", "obj", "existAnd", "05"),
    "either": ("logical", "obj", "existOr", "03"),
    "which": ("choose", "attr", "chooseAttr", "10c"),
    "size": ("choose", "attr", "chooseAttr", "10c"),
    "side": ("choose", "attr", "positionChoose", "11"),
    "same": ("compare", "attr", "twoSame", "06t"),
}
GLOBAL: Mapping[str, str] = {"colour": "color", "shape": "shape"}  # of open questions; others have none


def program(question: Question, scene: Scene) -> Program:
    """The steps from the scene to the answer."""
    steps: Program = []
    if question.kind in ("exists", "both", "either"):
        ends = [_exists(steps, scene, name) for name in question.about]
        if question.kind != "exists":
            _step(steps, {"both": "and", "either": "or"}[question.kind], "", *ends)
        return steps
    if question.kind == "shape":
        found = [place for place, one in enumerate(scene.things) if one.colour == question.about[0]]
        start = _step(steps, "select", f"object ({_ids(scene, found)})")
        start = _step(steps, "filter color", question.about[0], start)
        _step(steps, "query", "shape", start)
        return steps
    if question.kind == "same":
        _step(steps, "same color", "", *[_select(steps, scene, shape) for shape in question.about])
        return steps
    start = _select(steps, scene, question.about[0])
    if question.kind == "colour":
        _step(steps, "query", "color", start)
    elif question.kind == "verify":
        _step(steps, "verify color", question.about[1], start)
    else:
        _step(steps, f"choose {_aspect(question)}", "|".join(question.options), start)
    return steps


def written(steps: Program) -> str:
    """semanticStr: the steps in one line."""
    return "->".join(_line(one) for one in steps)


def types(question: Question) -> dict[str, str]:
    structural, semantic, detailed, _ = TYPES[question.kind]
    return {"detailed": detailed, "semantic": semantic, "structural": structural}


def groups(question: Question) -> dict[str, str | None]:
    words = " ".join((*question.about, *sorted(question.options))).split()
    return {
        "global": GLOBAL.get(question.kind),
        "local": f"{TYPES[question.kind][3]}-{'_'.join(words)}",
    }


def _aspect(question: Question) -> str:
    if question.kind == "side":
        return "hposition" if "left" in question.options else "vposition"
    return {"which": "color", "size": "size"}[question.kind]


def _exists(steps: Program, scene: Scene, name: str) -> int:
    colour, shape = name.split()
    start = _step(steps, "filter color", colour, _select(steps, scene, shape))
    return _step(steps, "exist", "?", start)


def _select(steps: Program, scene: Scene, shape: str) -> int:
    found = [place for place, one in enumerate(scene.things) if one.shape == shape]
    return _step(steps, "select", f"{shape} ({_ids(scene, found)})")


def _ids(scene: Scene, places: list[int]) -> str:
    """Objects by scene and place, "-" where there is none."""
    number = int(scene.name.rpartition("-")[2])
    return ",".join(str(10 * number + place) for place in places) or "-"


def _step(steps: Program, operation: str, argument: str, *dependencies: int) -> int:
    steps.append({"operation": operation, "dependencies": list(dependencies), "argument": argument})
    return len(steps) - 1


def _line(step: Mapping[str, object]) -> str:
    needs = step["dependencies"]
    return f"{step['operation']}: {step['argument']}{f' {needs}' if needs else ''}"
