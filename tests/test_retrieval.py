"""Retrieval and ranking: metrics, BM25, files of collections, both kinds of model."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score

from anyformer import create_model
from anyformer.core.errors import DataError, OptionError
from anyformer.data.bm25 import BM25
from anyformer.data.retrieval import NAMES, read_collection, read_qrels, read_run, two_names, write_run
from anyformer.tasks import create_task
from anyformer.tasks.ranking_metrics import average_precision, measure, ndcg, ranked, recall, reciprocal_rank
from descent import descend

# -- metrics -------------------------------------------------------------------------------------------------


def test_metrics_on_orders_made_by_hand():
    grades = [0, 2, 0, 1, 0]  # in ranked order; a third relevant document, of grade 1, is not ranked
    assert reciprocal_rank(grades, 10) == 0.5 and reciprocal_rank(grades, 1) == 0
    assert recall(grades, 3, 2) == pytest.approx(1 / 3) and recall(grades, 3, 10) == pytest.approx(2 / 3)
    assert average_precision(grades, 3) == pytest.approx((1 / 2 + 2 / 4) / 3)
    best = 2 / math.log2(2) + 1 / math.log2(3) + 1 / math.log2(4)
    assert ndcg(grades, [2, 1, 1, 0], 10) == pytest.approx((2 / math.log2(3) + 1 / math.log2(5)) / best)
    assert ndcg(grades, [2, 1, 1, 0], 2) == pytest.approx(2 / math.log2(3) / (2 + 1 / math.log2(3)))


def test_metrics_are_those_of_libraries():
    retrieval = pytest.importorskip("torchmetrics.functional.retrieval")
    generator = np.random.default_rng(0)
    for _ in range(20):
        scores, grades = generator.random(30), generator.integers(0, 3, 30)
        own = {f"d{i}": int(g) for i, g in enumerate(grades)}
        found = measure({"q": {f"d{i}": float(s) for i, s in enumerate(scores)}}, {"q": own}, k=10)
        assert found["ndcg"] == pytest.approx(ndcg_score([grades], [scores], k=10))
        s, t = torch.tensor(scores), torch.tensor(grades) > 0
        assert found["mrr"] == pytest.approx(float(retrieval.retrieval_reciprocal_rank(s, t, top_k=10)))
        assert found["recall"] == pytest.approx(float(retrieval.retrieval_recall(s, t, top_k=10)))
        assert found["map"] == pytest.approx(float(retrieval.retrieval_average_precision(s, t)), rel=1e-5)


def test_queries_that_are_not_ranked_count_and_those_without_a_relevant_document_do_not():
    judged = {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 0}}
    assert measure({"a": {"x": 1.0}, "c": {"x": 1.0}}, judged) == {"mrr": 0.5, "ndcg": 0.5, "recall": 0.5, "map": 0.5}
    assert ranked({"a": 1.0, "c": 1.0, "b": 2.0}) == ["b", "c", "a"]


def test_bm25_by_hand():
    bm25 = BM25(["the cat sat", "the dog", "the dog and the cat and the dog"], k1=0.9, b=0.4)
    mean = (3 + 2 + 8) / 3
    scores = bm25("Dog!")
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    assert scores[0] == 0
    assert scores[1] == pytest.approx(idf * 1 / (1 + 0.9 * (0.6 + 0.4 * 2 / mean)))
    assert scores[2] == pytest.approx(idf * 2 / (2 + 0.9 * (0.6 + 0.4 * 8 / mean)))
    assert [i for i, _ in bm25.best("dog", 5)] == [2, 1] and bm25.best("horse", 5) == []
    assert bm25("cat dog")[2] == pytest.approx(bm25("cat")[2] + bm25("dog")[2])


# -- data ----------------------------------------------------------------------------------------------------


def test_the_generated_collection_is_judged_by_what_documents_name():
    found = two_names(50, seed=3, documents=100, held=20)
    assert found == two_names(50, seed=3, documents=100, held=20)
    assert found.documents == two_names(50, seed=4, documents=100, held=20).documents
    thing = {name: k for k, pair in enumerate(NAMES) for name in pair}
    assert len(thing) == 2 * len(NAMES), "no name stands for two things"
    held = dict(found.grades["valid"]) | found.grades["test"]
    asked = {q: frozenset(thing[w] for w in found.queries[q].split()) for q in found.queries}
    assert not {asked[q] for q in found.grades["train"]} & {asked[q] for q in held}
    for split in found.grades.values():
        for q, own in split.items():
            for name, text in found.documents.items():
                words = {w.strip(".,") for w in text.split()}
                assert (name in own) == all(NAMES[k][0] in words for k in asked[q])


def beir(folder, qrels: dict[str, str]):
    folder.joinpath("qrels").mkdir(parents=True)
    lines = [{"_id": f"d{i}", "title": "T", "text": f"text number{i}"} for i in range(30)]
    folder.joinpath("corpus.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    folder.joinpath("queries.jsonl").write_text(
        "\n".join(json.dumps({"_id": f"q{i}", "text": f"number{i}"}) for i in range(20))
    )
    for name, text in qrels.items():
        folder.joinpath("qrels", name).write_text(text)
    return folder


def grades(numbers, header: str = "query-id\tcorpus-id\tscore\n") -> str:
    return header + "".join(f"q{i}\td{i}\t1\nq{i}\td{i + 1}\t0\n" for i in numbers)


def test_folders_of_beir_s_form_are_read(tmp_path):
    parts = {"train.tsv": grades(range(10)), "dev.tsv": grades(range(10, 15)), "test.tsv": grades(range(15, 20))}
    found = read_collection(beir(tmp_path / "three", parts))
    assert found.documents["d3"] == "T text number3" and found.queries["q3"] == "number3"
    assert found.grades["valid"]["q12"] == {"d12": 1, "d13": 0} and len(found.grades["train"]) == 10
    one = read_collection(beir(tmp_path / "one", {"test.tsv": grades(range(20))}))
    assert {split: len(own) for split, own in one.grades.items()} == {"train": 16, "valid": 2, "test": 2}
    two = read_collection(beir(tmp_path / "two", {"train.tsv": grades(range(10)), "test.tsv": grades(range(10, 20))}))
    assert {split: len(own) for split, own in two.grades.items()} == {"train": 9, "valid": 1, "test": 10}
    trec = "".join(f"q{i} 0 d{i} 2\n" for i in range(20))
    judged = read_collection(beir(tmp_path / "trec", {"test.qrels": trec})).grades
    assert {q: own for split in judged.values() for q, own in split.items()} == {
        f"q{i}": {f"d{i}": 2} for i in range(20)
    }


def test_runs_are_written_and_read(tmp_path):
    run = {"q1": {"a": 0.5, "b": 2.0}, "q2": {"c": -1.0}}
    write_run(tmp_path / "run", run)
    assert (tmp_path / "run").read_text().splitlines()[0] == "q1 Q0 b 1 2.000000 anyformer"
    assert read_run(tmp_path / "run") == run


def test_triples_are_read(tmp_path):
    path = tmp_path / "triples.tsv"
    path.write_text("".join(f"query {i % 12}\tright {i}\twrong {i % 5}\n" for i in range(24)))
    found = read_collection(path)
    assert len(found.queries) == 12 and len(found.documents) == 29
    names = {text: name for name, text in found.queries.items()}
    own = {**found.grades["train"], **found.grades["valid"], **found.grades["test"]}[names["query 3"]]
    assert sorted(found.documents[d] for d in own) == ["right 15", "right 3"]
    assert {found.documents[d] for d in found.rejected[names["query 3"]]} == {"wrong 3", "wrong 0"}
    task = create_task(f"ranking:{path}")
    assert {task.names[i] for i in task.others(names["query 3"])} == set(found.rejected[names["query 3"]])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("corpus.jsonl", '{"_id": "d0"}\n', r'corpus\.jsonl, line 1: each line is an object with "_id" and "text"'),
        ("corpus.jsonl", '{"_id": "d0", "text": " "}\n', r"corpus\.jsonl, line 1: 'd0' has no text"),
        ("queries.jsonl", "q0 text\n", r"queries\.jsonl, line 1: each line is an object"),
        (
            "queries.jsonl",
            '{"_id": "other", "text": "a"}\n',
            r"grades of the .* part name the query 'q\d+', which has no",
        ),
        ("qrels/test.tsv", "h h h\nq0\td0\tmuch\n", r"test\.tsv, line 2: a grade is an integer.*'much'"),
        ("qrels/test.tsv", "q0\td0\n", r"test\.tsv, line 1: a line is query, document and grade, or TREC's"),
        ("qrels/test.tsv", "q0\td99\t1\n" * 3, r"leaves no samples for the \w+ part"),
        ("qrels/test.tsv", grades(range(20)).replace("\t1", "\t0"), r"leaves no query with a relevant document"),
    ],
)
def test_wrong_collections_are_named(tmp_path, name: str, text: str, message: str):
    folder = beir(tmp_path / "set", {"test.tsv": grades(range(20))})
    folder.joinpath(name).write_text(text)
    with pytest.raises(DataError, match=message):
        create_task(f"retrieval:{folder}")


def test_other_wrong_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.tsv cannot be read"):
        create_task("retrieval:gone.tsv")
    path = tmp_path / "wrong.tsv"
    path.write_text("query\tright\n")
    with pytest.raises(DataError, match=r"wrong\.tsv, line 1: a line is a query, a relevant document and another one"):
        create_task(f"ranking:{path}")
    with pytest.raises(DataError, match=r"has no grades: put train\.tsv, dev\.tsv or test\.tsv into"):
        read_collection(beir(tmp_path / "none", {}))
    path.write_text("q Q0 d 1 high tag\n")
    with pytest.raises(DataError, match=r"line 1: a score is a number; given 'high'"):
        read_run(path)
    path.write_text("q 0 d 1\nq 0 d 1 5\n")
    with pytest.raises(DataError, match=r"wrong\.tsv, line 2: a line is query, document and grade"):
        read_qrels(path)


# -- models --------------------------------------------------------------------------------------------------


def test_documents_that_are_relevant_as_well_are_no_negatives():
    task = create_task("retrieval", queries=50)
    model = create_model("lra_micro", **task.model_options()).eval()
    batch = task.sample("train", torch.arange(40))
    asked, shown = batch["query_number"], batch["document_number"]
    also = task.is_relevant(asked[:, None], shown)
    assert also.diagonal().all() and also.sum() > 40, "a query with several documents is among these"
    vectors = [task.vectors(model, batch, name) for name in ("query", "document")]
    torch.testing.assert_close(vectors[0].norm(dim=1), torch.ones(40))
    scores = vectors[0] @ vectors[1].T / task.temperature
    losses = []
    for row in range(40):
        others = [j for j in range(40) if j == row or not also[row, j]]
        losses.append(-(scores[row, row] - scores[row, others].logsumexp(0)))
    torch.testing.assert_close(task.loss(model, batch), torch.stack(losses).mean(), rtol=1e-4, atol=1e-5)


def test_two_towers_learn_to_find():
    torch.manual_seed(0)
    task = create_task("retrieval", queries=300)
    model = create_model(task.default_model, **task.model_options())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(40):
        loss = task.loss(model, task.sample("train", torch.arange(64) + 64 * (step % 4)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = task.evaluate(model, "train")
    untrained = task.evaluate(create_model(task.default_model, **task.model_options()), "train")
    assert found["mrr"] > 3 * untrained["mrr"] and found["queries"] == 300
    (answer,) = task.predict(model, ["car sofa"])
    assert len(answer["documents"]) == 10 and answer["documents"][0]["name"] in task.names
    scores = [one["score"] for one in answer["documents"]]
    assert scores == sorted(scores, reverse=True)


def test_rankers_order_what_bm25_finds():
    torch.manual_seed(0)
    task = create_task("ranking", queries=60, candidates=8)
    model = create_model("tkl_micro", **task.model_options()).eval()
    batch = task.sample("train", torch.arange(6), seed=1, train=True)
    assert batch["document"].shape[:2] == (6, 4)
    again = task.sample("train", torch.arange(6), seed=1, train=True)
    other = task.sample("train", torch.arange(6), seed=2, train=True)
    assert torch.equal(batch["document"], again["document"]) and not torch.equal(batch["document"], other["document"])
    scores = task.scores(model, batch)
    one = {"query": batch["query"][2:3], "query_lengths": batch["query_lengths"][2:3]}
    one |= {name: batch[name][2:3, 1:2] for name in ("document", "document_lengths")}
    torch.testing.assert_close(task.scores(model, one)[0, 0], scores[2, 1], rtol=1e-4, atol=1e-4)
    run, lexical = task.run(model, "valid"), task.lexical("valid", 8)
    assert {q: set(own) for q, own in run.items()} == {q: set(own) for q, own in lexical.items()}
    (found,) = task.predict(model, ["car sofa"])
    assert 0 < len(found["documents"]) <= 8 and found["best"] == found["documents"][0]["text"]
    assert task.predict(model, ["unheard"]) == [{"input": "unheard", "best": "", "documents": []}]


def test_negatives_are_not_relevant():
    task = create_task("ranking", queries=40)
    for query in task.collection.grades["train"]:
        names = {task.names[i] for i in task.others(query)}
        assert names and not names & set(task.collection.grades["train"][query])


def test_a_ranker_s_loss_falls():
    torch.manual_seed(0)
    task = create_task("ranking", queries=60)
    model = create_model("tk_micro", **task.model_options())
    batch = task.sample("train", torch.arange(16))
    losses = descend(model, lambda: task.loss(model, batch), steps=20)
    assert losses[-1] < 0.7 * losses[0]


def test_models_of_the_other_kind_are_named():
    retrieval, ranking = create_task("retrieval", queries=20), create_task("ranking", queries=20)
    words = {"vocab_size": ranking.tokenizer.vocab_size}
    with pytest.raises(OptionError, match="given encoder: for an encoder there is the task 'retrieval'"):
        ranking.loss(create_model("lra_micro", **words), ranking.sample("train", torch.arange(2)))
    tokens = create_model("bert_micro", **retrieval.model_options(), head="masked_lm")
    with pytest.raises(OptionError, match=r"takes a vector for each text, \(2, c\)"):
        retrieval.loss(tokens, retrieval.sample("train", torch.arange(2)))
    with pytest.raises(OptionError, match="a temperature is above 0; given 0"):
        create_task("retrieval", temperature=0)
    with pytest.raises(OptionError, match="candidates and negatives are 1 or more"):
        create_task("ranking", candidates=0)
    with pytest.raises(OptionError, match="lengths and k are 1 or more"):
        create_task("retrieval", k=0)
    with pytest.raises(DataError, match="the query leaves no token"):
        retrieval.predict(create_model("lra_micro", **retrieval.model_options()), ["?!"])
