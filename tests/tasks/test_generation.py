"""Rows as a language model reads and writes them, against transformers called by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fedlease.core.errors import FedLeaseError
from fedlease.tasks.base import Encoded, Example, Task
from fedlease.tasks.batching import TOKENS
from fedlease.tasks.generation import IGNORED, Generation, answer_logits
from fedlease.tasks.inference import Inference, Step
from fedlease.tasks.templates import ALPACA, render

ROWS = [
    Example(("Add 1 and 2.",), answer="3"),
    Example(("Say it twice: " + "so " * 20,), answer="so so"),
    Example(("naïve ☕",), answer="café"),
    Example(("a", "b"), answer="a longer answer than the others"),
    Example(("Well?\nOPTIONS:\n- yes\n- no",), answer="no"),
]
PLAIN = Generation("{prompt}>", max_new_tokens=12)


@pytest.fixture(scope="module")
def tokenizer(tiny_llama: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny_llama)


@pytest.fixture(scope="module")
def network(tiny_llama: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32).eval()


def inference(tokenizer: Any, size: int = 3, steps: list[Step] | None = None) -> Inference:
    told: list[Step] = [] if steps is None else steps
    return Inference(tokenizer, 0, size, torch.device("cpu"), told.append)


def problem(task: Generation, rows: list[Example], tokenizer: Any, max_length: int = 256) -> str:
    with pytest.raises(FedLeaseError) as caught:
        task.encode(rows, tokenizer, max_length)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_row_is_template_prompt_answer_and_end(tokenizer: Any) -> None:
    encoded = Generation().encode(ROWS, tokenizer, 400)
    for row, example in enumerate(ROWS):
        prompt = ALPACA.replace("{prompt}", "\n\n".join(example.texts))
        ids, start = encoded.input_ids[row], encoded.labels[row]
        assert tokenizer.decode(ids[:start]) == prompt
        assert tokenizer.decode(ids[start:]) == f"{example.answer}</s>"
    assert encoded.answers == tuple(example.answer for example in ROWS)
    assert encoded.options == ((), (), (), (), ("yes", "no"))
    assert encoded.truncated == 0


@pytest.mark.parametrize("max_length", [60, 61, 75, 84])
def test_a_long_prompt_loses_its_middle_and_nothing_else(tokenizer: Any, max_length: int) -> None:
    task = Generation("[head]{prompt}[tail]", max_new_tokens=4)
    text = "".join(chr(33 + n % 90) for n in range(80))
    rows = [Example((text,), answer="the answer"), Example(("short",), answer="the answer")]
    encoded = task.encode(rows, tokenizer, max_length)
    said = tokenizer.decode(encoded.input_ids[0])
    assert len(encoded.input_ids[0]) == max_length
    kept = said.removeprefix("[head]").removesuffix("[tail]the answer</s>")
    assert len(kept) == max_length - 6 - 6 - 11
    assert kept == text[: (len(kept) + 1) // 2] + text[80 - len(kept) // 2 :]
    assert tokenizer.decode(encoded.input_ids[1]) == "[head]short[tail]the answer</s>"
    assert encoded.truncated == 1


def test_a_prompt_reads_the_same_whatever_its_answer(tokenizer: Any) -> None:
    task = Generation("{prompt}>", max_new_tokens=20)
    rows = [Example(("word " * 30,), answer=answer) for answer in ("a", "a b c d e f")]
    encoded = task.encode(rows, tokenizer, 64)
    first, second = (ids[:start] for ids, start in zip(encoded.input_ids, encoded.labels, strict=True))
    assert first == second
    assert len(first) == 44


def test_what_does_not_fit_names_the_row(tokenizer: Any) -> None:
    rows = [ROWS[0], Example(("why",), answer="because " * 10)]
    assert problem(PLAIN, rows, tokenizer, 64) == (
        "row 1 ('why'): its answer has 81 tokens with its end, generation.max_new_tokens is 12, the template "
        "has 1: model.max_length 64 leaves no room for the prompt"
    )
    assert "row 0 ('Add 1 and 2.'): its answer has 2 tokens" in problem(Generation(), ROWS, tokenizer, 64)


def test_bad_rows_tokenizers_and_settings(tokenizer: Any, tiny_llama: Path) -> None:
    assert problem(PLAIN, [Example(("a",))], tokenizer) == "row 0 ('a') has no answer: every row needs one"
    chat = Example(("Hi", "Ho", "Hi"), answer="Ho", roles=("user", "assistant", "user"))
    assert 'needs generation.template = "chat"' in problem(PLAIN, [chat], tokenizer)
    assert "has no chat template: use alpaca" in problem(Generation("chat"), ROWS, tokenizer)
    endless = AutoTokenizer.from_pretrained(tiny_llama)
    endless.eos_token = None
    assert "has no end token" in problem(PLAIN, ROWS, endless)
    with pytest.raises(FedLeaseError, match=r"generation.template has \{input\}, and only \{prompt\} is"):
        Generation("{prompt} {input}")
    Generation('{prompt} answers {"a": {}}')  # braces of other kinds are text
    for template in ("no field", "{prompt} and {prompt}", "{instruction}"):
        with pytest.raises(FedLeaseError, match="must be one of alpaca, chat, or a text with"):
            Generation(template)
    with pytest.raises(FedLeaseError, match="max_new_tokens is 0"):
        Generation(max_new_tokens=0)


def test_the_tokenizers_chat_template(tiny_llama: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
        "<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    talk = Example(
        ("Brief.", "Hi", "Ho", "x" * 90), answer="Ha", roles=("system", "user", "assistant", "user")
    )
    task = Generation("chat", max_new_tokens=8)
    encoded = task.encode([talk, ROWS[3]], tokenizer, 70)
    assert (
        tokenizer.decode(encoded.input_ids[1])
        == "<user>a\n\nb\n<assistant>a longer answer than the others</s>"
    )
    said = tokenizer.decode(encoded.input_ids[0])
    assert said.startswith("<system>Brief.\n<user>Hi\n<assistant>Ho\n<user>xxx")
    assert said.endswith("xxx\n<assistant>Ha</s>")
    short = Example(("Hi", "Ho", "a"), answer="b", roles=("user", "assistant", "user"))  # as in <assistant>
    assert render("chat", short, tokenizer) == ("<user>Hi\n<assistant>Ho\n<user>", "a", "\n<assistant>")
    tokenizer.chat_template = tokenizer.chat_template.replace("m.content", "m.content | trim")
    assert render("chat", Example((" a ",), answer="b"), tokenizer) == ("<user>", "a", "\n<assistant>")
    refused = Example(("x",), answer="y", roles=("tool",))
    assert "the tokenizer's chat template refuses the messages: no tools" in problem(
        task, [refused], tokenizer
    )


def test_a_first_token_that_the_tokenizer_adds_is_kept_and_an_end_it_adds_is_not(tiny_llama: Path) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama)
    tokenizer.bos_token = "!"
    begin = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="! $A </s>", special_tokens=[("!", begin), ("</s>", 0)]
    )
    encoded = PLAIN.encode(ROWS[:1], tokenizer, 64)
    assert tokenizer.decode(encoded.input_ids[0]) == "!Add 1 and 2.>3</s>"


def test_labels_are_answers_and_ends(tokenizer: Any) -> None:
    encoded = PLAIN.encode(ROWS, tokenizer, 128)
    batch = PLAIN.collate(encoded, [3, 0], 7)
    assert {tensor.shape for tensor in batch.values()} == {(2, len(encoded.input_ids[3]))}
    for place, row in enumerate((3, 0)):
        ids, start = encoded.input_ids[row], encoded.labels[row]
        padding = len(encoded.input_ids[3]) - len(ids)
        assert batch["input_ids"][place].tolist() == ids + [7] * padding
        assert batch["attention_mask"][place].tolist() == [1] * len(ids) + [0] * padding
        assert batch["labels"][place].tolist() == [IGNORED] * start + ids[start:] + [IGNORED] * padding
    with pytest.raises(FedLeaseError, match="a batch of no rows"):
        PLAIN.collate(encoded, [], 0)


def test_the_loss_of_a_batch_is_that_of_its_pieces_by_their_weights(network: Any, tokenizer: Any) -> None:
    data = PLAIN.encode(ROWS, tokenizer, 128)
    pieces = [[1], list(range(2, len(ROWS))), [0]]
    weights = [PLAIN.weight(data, rows) for rows in pieces]
    assert len(set(weights)) > 1  # so that a mean over rows would be another
    counted = [int((PLAIN.collate(data, rows, 0)["labels"] != IGNORED).sum()) for rows in pieces]
    assert weights == counted
    with torch.no_grad():
        losses = [float(PLAIN.loss(network, PLAIN.collate(data, rows, 0))) for rows in pieces]
        whole = float(PLAIN.loss(network, PLAIN.collate(data, range(len(ROWS)), 0)))
    found = sum(loss * weight for loss, weight in zip(losses, weights, strict=True)) / sum(weights)
    assert found == pytest.approx(whole, rel=1e-5)


def test_the_loss_is_that_of_all_logits(network: Any, tokenizer: Any) -> None:
    encoded = PLAIN.encode(ROWS, tokenizer, 128)
    batch = PLAIN.collate(encoded, range(5), 0)
    network.zero_grad()
    loss = PLAIN.loss(network, batch)
    loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}
    network.zero_grad()
    whole = network(**batch).loss
    whole.backward()
    assert abs(loss.item() - whole.item()) < 1e-6
    assert loss.dtype == torch.float32
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-6)
    network.zero_grad(set_to_none=True)


def test_logits_of_a_batch_are_those_of_its_rows_alone(network: Any, tokenizer: Any) -> None:
    encoded = PLAIN.encode(ROWS, tokenizer, 128)
    with torch.no_grad():
        together, targets = answer_logits(network, PLAIN.collate(encoded, range(5), 0))
        alone = torch.cat([answer_logits(network, PLAIN.collate(encoded, [n], 0))[0] for n in range(5)])
        whole = network(**{k: v for k, v in PLAIN.collate(encoded, [0], 0).items() if k != "labels"}).logits[
            0
        ]
    assert len(targets) == sum(len(a.encode()) + 1 for a in encoded.answers)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(alone[:2], whole[encoded.labels[0] - 1 : -1], rtol=0, atol=1e-6)


def test_the_mean_loss_is_over_all_answer_tokens(network: Any, tokenizer: Any) -> None:
    encoded = PLAIN.encode(ROWS, tokenizer, 128)
    steps: list[Step] = []
    with torch.inference_mode():
        found = PLAIN.mean_loss(network, encoded, inference(tokenizer, 2, steps))
        whole = float(PLAIN.loss(network, PLAIN.collate(encoded, range(5), 0)))
    assert found == pytest.approx(whole, abs=1e-6)
    assert [(step.rows, step.done, step.total) for step in steps] == [(2, 2, 5), (2, 4, 5), (1, 5, 5)]


def test_the_loss_of_many_rows_is_taken_of_so_many_tokens_at_once(network: Any, tokenizer: Any) -> None:
    encoded = PLAIN.encode(ROWS * 20, tokenizer, 128)
    seen: list[int] = []

    def note(_: Any, inputs: Any, given: dict[str, Any]) -> None:
        seen.append(given["input_ids"].numel())

    handle = network.register_forward_pre_hook(note, with_kwargs=True)
    try:
        with torch.inference_mode():
            PLAIN.mean_loss(network, encoded, inference(tokenizer, 100))
    finally:
        handle.remove()
    assert len(seen) > 1
    assert max(seen) <= TOKENS < sum(seen)


def test_the_output_layer_is_never_given_a_slice(network: Any, tokenizer: Any) -> None:
    whole: list[bool] = []

    def note(_: Any, inputs: Any, __: Any) -> None:
        whole.append(inputs[0].is_contiguous())

    handle = network.get_output_embeddings().register_forward_hook(note)
    try:
        with torch.inference_mode():
            PLAIN.write(network, PLAIN.encode(ROWS, tokenizer, 128), inference(tokenizer), 256)
    finally:
        handle.remove()
    assert len(whole) > 1
    assert all(whole)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_text_is_that_of_transformers_row_by_row(network: Any, tokenizer: Any, size: int) -> None:
    encoded = PLAIN.encode(ROWS, tokenizer, 128)
    direct, logits = [], []
    for ids, start in zip(encoded.input_ids, encoded.labels, strict=True):
        prompt = torch.tensor([ids[:start]])
        out = network.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=12,
            pad_token_id=0,
            eos_token_id=None,
        )
        direct.append(out[0, start:].tolist())
        logits.append(out)
    assert len({tuple(ids) for ids in direct}) == 5  # what is written depends on the prompt
    with torch.inference_mode():
        assert PLAIN.write(network, encoded, inference(tokenizer, size), 256) == [
            ids[: ids.index(256)] if 256 in ids else ids for ids in direct
        ]
        end = direct[0][3]  # as if this token ended texts
        stopped = PLAIN.write(network, encoded, inference(tokenizer, size), end)
    assert stopped == [ids[: ids.index(end)] if end in ids else ids for ids in direct]
    assert len(stopped[0]) < 12


def test_scores_come_in_row_order(network: Any, tokenizer: Any) -> None:
    first = PLAIN.encode(ROWS, tokenizer, 128)
    with torch.inference_mode():
        ids = PLAIN.write(network, first, inference(tokenizer), 0)
        texts = [tokenizer.decode(of_row).strip() for of_row in ids]
        right = Encoded(first.input_ids, None, first.labels, 0, tuple(texts), ((),) * 5)
        scores = PLAIN.score(network, right, inference(tokenizer, 2))
        given = PLAIN.score(network, first, inference(tokenizer))
    assert scores["exact_match"] == 1.0
    assert set(scores) == {"rouge1", "rougeL", "exact_match"}
    assert set(given) == {"rouge1", "rougeL", "exact_match", "accuracy"}


def test_it_is_a_task() -> None:
    task: Task = Generation()
    assert task.metric == "rouge1"
