"""The report as a page: what stands in it, how it is built, and that no name of a user becomes markup."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_runs import entry, large
from page_tree import Node, check, table_of

from fedlease.core.errors import FedLeaseError
from fedlease.report.page import is_report, make_page
from fedlease.report.page.registry import sections
from fedlease.report.records import Entry

EVIL = "<img src=x onerror=alert(1)>\"'&"
SMALL = {"red": 3, "blue": 2}


def page_of(*entries: Entry, **more: Any) -> Node:
    return check(make_page(entries, **more))


def changed(of: Entry, **facts: Any) -> Entry:
    return of._replace(record={**of.record, **facts})


def said(root: Node, section: str) -> str:
    return root.by_id(section).text


def test_every_section_is_there_and_linked() -> None:
    root = page_of(entry())
    names = [section.name for section in sections()]
    assert [node.attributes["id"] for node in root.one("main").all("section")] == names
    assert [node.attributes["href"] for node in root.one("nav").all("a")] == [f"#{name}" for name in names]
    assert len(names) == 12
    assert root.one("h1").text == "made"


def test_one_run_many_runs_and_those_of_other_clients_and_metrics() -> None:
    other = entry("fedit", Path("runs/b"), tasks=SMALL)
    texts = entry("flora", Path("runs/c"), metric="rouge1")
    for scored in texts.record["rounds"]:
        scored["metrics"] = {
            c: {"rouge1": s["accuracy"], "rougeL": 0.3} for c, s in scored["metrics"].items()
        }
    root = page_of(entry(), entry("fedit", Path("runs/a")), other, texts)
    assert "not compared by tests: runs/made and runs/c are scored by" in said(root, "scores")
    assert "rougeL" in said(root, "clients")
    page_of(*(entry("fedlease", Path(f"runs/{seed}"), seed=seed, tasks=SMALL) for seed in range(5)))


def test_scores_worst_and_best_are_those_of_the_record() -> None:
    run = entry(tasks=SMALL, rounds=2)
    scores = {"blue-0": 0.5, "blue-1": 0.7, "red-0": 0.9, "red-1": 0.8, "red-2": 0.4}
    run.record["rounds"][-1]["metrics"] = {client: {"accuracy": value} for client, value in scores.items()}
    root = page_of(run)
    assert table_of(root, "in the last scored round, in percent")["fedlease"] == ["2", "70.0", "60.0", "66.0"]
    ends = table_of(root, "Worst and best client")["fedlease"]
    deviation = np.std(list(scores.values())) * 100
    assert ends == ["red-2", "40.0", "red-0", "90.0", "50.0", "66.0", f"{deviation:.1f}"]
    clients = table_of(root, "clients in their last scored round")
    place = clients[""].index("accuracy %")
    assert [clients[client][place] for client in scores] == ["50.0", "70.0", "90.0", "80.0", "40.0"]


def test_every_clients_score_of_every_round_is_in_a_line_and_in_numbers() -> None:
    run = entry(tasks=SMALL, rounds=4)
    root = page_of(run)
    numbers = table_of(root, "accuracy by round, in percent")
    for client in run.record["clients"]:
        values = [found["metrics"][client]["accuracy"] for found in run.record["rounds"]]
        assert numbers[client] == [f"{100 * value:.1f}" for value in values]
    lines = [g for g in root.by_id("rounds").all("g") if list(g.all("title"))]
    assert {g.one("title").text for g in lines} == {*run.record["clients"], "mean"}
    red = next(g for g in lines if g.one("title").text == "red-1")
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", next(red.all("path")).attributes["d"])]
    scores = [found["metrics"]["red-1"]["accuracy"] for found in run.record["rounds"]]
    np.testing.assert_allclose(np.corrcoef(heights, scores)[0, 1], -1, atol=1e-3)  # up is less in pixels


def test_allocation_says_why_and_who() -> None:
    run = entry()
    allocation = run.record["allocation"]
    root = page_of(run)
    text = said(root, "allocation")
    assert allocation["reason"] in text[0].lower() + text[1:] or allocation["reason"] in text
    members = table_of(root, "who trains which expert")
    for expert in range(allocation["num_experts"]):
        pairs = zip(allocation["clients"], allocation["labels"], strict=True)
        assert set(members[str(expert)][-1].split(", ")) == {c for c, own in pairs if own == expert}
    distances, labels = np.array(allocation["distances"]), np.array(allocation["labels"])
    apart = table_of(root, "mean distance between the clients")
    assert apart["expert 0"][1] == f"{distances[labels == 0][:, labels == 1].mean():.2f}"
    inside = distances[np.ix_(labels == 1, labels == 1)]
    assert apart["expert 1"][1] == f"{inside.sum() / (len(inside) * (len(inside) - 1)):.2f}"
    silhouettes = table_of(root, "mean silhouette by number")
    assert silhouettes["3"] == [f"{allocation['scores']['3']:.4f}"]


def test_allocation_of_so_many_clients_that_distances_are_not_kept() -> None:
    run = entry()
    run.record["allocation"] |= {"distances": None, "sketch": {"size": 1024, "seed": 0, "error": 0.0123}}
    text = said(page_of(run), "allocation")
    assert "by random sketches; error of a distance 0.0123." in text
    assert "Of so many clients the distances are not kept." in text


def test_routing_by_layer_entropy_and_load() -> None:
    run = entry(tasks=SMALL, layers=2)
    routing, allocation = run.record["routing"], run.record["allocation"]
    root = page_of(run)
    used = table_of(root, "Mean number of experts a token uses, by layer and client")
    layer = [of for path, of in routing["red-1"].items() if ".layer.1." in path]
    assert used["red-1"][1] == f"{np.mean([of['experts'] for of in layer]):.2f}"
    tokens = table_of(root, "Entropy of a token's weights")
    assert tokens["red-1"][1] == f"{np.mean([of['entropy'] for of in layer]):.2f}"
    shares = [np.array(of["weights"]) / sum(of["weights"]) for of in layer]
    over_all = table_of(root, "Entropy of the mean weights")
    assert over_all["red-1"][1] == f"{np.mean([-(p * np.log2(p)).sum() for p in shares]):.2f}"
    own = [c for c, label in zip(allocation["clients"], allocation["labels"], strict=True) if label == 1]
    weights = {c: np.array([of["weights"] for of in of_client.values()]) for c, of_client in routing.items()}
    loads = {c: (w / w.sum(1, keepdims=True)).mean(0)[1] for c, w in weights.items()}
    row = table_of(root, "load of each expert")["expert 1"]
    assert row[:2] == [str(len(own)), f"{250 * len(own):,}"]
    assert row[2] == f"{100 * np.mean(list(loads.values())):.1f}"
    assert row[3] == f"{100 * np.mean([loads[c] for c in own]):.1f}"
    assert row[4] == f"{100 * np.mean([loads[c] for c in loads if c not in own]):.1f}"


def test_a_record_without_the_entropy_of_tokens_says_so() -> None:
    run = copy.deepcopy(entry(tasks=SMALL))
    for modules in run.record["routing"].values():
        for of in modules.values():
            del of["entropy"]
    root = page_of(run)
    assert "does not tell the entropy of single tokens" in said(root, "entropy")
    assert "Entropy of the mean weights" in said(root, "entropy")
    assert "entropy of single tokens is not in this record" in said(root, "missing")


def test_methods_without_experts_and_with_choices() -> None:
    choices = {client: int(client.startswith("red")) for client in entry(tasks=SMALL).record["clients"]}
    ifca = changed(entry("ifca_lora", tasks=SMALL), choices=choices)
    root = page_of(ifca)
    assert table_of(root, "clusters chosen")["1"] == ["3", "red-0, red-1, red-2"]
    assert "no routers in its record" in said(root, "load")
    plain = page_of(entry("fedit", tasks=SMALL))
    assert "Nothing is told of experts: fedit." in said(plain, "allocation")


def test_bytes_and_time_add_up() -> None:
    root = page_of(entry(tasks=SMALL, rounds=3))
    sent = table_of(root, "Bytes over the whole run by part")
    assert sent[""] == ["A", "B", "in all", "a round and client"]
    assert sent["fedlease: down"] == ["12 kB", "24 kB", "36 kB", "2.4 kB"]
    assert sent["fedlease: down, to be scored"][:2] == ["1.5 kB", "–"]
    spent = table_of(root, "Time by what was done")["fedlease"]
    assert spent[:5] == ["21.0 s (70.0 %)", "7.5 s (25.0 %)", "1.5 s (5.0 %)", "30.0 s", "1.5 s"]
    assert spent[5:7] == ["7,500", f"{7500 / 21:.0f}"]


def test_what_was_refused_or_is_missing_is_said() -> None:
    run = copy.deepcopy(entry(tasks=SMALL, rounds=3, status="running"))
    del run.record["routing"], run.record["parameters"]
    rounds, clients = run.record["rounds"], run.record["clients"]
    run.record["spec"]["rounds"] = 5
    run.record["sessions"].append({"from_round": 2, "setup_seconds": 1.0})
    rounds[0]["left_out"] = [{"client": "red-0", "task": "train", "reason": "sent NaN"}]
    run.record["left_out"] = [{"client": "red-1", "task": "finish", "reason": "cannot be reached"}]
    del rounds[0]["loss"]["red-0"], rounds[1]["metrics"]["blue-1"]
    clients["blue-0"]["cut_rows"] = {"train": 4, "test": 0}
    clients["red-2"]["shared_test_rows"] = True
    root = page_of(run, waiting=["FedIT seed 1, runs/x"])
    for words in (
        "Not complete (running: 3 of 5 rounds)",
        "stopped and resumed 1 time, at round 2",
        "Left out: red-0 sent NaN (train): round 1.",
        "Left out: red-1 cannot be reached (finish): the end of the run.",
        "No training told of red-0: round 1.",
        "Not scored: blue-1: round 2.",
        "shared with other clients, as the data set has too few: red-2.",
        "Training rows cut, longer than the model's max_length: blue-0 4.",
        "measured at the end of a run",
        "How many parameters are trained is not in this record",
        "FedIT seed 1, runs/x",
    ):
        assert words in said(root, "missing")
    assert "Unfinished. Not complete, shown as far as they came" in root.one("header").text
    assert "Nothing: every round was done" in said(page_of(entry(tasks=SMALL)), "missing")


def test_a_run_that_is_not_scored_yet() -> None:
    run = copy.deepcopy(entry(tasks=SMALL, rounds=1, status="running"))
    run.record["rounds"][0]["metrics"] = {}
    for name in ("allocation", "routing"):
        del run.record[name]
    assert said(page_of(run), "rounds").endswith("No client is scored yet.")
    both = page_of(run, entry("fedit", tasks=SMALL))
    assert "no client is scored yet" in said(both, "rounds")


def test_names_are_text_wherever_they_stand() -> None:
    text = json.dumps(entry(tasks=SMALL).record)
    for name in ("red", "red-1", "fedlease", "accuracy"):
        assert f'"{name}"' in text
        text = text.replace(f'"{name}"', json.dumps(f"{EVIL}{name}"))
    renamed = json.loads(text)
    renamed["spec"] |= {"name": EVIL, "model": {"name": EVIL}}
    renamed["spec"]["method"][EVIL] = EVIL
    renamed["spec"]["method"]["name"] = EVIL
    renamed["allocation"]["reason"] = EVIL
    renamed |= {"versions": {EVIL: EVIL}, "machine": {"system": EVIL}, "status": EVIL, "commit": EVIL}
    renamed["rounds"][0]["left_out"] = [{"client": EVIL, "task": EVIL, "reason": EVIL}]
    renamed["rounds"][0]["metrics"]["blue-0"][EVIL] = 0.5
    run = Entry(EVIL, EVIL, renamed, Path(EVIL))
    for runs in ([run], [run, entry("fedit", tasks=SMALL)]):
        page = make_page(runs, EVIL if len(runs) == 1 else "", [EVIL])
        root = check(page)
        assert "<img" not in page
        assert EVIL in root.one("main").text
    assert page.count("<script>") == 1


@pytest.mark.parametrize("name", ["fedlease", "allocation", "rounds", "clients", "spec"])
def test_a_damaged_record_is_refused_by_its_folder(name: str) -> None:
    run = copy.deepcopy(entry(tasks=SMALL))
    match name:
        case "fedlease":
            run.record["routing"]["red-0"] = {"layer.0": {"experts": 1.0}}
        case "allocation":
            del run.record["allocation"]["linkage"]
        case "rounds":
            run.record["rounds"][0] = {"round": 1}
        case "clients":
            run.record["clients"]["red-0"] = {}
        case "spec":
            run.record["spec"] = []
    with pytest.raises(FedLeaseError, match=r"^runs/made: the record is damaged: \w+") as raised:
        make_page([run])
    assert "\n" not in str(raised.value)


def test_equal_records_give_equal_pages_that_are_known_as_reports() -> None:
    page = make_page([entry()])
    assert page == make_page([entry()])
    assert is_report(page.encode())
    assert not is_report(b"<!doctype html>\n<html>")


def test_64_clients_and_50_rounds_stay_under_5_megabytes() -> None:
    run = large()
    assert (len(run.record["clients"]), len(run.record["rounds"])) == (64, 50)
    page = make_page([run])
    check(page)
    assert len(page.encode()) < 5_000_000


def test_with_more_clients_than_have_names_the_page_stays_small() -> None:
    page = make_page([entry(tasks={"red": 120, "blue": 80}, layers=12, rounds=5)])
    root = check(page)
    assert "Neighbouring clients share a cell" in said(root, "allocation")
    assert len(page.encode()) < 2_000_000


def test_seeds_of_a_method_share_a_line_and_a_colour() -> None:
    runs = [entry("fedit", Path(f"runs/{seed}"), tasks=SMALL, seed=seed) for seed in (0, 1)]
    going = entry("fedit", Path("runs/2"), tasks=SMALL, seed=2, status="running")
    root = page_of(entry(tasks=SMALL), *runs, going)
    chart = next(node for node in root.by_id("rounds").all("figure") if "all clients" in node.text)
    names = [g.one("title").text for g in chart.all("g") if list(g.all("title"))]
    assert names == ["fedlease", "fedit (2 seeds)"]
    last = [np.mean([s["accuracy"] for s in r.record["rounds"][-1]["metrics"].values()]) for r in runs]
    assert f"fedit (2 seeds){100 * np.mean(last):.1f}" in chart.text
    differ = table_of(root, "Where the runs differ")
    assert differ[""] == ["fedlease, seed 0", "fedit, seed 0", "fedit, seed 1", "fedit, seed 2"]
    assert differ["method"] == ["fedlease", "fedit", "fedit", "fedit"]
    assert differ["further settings"][0] == "top_k none, router cluster, warmup_rounds 2"
    assert differ["further settings"][1:] == ["–"] * 3
    assert "model" not in differ
    assert table_of(root, "What was asked for")["model"] == ["tiny"]
    keys = {span.attributes["class"] for h3 in root.by_id("clients").all("h3") for span in h3.all("span")}
    assert keys == {"key s0", "key s1"}
