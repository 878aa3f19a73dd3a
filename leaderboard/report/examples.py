"""The forget examples whose loss rose most and least, with what the task shows of them."""

from mubench import registry
from mubench.errors import MubenchError
from mubench.leaderboard.report.embedding import LARGEST, embedded, is_strip

EXAMPLES = 6  # of each kind


def forget_examples(run, original):
    """Sections of examples, and why their contents, or they themselves, are not shown; "" where they are.

    run: the run of the page.
    original: the run of the original; None: there is none.
    """
    if original is None:
        return [], "the store holds no original of this task, model and ratio to compare with"
    both = _rises(run, original)
    if not len(both):
        return [], "the predictions hold no losses"
    show, why = _contents(run.result)
    labels = run.result.task.get("labels") or []
    parts = (("Forgotten most", both.head(EXAMPLES)), ("Forgotten least", both.tail(EXAMPLES).iloc[::-1]))
    sections = []
    for title, rows in parts:
        examples = [_example(int(index), row, labels, show(int(index))) for index, row in rows.iterrows()]
        shown = [part for example in examples for part in example["parts"]]
        roomy = not any(part["kind"] != "text" and not part["strip"] for part in shown)
        sections.append({"title": title, "examples": examples, "roomy": roomy})
    return sections, why


def _rises(run, original):
    """The forget set's predictions before and after, the greatest rise of the loss first."""
    columns = ["index", "loss", "target", "prediction"]
    before, after = (
        model.checked.frame.query("set == 'forget'").reindex(columns=columns).set_index("index")
        for model in (original, run)
    )
    both = before.join(after, lsuffix="_before", rsuffix="_after", how="inner")
    both = both.assign(rise=both["loss_after"] - both["loss_before"]).dropna(subset="rise")
    return both.sort_values("rise", ascending=False, kind="stable")


def _contents(result):
    """A function from the row of an example to what is shown of it, and why that is nothing; "" where it is not."""
    nothing, name = lambda index: [], result.task["name"]
    if name not in registry.tasks.names():
        return nothing, ""
    task = registry.load_task(name)
    try:
        rows = task.data["train"]
        if task._checksums["train"] != result.split["data"]:
            return nothing, "the data here are not those of the run: examples are shown without their contents"
    except MubenchError as error:
        return nothing, f"examples are shown without their contents: {error}"
    return lambda index: _parts(task.show(rows, index)), ""


def _parts(shown):
    return [
        {
            "name": name,
            "kind": kind,
            "strip": kind == "image" and is_strip(value),
            "content": value if kind == "text" else embedded(value),
        }
        for name, (kind, value) in shown.items()
        if kind == "text" or len(value) <= LARGEST
    ]


def _example(index, row, labels, parts):
    """One example.

    row: its predictions before and after.
    """
    target = _text(row["target_after"], labels)
    return {
        "index": index,
        "before": row["loss_before"],
        "after": row["loss_after"],
        "target": "" if any(target == part["content"] for part in parts) else target,  # else it is said twice
        "was": _text(row["prediction_before"], labels),
        "now": _text(row["prediction_after"], labels),
        "parts": parts,
    }


def _text(value, labels):
    """A target or a prediction: a number as its label; nothing as ""."""
    if value is None or value != value:
        return ""
    return str(labels[int(value)]) if labels and not isinstance(value, str) else str(value)
