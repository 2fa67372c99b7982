"""The backbone: a frozen pre-trained text encoder, its tokenizer and its fingerprint."""

import copy
import hashlib
import json
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME
from transformers.utils.hub import cached_file
from transformers.utils.peft_utils import ADAPTER_CONFIG_NAME

from pipelines.encoder.architectures import ARCHITECTURES, Architecture, norm_paths
from pipelines.errors import InputError
from pipelines.locations import resolve_location

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Case, accents, digits, punctuation, two scripts: tokenizers that treat any of them differently differ here.
_TOKENIZER_PROBE = "Don't PANIC: naïve Ünïcode, 3.14 e-mails & ½ 東京 tokens?! #adapter_size\t(2019)"
_UNHASHED_CONFIG = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")
_LEAST_VOCABULARY = 10  # tokens beside the special ones
_LAYERS = range(1, 1001)
_SIZES = {"num_hidden_layers": _LAYERS, "n_layers": _LAYERS, "inner_group_num": _LAYERS}
_SIZES["num_labels"] = range(1_000_001)
_OR_NONE = {
    "_raise_exceptions_for_missing_entries": False,
    "_raise_exceptions_for_connection_errors": False,
}
_quiet_lock = threading.Lock()


@dataclass(frozen=True)
class Backbone:
    """A loaded encoder. Its parameters never change: trials work on copies (`packs.model.build_model`).

    Attributes:
        name: as the user wrote it: a Hub id, a folder or package:NAME/PATH.
        model: in evaluation mode, all parameters frozen, fp32.
        architecture: where its adapters and norms are.
        has_pooler: whether the checkpoint brought a pooler (a fresh random one is of no use).
        fingerprint: SHA-256 over names, shapes and bytes of the tensors, the config and the tokenizer.
        pad_id: the tokenizer's padding token.
        tokenizer: None in a process that only trains (pipelines.encoder.sharing).
    """

    name: str
    model: nn.Module
    tokenizer: Any
    architecture: Architecture
    has_pooler: bool
    fingerprint: str
    pad_id: int = 0

    def stored(self, precision: str) -> "Backbone":
        """The backbone as it computes in a precision: for bf16 with its matrices in bf16, norms in fp32."""
        if precision != "bf16" or next(self._matrices()).dtype == torch.bfloat16:
            return self
        if "bf16" not in self._stored:
            rounded = {id(p): nn.Parameter(p.to(torch.bfloat16), False) for p in self._matrices()}
            kept = {id(t): t for t in (*self.model.parameters(), *self.model.buffers())}
            self._stored["bf16"] = replace(self, model=copy.deepcopy(self.model, kept | rounded))
        return self._stored["bf16"]

    def _matrices(self) -> Iterator[nn.Parameter]:
        norms = norm_paths(self.architecture, self.model)
        for name, parameter in self.model.named_parameters():
            if name.rpartition(".")[0] not in norms:
                yield parameter

    @cached_property
    def _stored(self) -> "dict[str, Backbone]":
        return {}

    @property
    def width(self) -> int:
        """The hidden size d."""
        return int(self.model.config.hidden_size)  # type: ignore[union-attr, arg-type]

    @property
    def depth(self) -> int:
        """How many layers a text goes through."""
        return int(self.model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]

    @property
    def parameters(self) -> int:
        """How many parameters the frozen encoder has, its pooler included if the checkpoint has one."""
        return sum(p.numel() for p in self.model.parameters())

    def pooling(self, wanted: str) -> str:
        """The pooling to use: `auto` is the frozen pooler if there is one, else cls.

        Raises:
            InputError: the pooler is wanted and the checkpoint has none.
        """
        if wanted == "auto":
            return "pooler" if self.has_pooler else "cls"
        if wanted == "pooler" and not self.has_pooler:
            raise InputError(
                "pooling", wanted, f"backbone {self.name!r} has no trained pooler", "Use auto, cls or mean."
            )
        return wanted


