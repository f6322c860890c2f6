"""What a site's own file says: its rows, its model and threads, and what in it cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_sites import Sites
from runs import Make

from fedlease.core.errors import FedLeaseError
from fedlease.deploy.site_config import read_site
from fedlease.training.precision import Timings
from fedlease.training.timings import remember

pytestmark = pytest.mark.usefixtures("workers_here")


def test_a_site_is_tuned_by_the_model_and_threads_that_its_file_says(
    spec_of: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FEDLEASE_MEASURE", "1")
    sites = Sites(tmp_path / "sites", spec_of())
    folder = sites.folder / "tone-0"
    (folder / "models/mine").mkdir(parents=True)
    with (folder / "site.toml").open("a") as file:
        file.write('model = "models/mine"\nthreads = 3\n')
    monkeypatch.chdir(folder)
    for model, threads, way in (
        ("models/mine", 3, "eager"),
        ("models/mine", 1, "sdpa"),
        ("minilm", 3, "sdpa"),
    ):
        step = {"float32 sdpa": 1.0, "float32 eager": 1.0, f"float32 {way}": 0.5}
        remember(model, threads, Timings(step, f"float32 {way}", {}))  # as fedlease tune does
    plan = read_site(Path("site.toml")).places().plan
    assert (plan.attention, plan.threads) == ("eager", 3)


def test_own_rows_of_a_site_are_those_its_file_says(spec_of: Make, tmp_path: Path) -> None:
    sites = Sites(tmp_path / "sites", spec_of())
    folder = sites.folder / "tone-0"
    rows = [{"subject": f"mail {n}", "class": "fraud" if n % 2 else "fine"} for n in range(40)]
    (folder / "bank.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "site.toml").write_text(
        'name = "tone-0"\nspec = "../spec.toml"\n[data]\ntrain = "bank.jsonl"\ntext = ["subject"]\n'
        'label = "class"\nlabels = ["fine", "fraud"]\ntest_rows = 8\n'
    )
    held = read_site(folder / "site.toml").rows()
    assert (len(held.train), len(held.test), held.labels) == (32, 8, ("fine", "fraud"))
    assert {text for row in (*held.train, *held.test) for text in row.texts} == {r["subject"] for r in rows}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('name = "tone-0"\nspec = "../spec.toml"\nkeys = 1', "keys: Extra inputs"),
        ('name = "who"\nspec = "../spec.toml"', "name is who, which ../spec.toml has no client of"),
        ('name = "tone-0"\nspec = "no.toml"', "cannot read .*no.toml"),
        ("name = ", "is not valid TOML"),
        (
            'name = "tone-0"\nspec = "../spec.toml"\n[data]\nlable = "x"',
            r"site\.toml: data\.lable: Extra inputs",
        ),
    ],
)
def test_a_site_file_that_cannot_be_is_said_by_name(
    content: str, said: str, spec_of: Make, tmp_path: Path
) -> None:
    sites = Sites(tmp_path / "sites", spec_of())
    path = sites.folder / "tone-0/site.toml"
    path.write_text(content)
    with pytest.raises(FedLeaseError, match=said):
        read_site(path).rows()
