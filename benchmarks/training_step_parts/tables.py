"""The tables of the training step: the sides compared, and the division of a step."""

import statistics
from collections.abc import Mapping, Sequence

from nemo.collections.asr.parts.utils.markdown import markdown_table

TOP_OPERATORS = 12
COLUMNS = (
    "",
    "parameters",
    "s a step",
    "NeMo's / it",
    "CPU s a step",
    "NeMo's / it",
    "peak memory",
    "of NeMo's",
    "last loss",
)


def comparison(answers: Mapping[str, Sequence[dict]]) -> str:
    """A row for each side."""
    theirs = answers.get("NeMo")
    rows = []
    for name, steps in answers.items():
        cells = [name, f"{steps[0]['parameters'] / 1e6:.1f}M"]
        for kind in ("seconds", "cpu_seconds"):
            cells.append(f"{statistics.median(step[kind] for step in steps):.3f}")
            ratio = theirs and statistics.median(b[kind] / a[kind] for a, b in zip(steps, theirs, strict=True))
            cells.append(f"{ratio:.2f} x" if ratio else "-")
        peak = max(step["bytes"] for step in steps)
        cells.append(f"{peak / 1e9:.2f} GB")
        cells.append(f"{peak / max(step['bytes'] for step in theirs):.2f} x" if theirs else "-")
        rows.append([*cells, f"{steps[-1]['loss']:.3f}"])
    return markdown_table(COLUMNS, rows)


def division(answers: Mapping[str, Sequence[dict]]) -> str:
    """Two tables: the shares of the parts of a step, and of the operators."""
    profiles = {name: steps[-1]["profile"] for name, steps in answers.items()}
    tables = []
    for kind, title in (("parts", "part"), ("operators", "operator, self time")):
        whole = {name: profiles[name]["parts"]["step"] for name in profiles}
        if kind == "operators":
            whole = {name: sum(profiles[name]["operators"].values()) for name in profiles}
        shares = {name: {key: value / whole[name] for key, value in profiles[name][kind].items()} for name in profiles}
        keys = {key: max(shares[name].get(key, 0.0) for name in profiles) for name in profiles for key in shares[name]}
        keys.pop("step", None)
        largest = sorted(keys, key=lambda key: keys[key], reverse=True)[:TOP_OPERATORS]
        rows = [[key, *(f"{100 * shares[name].get(key, 0.0):.1f} %" for name in profiles)] for key in largest]
        tables.append(markdown_table((title, *profiles), rows))
    return "\n\n".join(tables)