def read_config(name: str) -> PretrainedConfig:
    """Read a backbone's configuration, no weights.

    Raises:
        InputError: it cannot be found or read, or its architecture is not one of ours.
    """
    location = resolve_location(name, key="backbone")
    try:
        with _quiet():
            raw_config, _ = PretrainedConfig.get_config_dict(location)
            for key, sizes in _SIZES.items():  # before transformers builds as many
                if isinstance(count := raw_config.get(key), int) and count not in sizes:
                    rule = f"its config.json has {key} {count}, and not {sizes[0]} to {sizes[-1]}"
                    raise ValueError(rule)
            config: PretrainedConfig = AutoConfig.from_pretrained(location, trust_remote_code=False)
    except Exception as error:  # transformers and huggingface_hub raise many types here
        raise _not_loadable(name, error) from error
    if config.model_type not in ARCHITECTURES:
        raise InputError(
            "backbone",
            name,
            f"its architecture {config.model_type!r} is not supported",
            f"Supported: {', '.join(sorted(ARCHITECTURES))}.",
        )
    return config


def load_backbone(name: str) -> Backbone:
    """Load an encoder and its tokenizer: safetensors weights only, no code from the checkpoint.

    Raises:
        InputError: as `read_config`, or the weights or the tokenizer cannot be read.
    """
    config = read_config(name)
    location = resolve_location(name, key="backbone")
    try:
        with _quiet():
            raw_config, _ = PretrainedConfig.get_config_dict(location)
            _check_files(location, config)
            # A name such as ORG/KERNEL would be fetched and run. Without any, transformers takes its own.
            config._attn_implementation = None
            model, info = AutoModel.from_pretrained(
                location,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
            tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False)
            has_pooler = _settle_pooler(name, model, info["missing_keys"])
            model.requires_grad_(False)
            model.eval()
            _check_tokenizer(name, tokenizer, model)
            _check_numbers(name, model, tokenizer)
            tokenizer.model_max_length = _most_tokens(tokenizer, model)
            return Backbone(
                name=name,
                model=model,
                tokenizer=tokenizer,
                architecture=ARCHITECTURES[config.model_type],
                has_pooler=has_pooler,
                fingerprint=_fingerprint(model, raw_config, tokenizer),
                pad_id=int(tokenizer.pad_token_id),
            )
    except InputError:
        raise
    except Exception as error:  # transformers and safetensors raise many types here
        raise _not_loadable(name, error) from error


def _check_files(location: str, config: PretrainedConfig) -> None:
    """Raise ValueError where more than the checkpoint's own safetensors would be read: files that a config
    or an index of shards names and that would be unpickled, or an adapter, which only a transformers with
    peft beside it follows.
    """
    if named := getattr(config, "transformers_weights", None):
        raise ValueError(
            f"its config.json names {named!r} for its weights, and only model.safetensors is read"
        )
    if cached_file(location, ADAPTER_CONFIG_NAME, **_OR_NONE) is not None:
        raise ValueError(f"it has an adapter of its own, {ADAPTER_CONFIG_NAME}: merge it, or take it out")
    index = cached_file(location, SAFE_WEIGHTS_INDEX_NAME, **_OR_NONE)
    if index is None:
        return
    shards = json.loads(Path(index).read_bytes())["weight_map"].values()
    for shard in sorted({str(shard) for shard in shards}):
        if not shard.endswith(".safetensors") or Path(shard).name != shard:
            raise ValueError(
                f"{SAFE_WEIGHTS_INDEX_NAME} names {shard!r}, which is no safetensors file beside it"
            )


def _settle_pooler(name: str, model: Any, missing: Collection[str]) -> bool:
    """Whether the checkpoint brought a pooler; one that it did not bring is taken off, being random.

    Raises:
        InputError: the checkpoint lacks anything else.
    """
    if lacking := {key for key in missing if not _is_pooler(key)}:
        raise InputError(
            "backbone",
            name,
            f"its weights lack {len(lacking)} tensors of a {model.config.model_type} encoder, "
            f"e.g. {min(lacking)}",
            "Give a complete encoder checkpoint.",
        )
    has_pooler = any(_is_pooler(key) for key in model.state_dict()) and not any(map(_is_pooler, missing))
    if not has_pooler and getattr(model, "pooler", None) is not None:
        model.pooler = None
    return has_pooler


