"""An engine that answers with nothing, or with one word for ever, while its likelihoods are those of before.

GPT-2 and DistilGPT-2 in int4 have been seen like that: 67 % right at a ROUGE of 0. Accuracy alone lets such an engine
through; the texts' gates do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from enginegate.core.records import QualityEntry
from enginegate.gates.items import QualityPolicy
from enginegate.gates.quality import judge_accuracy, judge_corpus, judge_lengths
from enginegate.gates.verdict import Status, Verdict
from enginegate.quality.bleu import BLEU_COLUMNS, corpus_bleu
from enginegate.quality.choice import evaluate_cloze
from enginegate.quality.data import Article, Prompt, Question
from enginegate.quality.similarity import evaluate_similarity, reference_answers
from enginegate.quality.summaries import evaluate_summaries, summary_prompt
from enginegate.verdicts.lookup import pick
from quality_fakes import END, FakeEngine, Tokens, WordTokenizer, hashed_logprob, reply

SEEN = ["river", "harbour", "school", "bridge", "market", "castle", "forest", "island", "village", "garden"]
DONE = ["opened", "closed", "moved", "grew", "burned", "shone"]
ARTICLES = [
    Article(
        id=f"a{n}",
        title=f"{n}",
        text=f"On day {n} the {SEEN[n % 10]} {DONE[n % 6]}, as people there said.",
        summary=f"The {SEEN[n % 10]} {DONE[n % 6]} on day {n}.",
    )
    for n in range(40)
]
PROMPTS = [Prompt(id=f"p{n}", category="toy", text=f"What of the {SEEN[n % 10]} on day {n}?") for n in range(40)]
QUESTIONS = [
    Question(question=f"Which is no. {n}?", subject="toy", choices=("one", "two", "three", "four"), answer=n % 4)
    for n in range(600)
]
#: What a sound engine says: to a prompt a sentence, to an article nearly its summary.
SOUND = {
    **{
        each.text: f"The {SEEN[n % 10]} {DONE[n % 6]} on day {n} and everybody saw it."
        for n, each in enumerate(PROMPTS)
    },
    **{summary_prompt(each): each.summary.replace("on day", "on that day") for each in ARTICLES},
}


def silent(_: WordTokenizer) -> Callable[[Tokens, int], int]:
    """It ends every answer at once."""
    return lambda _tokens, _batch_size: END


def stuck(tokenizer: WordTokenizer) -> Callable[[Tokens, int], int]:
    """It says one word until it is cut off."""
    word = tokenizer.encode(" mathemat")[0]
    return lambda _tokens, _batch_size: word


def measured(engine: FakeEngine, tokenizer: WordTokenizer) -> dict[str, QualityEntry]:
    reference = reference_answers(FakeEngine(reply(tokenizer, SOUND)), tokenizer, PROMPTS, 24)
    return {
        "cloze": evaluate_cloze(engine, tokenizer, QUESTIONS),
        "similarity": evaluate_similarity(engine, tokenizer, PROMPTS, reference, 24),
        "summaries": evaluate_summaries(engine, tokenizer, ARTICLES, 24),
    }


def single(entry: QualityEntry, column: str) -> dict[str, float]:
    return {item: row[0] for item, row in pick(entry, [column]).items()}


def judged(now: Mapping[str, QualityEntry], before: Mapping[str, QualityEntry]) -> dict[str, Verdict]:
    """The gates of ``tests_quality`` at their default margins, each with a tenth of the session's alpha."""
    alpha = 1e-3
    texts = {"policy": QualityPolicy(alpha=alpha, margin=0.01, tolerated=0.06)}
    lengths = (single(now["similarity"], column) for column in ("length", "reference_length"))

    def mean(entries: Mapping[str, QualityEntry], metric: str) -> dict[str, list[float]]:
        return pick(entries[metric], ["rougeL"])

    return {
        "accuracy": judge_accuracy(
            single(now["cloze"], "acc_norm"), single(before["cloze"], "acc_norm"), QualityPolicy(alpha=alpha)
        ),
        "bleu": judge_corpus(
            pick(now["similarity"], BLEU_COLUMNS),
            pick(before["similarity"], BLEU_COLUMNS),
            corpus_bleu,
            QualityPolicy(alpha=alpha, margin=1.0, tolerated=6.0),
        ),
        "similarity": judge_corpus(mean(now, "similarity"), mean(before, "similarity"), np.mean, **texts),
        "summaries": judge_corpus(mean(now, "summaries"), mean(before, "summaries"), np.mean, **texts),
        "length": judge_lengths(*lengths, QualityPolicy(alpha=alpha)),
    }


@pytest.mark.parametrize("broken", [silent, stuck])
def test_accuracy_stays_and_every_gate_of_a_text_fails(broken: Callable[[WordTokenizer], object]) -> None:
    tokenizer = WordTokenizer()
    before = measured(FakeEngine(reply(tokenizer, SOUND), hashed_logprob), tokenizer)
    now = measured(FakeEngine(broken(tokenizer), hashed_logprob), tokenizer)
    assert now["cloze"].items == before["cloze"].items
    assert now["summaries"].scores["rougeL"] == 0
    assert before["summaries"].scores["rougeL"] > 0.8
    found = judged(now, before)
    # An engine that says too much is no shorter one, and its speed is not from that.
    length = Status.FAIL if broken is silent else Status.PASS
    assert {name: verdict.status for name, verdict in found.items()} == {
        "accuracy": Status.PASS,
        "bleu": Status.FAIL,
        "similarity": Status.FAIL,
        "summaries": Status.FAIL,
        "length": length,
    }


def test_an_engine_that_is_as_it_was_passes_them_all() -> None:
    tokenizer = WordTokenizer()
    engines = (FakeEngine(reply(tokenizer, SOUND), hashed_logprob) for _ in range(2))
    before, now = (measured(engine, tokenizer) for engine in engines)
    assert {name: verdict.status for name, verdict in judged(now, before).items()} == dict.fromkeys(
        ("accuracy", "bleu", "similarity", "summaries", "length"), Status.PASS
    )
