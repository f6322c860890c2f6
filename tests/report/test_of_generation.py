"""Tables and figures of runs whose score is not accuracy: those of the task generation."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import pytest
from made import FEDLEASE, allocation, routing, run
from matplotlib.figure import Figure
from scipy import stats

from fedlease.core.errors import FedLeaseError
from fedlease.report.figures.registry import find
from fedlease.report.records import Entry
from fedlease.report.table import make_table
from fedlease.report.table_formats import FORMATS

TASKS = {"text_editing": 2, "struct_to_text": 2, "sentiment": 2, "commonsense": 2}


def written(entry: Entry) -> Entry:
    """The run as one of generation: scored by ROUGE-1, with others beside it, and no client has labels."""
    record = entry.record
    rounds = [
        {
            **round,
            "metrics": {
                client: {"rouge1": found["accuracy"], "rougeL": 0.01, "exact_match": 0.02, "accuracy": 0.03}
                for client, found in round["metrics"].items()
            },
        }
        for round in record["rounds"]
    ]
    clients = {client: {**facts, "labels": []} for client, facts in record["clients"].items()}
    return entry._replace(record={**record, "metric": "rouge1", "rounds": rounds, "clients": clients})


def two(seeds: int = 2) -> list[Entry]:
    """FedIT and FedLEASE with some seeds each."""
    return [
        written(run(row, tasks=TASKS, seed=seed, shift=shift))
        for row, shift in (("FedIT", -0.3), ("FedLEASE", -0.2))
        for seed in range(seeds)
    ]


def percent(entry: Entry) -> list[float]:
    scores = entry.record["rounds"][-1]["metrics"]
    return [100 * scores[client]["rouge1"] for client in sorted(scores)]


def test_the_table_is_of_rouge_and_says_so() -> None:
    entries = two()
    table = make_table(entries)
    (section,) = table.sections
    assert table.title == "Test ROUGE-1 (%)"
    assert table.notes[0].startswith("Test ROUGE-1 in percent after the last scored round, mean over clients")
    assert [column.title for column in section.columns[1:6]] == [*(f"{t} (2)" for t in TASKS), "average"]
    average = section.rows["FedLEASE"][5].value
    assert average is not None
    assert average.mean == pytest.approx(mean(mean(percent(entry)) for entry in entries[2:]))
    found = section.rows["FedLEASE"][-1].comparison
    assert found is not None
    own, other = ([value for entry in of for value in percent(entry)] for of in (entries[2:], entries[:2]))
    assert found.p == pytest.approx(stats.ttest_rel(own, other).pvalue)
    assert found.pairs == 16
    for form in FORMATS.values():
        assert f"{average.mean:.2f}" in form.write(table) or f"{average.mean}" in form.write(table)


def entries_for(name: str) -> list[Entry]:
    """Runs that a figure can be drawn from."""
    if name == "2":
        return [run(row, "Scenario 1", tasks=TASKS) for row in ("FedIT", "FedLoRA-MoE")]
    if name == "8":
        return [run(row, f"E = {e}", tasks=TASKS, epochs=e) for row in ("a", "b") for e in (1, 2)]
    if name == "6a":
        return [run(kind, tasks=TASKS, method={**FEDLEASE, "router": kind}) for kind in ("local", "cluster")]
    if name in ("4", "6b"):
        return [run(f"k{k}", tasks=TASKS, method={**FEDLEASE, "top_k": k}) for k in (None, 1, 2)]
    facts = {"allocation": allocation(TASKS), "routing": routing(TASKS, layers=30)}
    return [run("fedlease", tasks=TASKS, method=FEDLEASE, **facts)]


def words(figure: Figure) -> str:
    found = [figure.get_supylabel(), *(axis.get_ylabel() for axis in figure.axes)]
    return " ".join(found)


@pytest.mark.parametrize("name", ["2", "4", "6a", "6b", "8"])
def test_figures_of_scores_are_of_rouge(name: str, tmp_path: Path) -> None:
    (picture,) = find(name)
    entries = [written(entry) for entry in entries_for(name)]
    figure = picture.figure(entries)
    assert "ROUGE-1 (%)" in words(figure)
    assert "accuracy" not in words(figure)
    heights = [patch.get_height() for axis in figure.axes for patch in axis.patches]
    lines = [value for axis in figure.axes for line in axis.lines for value in line.get_ydata()]
    assert max([*heights, *lines]) > 50  # the other scores are below 4 %


@pytest.mark.parametrize("name", ["6c", "7a", "7b", "7c"])
def test_figures_without_scores_are_drawn_too(name: str, tmp_path: Path) -> None:
    (picture,) = find(name)
    for path in picture.write([written(entry) for entry in entries_for(name)], tmp_path / "drawn"):
        assert path.stat().st_size > 1000


def test_the_figure_of_labels_is_refused() -> None:
    (picture,) = find("9")
    with pytest.raises(FedLeaseError, match="figure 9: it shows labels, and clients whose rows are prompts"):
        picture.figure(two())