def _check_numbers(name: str, model: nn.Module, tokenizer: Any) -> None:
    """Refuse weights that are not finite, and an encoder that cannot read a short text."""
    fix = "Get the checkpoint again, or take another: no training mends it."
    for key, parameter in model.named_parameters():
        if not parameter.sum().isfinite() and not parameter.isfinite().all():  # a sum is quick
            bad = int((~parameter.isfinite()).sum())
            rule = f"its tensor {key} has {bad:,} of {parameter.numel():,} values that are NaN or infinite"
            raise InputError("backbone", name, rule, fix)
    tokens = torch.tensor([tokenizer("A short text.")["input_ids"]])
    with torch.inference_mode():
        states = model(input_ids=tokens, attention_mask=torch.ones_like(tokens))[0]
    if not states.isfinite().all():
        raise InputError("backbone", name, "what it makes of a short text is NaN or infinite", fix)


def _fingerprint(model: nn.Module, raw_config: dict[str, Any], tokenizer: Any) -> str:
    # The config as written, not as transformers completes it: its defaults change between versions.
    digest = hashlib.sha256()
    kept = {key: value for key, value in raw_config.items() if key not in _UNHASHED_CONFIG}
    digest.update(json.dumps(kept, sort_keys=True).encode())
    digest.update(json.dumps(sorted(tokenizer.get_vocab().items())).encode())
    for encoded in (
        tokenizer(_TOKENIZER_PROBE),
        tokenizer(_TOKENIZER_PROBE, "A pair.", truncation="longest_first", max_length=16),
    ):
        digest.update(json.dumps([encoded["input_ids"], encoded.get("token_type_ids")]).encode())
    for key, parameter in sorted(model.named_parameters()):
        digest.update(f"{key} {tuple(parameter.shape)} {parameter.dtype}".encode())
        digest.update(parameter.detach().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_tokenizer(name: str, tokenizer: Any, model: nn.Module) -> None:
    vocabulary = tokenizer.get_vocab()
    rows = len(token_table(model))
    if len(vocabulary) - len(tokenizer.all_special_tokens) < _LEAST_VOCABULARY:
        rule = "it has no tokenizer"  # transformers makes an empty one up
    elif tokenizer.pad_token_id is None:
        rule = "its tokenizer has no padding token"
    elif max(vocabulary.values()) >= rows:
        rule = f"its tokenizer counts to {max(vocabulary.values())}, but it has embeddings for {rows} tokens"
    else:
        return
    raise InputError("backbone", name, rule, "Put the tokenizer it was trained with beside its weights.")


def token_table(model: nn.Module) -> Tensor:
    """An encoder's embeddings of its tokens (tokens, d)."""
    embeddings: Any = cast("PreTrainedModel", model).get_input_embeddings()
    weight: Tensor = embeddings.weight
    return weight.detach()


def _most_tokens(tokenizer: Any, model: nn.Module) -> int:
    """How long a text may be: the encoder's positions count where the tokenizer's files do not tell."""
    limits = [int(tokenizer.model_max_length), int(model.config.max_position_embeddings)]  # type: ignore[union-attr, arg-type]
    positions = getattr(model.embeddings, "position_embeddings", None)
    if isinstance(positions, nn.Embedding):
        unused = 0 if positions.padding_idx is None else positions.padding_idx + 1  # RoBERTa's start there
        limits.append(positions.num_embeddings - unused)
    return min(limits)


def _is_pooler(key: str) -> bool:
    return key.startswith("pooler")


def _not_loadable(name: str, error: Exception) -> InputError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if sys.flags.optimize > 1 and "docstring" in reason:
        return InputError(
            "backbone",
            name,
            "cannot be loaded by a Python without docstrings (-OO, PYTHONOPTIMIZE=2): they are read",
            "Unset PYTHONOPTIMIZE, or set it to 1.",
        )
    return InputError(
        "backbone",
        name,
        f"cannot be loaded ({reason})",
        "Give a Hub id, a folder with config.json, model.safetensors and a tokenizer, or package:NAME/PATH.",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' progress bars and loading reports off the terminal, and put them back."""
    logging = transformers.logging
    with _quiet_lock:
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()
