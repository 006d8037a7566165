"""Quickstart's three configs differ in the transition (and the task) alone."""

from experiments import demonstration, override
from experiments.config import to_document


def test_variants_share_everything_but_the_transition():
    documents = [to_document(variant.config(seed=4)) for variant in demonstration.VARIANTS]
    for document in documents:
        assert document["seed"] == 4
        document["model"]["mixer"].pop("transition")
        document.pop("task")
    assert documents[0] == documents[1] == documents[2]


def test_the_command_in_small(tmp_path, monkeypatch):
    from small_run import SMALL

    small = [*SMALL, "steps=2"]
    whole = demonstration.Variant.config
    monkeypatch.setattr(
        demonstration.Variant, "config", lambda self, seed: override(whole(self, seed), small)
    )
    monkeypatch.setattr(demonstration, "LENGTHS", (5, 40, 256, 300))
    monkeypatch.setattr(demonstration, "VARIANTS", demonstration.VARIANTS[2:])
    results, files = demonstration.quickstart(tmp_path / "quick", progress=False)
    assert [result.variant.task for result in results] == ["s3_word_problem"]
    assert all(0 <= result.beyond(256) <= 1 for result in results)
    assert all(file.exists() for file in files)
