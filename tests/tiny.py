"""Tiny random encoders of every architecture, and toy tasks that they can learn."""

import copy
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, BertTokenizer, PretrainedConfig

from pipelines.bundle_files import BundleConfig
from pipelines.config import TrainConfig
from pipelines.encoder.architectures import ARCHITECTURES
from pipelines.encoder.backbone import Backbone
from pipelines.encoder.tokens import encode
from pipelines.packs.training import Training
from pipelines.tasks.encoded import EncodedTask
from pipelines.tasks.rows import TaskData
from pipelines.tasks.span_rows import SQUAD_SCHEMA, SpanExample
from pipelines.tasks.task import Task

torch.set_num_threads(1)  # more gain nothing at this size

D = 32  # hidden size
LAYERS = 2
MAX_TOKENS = 64

_WORDS = """
the a an and or but if of to in on at by for with from about into over after before under between it its
this that these those he she they we you i his her their our your my me him them us who what which when
where why how not no yes all any some more most many much few very so too also just only even still again
is are was were be been being am has have had do does did will would can could should may might must
good great fine lovely happy best excellent nice perfect wonderful bad awful poor sad worst terrible nasty
broken boring horrible one two three four five six seven eight nine ten first second last new old big small
long short high low early late open closed black white red green blue hot cold fast slow day week month year
time hour morning night today tomorrow yesterday man woman child people friend family team player game match
goal win lose play run walk go come see look find give take make get say tell ask know think want need use
try work call help start stop read write buy sell pay send keep turn show feel leave put mean let seem
house home room door window car road street city town country world school office shop market bank money
price market share company business job boss phone screen computer network printer password email mail
server software
film music song book story news paper page word letter number name line point side part place thing way
water food coffee tea bread fish tree river sea sun rain snow wind dog cat bird horse hand head eye face
heart body life death love war peace law state party vote minister government president police court
""".split()  # noqa: SIM905 - a list of them would take a line each


@cache
def vocabulary() -> dict[str, int]:
    """Special tokens, some 330 common words, digits, punctuation, and letters to spell the rest with."""
    characters = [*"abcdefghijklmnopqrstuvwxyz", *"0123456789", *".,;:!?'-()#@/&"]
    pieces = [*characters, *(f"##{character}" for character in characters[:36])]
    tokens = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_WORDS, *pieces])
    return {token: index for index, token in enumerate(tokens)}


def tiny_tokenizer(*, do_lower_case: bool = True) -> BertTokenizer:
    """A WordPiece tokenizer over `vocabulary`; it serves every architecture here."""
    return BertTokenizer(vocab=dict(vocabulary()), do_lower_case=do_lower_case, model_max_length=MAX_TOKENS)


