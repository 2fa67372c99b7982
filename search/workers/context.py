"""What all of a job's workers share, and how a worker opens it."""

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import ray

from pipelines.method import Method, adopt, find_method
from search.local.private import own_folder
from search.storage import Storage
from search.wire import close_to_others

if TYPE_CHECKING:  # torch takes seconds to import: the driver's command line does without
    from pipelines.config import Config
    from pipelines.encoder.backbone import Backbone
    from pipelines.encoder.prefix import PrefixCache
    from pipelines.encoder.sharing import SharedBackbone
    from pipelines.tasks.encoded import EncodedTask
    from pipelines.towers.vectors import WordVectors

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerContext:
    """What all of a job's workers share.

    Attributes:
        backbone: in Ray's object store, whose memory all workers of a machine share.
        tasks: encoded tasks in Ray's object store, by name.
        threads: torch's, for one trial; None on a GPU.
        cache: of outputs of layers that nothing trains, in 10^9 bytes.
        compiles: whether trials on a GPU go by compiled kernels, where they can.
        vectors: word vectors in Ray's object store, by name.
        folds: how many models a trial trains.
        methods: the job's rows of the table; a worker may lack one that another package registered.
    """

    job: str
    storage: Storage
    backbone: "ray.ObjectRef[SharedBackbone]"
    tasks: Mapping[str, "ray.ObjectRef[EncodedTask]"]
    pooling: str
    precision: str
    threads: int | None
    gpu: bool
    cache: float
    vectors: "Mapping[str, ray.ObjectRef[WordVectors]]" = field(default_factory=dict)
    methods: tuple[Method, ...] = ()
    compiles: bool = False
    folds: int = 1

    def vectors_for(self, config: "Config") -> "dict[str, WordVectors]":
        """Those word vectors that a configuration reads."""
        used = find_method(config.method).vectors_of(config)
        return {name: ray.get(self.vectors[name]) for name in used if name in self.vectors}


def open_backbone(context: WorkerContext) -> "Backbone":
    """The job's backbone on this worker's device, torch set to the worker's share of the machine."""
    import torch

    close_to_others()  # a cluster's node has unpacked the job, too
    adopt(context.methods)
    if context.threads is not None:
        torch.set_num_threads(context.threads)
    shared: SharedBackbone = ray.get(context.backbone)
    backbone = shared.open()
    if context.gpu:
        backbone.model.to("cuda")
    return backbone


def open_cache(context: WorkerContext) -> "PrefixCache | None":
    """Where outputs of layers that nothing trains are kept: in the storage, or on this machine beside it."""
    from pipelines.encoder.prefix import PrefixCache

    if not context.cache:
        return None
    if context.storage.is_folder:
        return PrefixCache(context.storage.path("cache"), context.cache)
    try:
        return PrefixCache(own_folder("cache"), context.cache)
    except OSError as error:  # slower, not wrong
        log.warning("nothing is cached on this machine: %s", error)
        return None


def keep_kernels(context: WorkerContext) -> bool:
    """Whether trials on this worker's GPU go by compiled kernels.

    These are kept for the next process, and are code: in a folder that only this user can write to, beside
    the storage's other caches, or else on this machine. Within it Triton tells kernels apart by their source,
    their shapes and its own version, and `KernelFiles` damaged ones from whole.
    """
    if not (context.gpu and context.compiles):
        return False
    import torch

    made_by = f"{torch.__version__} {torch.cuda.get_device_name()} {torch.cuda.get_device_capability()}"
    name = f"kernels-{hashlib.sha256(made_by.encode()).hexdigest()[:12]}"
    folder = None
    if context.storage.is_folder:
        try:
            parent = context.storage.path("cache")
            parent.mkdir(parents=True, exist_ok=True)
            folder = own_folder(name, parent)
        except OSError as error:
            log.warning("compiled kernels are kept on this machine, not in the storage: %s", error)
    if folder is None:
        try:
            folder = own_folder(name)
        except OSError as error:  # no folder that others can write to will do
            log.warning("trials go without compiled kernels on this machine, slower: %s", error)
            return False
    os.environ["TRITON_CACHE_DIR"] = str(folder)
    os.environ["TRITON_CACHE_MANAGER"] = "pipelines.packs.kernels.kept:KernelFiles"
    return True
