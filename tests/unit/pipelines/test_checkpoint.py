import json
import pickle
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.checkpoint import dump_state, load_state
from pipelines.config import TrainConfig
from pipelines.epochs import TrainingState
from pipelines.errors import CheckpointError
from pipelines.results import EpochResult

EPOCHS = (
    EpochResult(
        epoch=1,
        train_loss=0.1 + 0.2,  # no short decimal
        scores={"accuracy": 1 / 3, "f1": 0.0},
        score=1 / 3,
        seconds=1.5,
        finished_at=1.7e9,
    ),
    EpochResult(
        epoch=2,
        train_loss=1e-300,
        scores={"accuracy": 2 / 3, "f1": 1.0},
        score=2 / 3,
        seconds=0.25,
        finished_at=1.7e9 + 0.125,
    ),
)
STATE = TrainingState(
    config=TrainConfig(adapter_size=2, learning_rate=3e-5, epochs=5, dropout=0.1, seed=2**40),
    epochs=EPOCHS,
    tensors={
        "last.head.weight": torch.tensor([[0.1, -0.0], [1e-45, 3e38]]),
        "best.head.weight": torch.arange(4.0).reshape(2, 2).T,  # not contiguous
        "adam.step.head.weight": torch.tensor(7.0),
        "adam.exp_avg.head.weight": torch.zeros(2, 2),
    },
)
DATA = dump_state(STATE)
HEADER_ENDS = 8 + int.from_bytes(DATA[:8], "little")


def same(left, right):
    return (
        left.config == right.config
        and left.epochs == right.epochs
        and left.tensors.keys() == right.tensors.keys()
        and all(
            torch.equal(tensor.view(torch.int32), right.tensors[name].contiguous().view(torch.int32))
            for name, tensor in left.tensors.items()
        )
    )


def test_a_state_comes_back_bit_for_bit():
    assert same(load_state(DATA), STATE)


@pytest.mark.parametrize("changes", [{"epochs": ()}, {"tensors": {}}, {"epochs": (), "tensors": {}}])
def test_a_state_without_results_or_tensors_comes_back_too(changes):
    state = replace(STATE, **changes)
    assert same(load_state(dump_state(state)), state)


@settings(max_examples=300)
@given(st.integers(0, len(DATA) - 1))
def test_a_truncated_checkpoint_is_refused(end):
    with pytest.raises(CheckpointError, match=r"cut short|checksum"):
        load_state(DATA[:end])


@pytest.mark.integration
@settings(max_examples=500)
@given(st.integers(0, len(DATA) - 1), st.integers(0, 7))
def test_a_flipped_bit_is_refused(place, bit):
    damaged = bytearray(DATA)
    damaged[place] ^= 1 << bit
    with pytest.raises(CheckpointError):
        load_state(bytes(damaged))


def test_another_letter_anywhere_in_the_header_is_refused():
    for place in range(HEADER_ENDS):
        for letter in b'x1 "':
            damaged = bytearray(DATA)
            damaged[place] = letter
            if damaged != DATA:
                with pytest.raises(CheckpointError):
                    load_state(bytes(damaged))


@pytest.mark.parametrize("extra", [b"\0", b"more"])
def test_bytes_after_the_end_are_refused(extra):
    with pytest.raises(CheckpointError):
        load_state(DATA + extra)


def rewritten(edit):
    """The checkpoint with its header and its tensors edited, as a whole safetensors file again."""
    header = json.loads(DATA[8:HEADER_ENDS])["__metadata__"]
    tensors = safetensors.torch.load(DATA)
    edit(header, tensors)
    return safetensors.torch.save(tensors, header)


def better_score(header, _):
    header["state"] = header["state"].replace("0.6666666666666666", "0.9666666666666666")


def other_learning_rate(header, _):
    header["state"] = header["state"].replace("3e-05", "3e-04")


def other_value(_, tensors):
    tensors["best.head.weight"][0, 0] += 1


def other_name(_, tensors):
    tensors["best.head.bias"] = tensors.pop("best.head.weight")


def other_type(_, tensors):
    tensors["best.head.weight"] = tensors["best.head.weight"].view(torch.int32)


def half_precision(_, tensors):
    tensors["best.head.weight"] = tensors["best.head.weight"].bfloat16()


def other_shape(_, tensors):
    tensors["best.head.weight"] = tensors["best.head.weight"].reshape(4)


def no_checksum(header, _):
    del header["sha256"]


def no_state(header, _):
    del header["state"]


@pytest.mark.parametrize(
    "edit",
    [
        better_score,
        other_learning_rate,
        other_value,
        other_name,
        other_type,
        half_precision,
        other_shape,
        no_checksum,
        no_state,
    ],
)
def test_a_checkpoint_that_was_edited_is_refused(edit):
    assert same(load_state(rewritten(lambda *_: None)), STATE)
    with pytest.raises(CheckpointError):
        load_state(rewritten(edit))


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\0" * 8, b"\xff" * 100, safetensors.torch.save({"a": torch.zeros(2)})]
)
def test_something_else_altogether_is_refused(data):
    with pytest.raises(CheckpointError, match="not a checkpoint of adaptune"):
        load_state(data)


class Trap:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


def test_nothing_is_unpickled(tmp_path):
    trace = tmp_path / "unpickled"
    with pytest.raises(CheckpointError):
        load_state(pickle.dumps(Trap(trace)))
    torch.save({"trap": Trap(trace)}, tmp_path / "state.pt")
    with pytest.raises(CheckpointError):
        load_state((tmp_path / "state.pt").read_bytes())
    assert not trace.exists()


def test_a_checkpoint_of_another_version_is_refused(monkeypatch):
    """A field that this version does not know, under a checksum that is right."""
    monkeypatch.setattr(TrainConfig, "to_dict", lambda _: {"method": "adapter", "rank": 4})
    data = dump_state(STATE)
    with pytest.raises(CheckpointError, match=r"another version of adaptune .*rank"):
        load_state(data)