def tiny_config(model_type: str = "bert", **changes: Any) -> PretrainedConfig:
    """Two layers of width 32. Weights so large that a random encoder mixes its tokens."""
    fields: dict[str, Any] = {
        "vocab_size": len(vocabulary()),
        "hidden_size": D,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": MAX_TOKENS,
        "initializer_range": 0.2,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    own: dict[str, dict[str, Any]] = {
        "albert": {"embedding_size": 16, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1},
        "deberta-v2": {  # as DeBERTa-v3, and the convolution of DeBERTa-v2-xlarge
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_biased_input": False,
            "conv_kernel_size": 3,
        },
        "distilbert": {"dim": D, "n_layers": LAYERS, "n_heads": 2, "hidden_dim": 64},
        "electra": {"embedding_size": 16},
        "modernbert": {"cls_token_id": 2, "sep_token_id": 3, "initializer_cutoff_factor": 2.0},
        "roberta": {"max_position_embeddings": MAX_TOKENS + 1, "type_vocab_size": 1},
        "xlm-roberta": {"max_position_embeddings": MAX_TOKENS + 1, "type_vocab_size": 1},
        "mpnet": {"max_position_embeddings": MAX_TOKENS + 2},
    }
    if model_type == "distilbert":
        for renamed in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"):
            fields.pop(renamed)
    return AutoConfig.for_model(model_type, **fields | own.get(model_type, {}) | changes)


def tiny_model(model_type: str = "bert", *, seed: int = 0, **changes: Any) -> nn.Module:
    """A frozen random encoder, every norm with a scale and a shift of its own; a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModel.from_config(tiny_config(model_type, **changes))
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                for parameter in module.parameters():
                    nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.05)
    with (
        torch.no_grad()
    ):  # words count for more than their places, and each looks at all: easier to learn from
        for name, parameter in model.named_parameters():
            if re.search(r"(position|token_type)_embeddings\.weight", name):
                parameter *= 0.1
            if re.search(r"(query|q_lin|query_proj|\.q)\.weight", name):
                parameter *= 0.3
    return model.requires_grad_(False).eval()


def tiny_backbone(model_type: str = "bert", *, seed: int = 0, **changes: Any) -> Backbone:
    """A backbone in memory, no files."""
    model = tiny_model(model_type, seed=seed, **changes)
    return Backbone(
        name=f"tiny-{model_type}",
        model=model,
        tokenizer=tiny_tokenizer(),
        architecture=ARCHITECTURES[model_type],
        has_pooler=getattr(model, "pooler", None) is not None,
        fingerprint=f"tiny-{model_type}-{seed}",
    )


def save_tiny_encoder(folder: Path, model_type: str = "bert", *, seed: int = 0, **changes: Any) -> Path:
    """Write config.json, model.safetensors and a tokenizer, as `load_backbone` takes them."""
    tiny_model(model_type, seed=seed, **changes).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def edit_json(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None takes a key away."""
    content = json.loads(path.read_text()) | changes
    gone = {key for key, value in changes.items() if value is None}
    kept = {key: value for key, value in content.items() if key not in gone}
    path.write_text(json.dumps(kept))


def clone_backbone(backbone: Backbone) -> Backbone:
    """The same encoder in tensors of its own, to compare with after training."""
    return Backbone(**{**vars(backbone), "model": copy.deepcopy(backbone.model)})


def toy_task(
    kind: str = "classification",
    *,
    pairs: bool = False,
    rows: int = 64,
    validation_rows: int = 32,
    seed: int = 0,
) -> EncodedTask:
    """Texts about good or bad things; a regression counts the good words, in thousands.

    A pair is labelled by its second text; the first has words of both kinds at random.
    """
    rng = np.random.default_rng(seed)
    tokenizer = tiny_tokenizer()
    splits = [_toy_rows(rng, count, kind, pairs=pairs) for count in (rows, validation_rows)]
    (train, train_targets), (validation, validation_targets) = splits
    regression = kind == "regression"
    return EncodedTask(
        name="toy",
        kind=kind,
        metric="pearson" if regression else "accuracy",
        metrics=("pearson", "spearman") if regression else ("accuracy", "f1"),
        positive=None,
        labels=() if regression else ("bad", "good"),
        max_tokens=MAX_TOKENS,
        train=encode(train, tokenizer, MAX_TOKENS),
        train_targets=train_targets,
        validation=encode(validation, tokenizer, MAX_TOKENS),
        validation_targets=validation_targets,
    )


_GOOD = ("good", "great", "fine", "lovely", "happy", "best")
_BAD = ("bad", "awful", "poor", "sad", "worst", "terrible")
_FILLER = ("the", "a", "screen", "printer", "was", "is", "today", "and", "my", "office", "very")


def _toy_rows(
    rng: np.random.Generator, count: int, kind: str, *, pairs: bool
) -> tuple[list[tuple[str, ...]], np.ndarray[Any, Any]]:
    texts: list[tuple[str, ...]] = []
    targets: list[float] = []
    for row in range(count):
        good = int(rng.integers(0, 5)) if kind == "regression" else 4 * (row % 2)
        texts.append(
            (_toy_text(rng, int(rng.integers(0, 5))), _toy_text(rng, good))
            if pairs
            else (_toy_text(rng, good),)
        )
        targets.append(5000.0 + 1000.0 * good if kind == "regression" else row % 2)
    return texts, np.array(targets, dtype=np.float64 if kind == "regression" else np.int64)


def _toy_text(rng: np.random.Generator, good: int) -> str:
    """Four telling words, `good` of them good, among up to twelve others."""
    words = [*rng.choice(_GOOD, good), *rng.choice(_BAD, 4 - good)]
    words += [*rng.choice(_FILLER, rng.integers(2, 13))]
    return " ".join(rng.permutation(words))


def write_spans(path: Path, examples: Sequence[SpanExample]) -> Path:
    """Questions as parquet with SQuAD's columns, or as SQuAD's own JSON."""
    rows = [
        {
            **{name: getattr(one, name) for name in ("id", "title", "context", "question")},
            "answers_text": list(one.answers),
            "answer_starts": list(one.starts),
        }
        for one in examples
    ]
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows, schema=SQUAD_SCHEMA), path)
        return path
    articles = [
        {
            "title": row["title"],
            "paragraphs": [
                {
                    "context": row["context"],
                    "qas": [
                        {
                            "id": row["id"],
                            "question": row["question"],
                            "answers": [
                                {"text": text, "answer_start": start}
                                for text, start in zip(row["answers_text"], row["answer_starts"], strict=True)
                            ],
                        }
                    ],
                }
            ],
        }
        for row in rows
    ]
    path.write_text(json.dumps({"version": "1.1", "data": articles}))
    return path


_COLOURS = ("black", "white", "red", "green", "blue")
_ANIMALS = ("dog", "cat", "bird", "horse", "fish")


def toy_spans(*, rows: int = 64, validation_rows: int = 32, seed: int = 0) -> TaskData:
    """Questions after the one animal in a context; the answer is it and its colour."""
    rng = np.random.default_rng(seed)
    train, validation, test = (
        tuple(_toy_question(rng, number) for number in range(count))
        for count in (rows, validation_rows, validation_rows)
    )
    return TaskData(
        task=Task(
            name="animals",
            text=("question", "context"),
            label="answers_text",
            kind="span",
            metrics=("squad_em",),
        ),
        train=train,
        validation=validation,
        test=test,
        notes=(),
        fingerprint=f"toy-spans-{seed}",
    )


def _toy_question(rng: np.random.Generator, number: int) -> SpanExample:
    before, after = (" ".join(rng.choice(_FILLER, rng.integers(2, 9))) for _ in range(2))
    answer = f"{rng.choice(_COLOURS)} {rng.choice(_ANIMALS)}"
    return SpanExample(
        id=str(number),
        title=f"day {number // 4}",
        context=f"{before} {answer} {after}.",
        question="what did you see?",
        answers=(answer,),
        starts=(len(before) + 1,),
    )


def config(**changes: Any) -> TrainConfig:
    """Three quick epochs."""
    return TrainConfig(**{"adapter_size": 4, "learning_rate": 1e-2, "epochs": 3, "batch_size": 8, **changes})


def training(backbone: Backbone, task: EncodedTask, **changes: Any) -> Training:
    """A training of `config`, not begun."""
    return Training(backbone, task, config(**changes), precision="fp32")


def bundle_config(backbone, train, *, pooling="cls"):
    """A bundle's config for a trained classifier of `toy_task`."""
    return BundleConfig(
        backbone=backbone.name,
        backbone_fingerprint=backbone.fingerprint,
        task="toy",
        kind="classification",
        text_columns=("text",),
        labels=("bad", "good"),
        pooling=pooling,
        max_tokens=MAX_TOKENS,
        train=train,
    )
