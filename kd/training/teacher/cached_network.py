"""Outputs of a network that is not trained, per batch: from the cache, or computed in chunks and then cached."""

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from kd.inference.choice import choose, open_engine
from kd.inference.engine import Asked, Engine, torch_record
from kd.inference.record import EVENT as ENGINE
from kd.inference.record import TORCH, EngineRecord, recorded
from kd.methods import TeacherOutputs
from kd.store.row_files import Index, RowFormat
from kd.store.runs import Run, Store
from kd.timing import Stopwatch
from kd.training.batches import Batch, Shown, TrainBatches
from kd.training.teacher.cache import OutputCache, cache_dir
from kd.training.teacher.pending import PendingBatch
from kd.training.teacher.rows import chunk_size, required_rows

LOOKAHEAD = 4  # chunks of images that may wait until the images without a cached row fill a chunk
HALF_MAX = 65504.0  # the largest float16
PATIENCE = 60.0  # seconds to wait for rows that another process computes, before this one computes them too
POLL = 0.02  # seconds between two looks for them
BatchOutputs = tuple[Batch, TeacherOutputs]
Places = list[tuple[PendingBatch, list[int]]]


class CachedNetwork:
    """Outputs of a network that is not trained, for every batch of a run's training.

    Outputs are read from a cache, or computed and written to it: the same rows, up to rounding that depends on their
    position in a chunk. Torch computes them until the cache is enabled, then the fastest engine that is exact enough.
    key: everything that a row depends on besides its view and its image. formats: of a row, by output. owner: the run
    whose folder the cache lies in. event: the name under which `usage` is logged. mixed: whether the network is
    computed in the precision of the training, or in float32. networks: how many there are, each for images of its own.
    names: of what an engine is asked for, by output. clock: seconds of this process, of reading and writing rows,
    waiting for those of other processes, loading networks and computing.
    """

    event: str
    mixed = True
    networks = 1

    def __init__(self, owner: Run, key: Mapping[str, Any], formats: Mapping[str, RowFormat], fabric: Fabric,
                 log: Callable[..., None] = lambda *_, **__: None, names: Mapping[str, str] | None = None) -> None:
        self.owner, self.key, self.formats, self.fabric, self.log = owner, dict(key), formats, fabric, log
        self._names = names or {name: name for name in formats}
        self.chunk = chunk_size(fabric.device.type)
        self.cache = OutputCache(cache_dir(owner, key), formats, self.log_usage)
        self.computed, self.clock = 0, Stopwatch()
        precision = key["precision"]
        self._asked = Asked((*self._names.values(),), self.chunk, key["size"], 0, precision)
        self._record = torch_record(precision)
        self._engines: dict[int, Engine] = {}

    @abstractmethod
    def network(self, number: int) -> nn.Module:
        """One of the networks, from 0, in eval mode on its device."""

    def architecture(self) -> nn.Module:
        """A network of the same architecture, maybe on the meta device."""
        return self.network(0)

    def compute(self, images: Tensor, network: int) -> Mapping[str, Tensor]:
        """Outputs of one of the networks, from 0, for a chunk of images [chunk, 3, S, S], by name."""
        found = self._open(network)(images)
        return {name: found[asked] for name, asked in self._names.items()}

    def network_of(self, numbers: Index) -> Index:
        """Which network's outputs these images of the split [B] have [B], from 0."""
        return np.zeros_like(numbers)

    def enable_cache(self, store: Store, student: Run, shown: Shown) -> None:
        """Read and write the cache from now on. student: the run in training, on these images of the split."""
        def required() -> Iterator[Index]:
            return required_rows(shown, student.spec.views, self.key["images"])

        earlier = recorded(student, self.event) if student.resume_state.exists() else None
        self._asked = replace(self._asked, images=sum(map(len, required())))
        with self.clock("loading"):
            self._take(choose(self.architecture(), lambda: self.network(0), self._asked, self.fabric.device,
                              store.paths, earlier))
        self.cache.enable(store, student, self.key, required())
        if (self.cache.misses or self.cache.disabled) and (refused := self._refused()):
            self._take(refused)  # all rows of a run are by one engine
            self.cache.enable(store, student, self.key, required())
        self.log(ENGINE, part=self.event, **self._record.to_json())

    def _refused(self) -> EngineRecord | None:
        """The engine in place of the chosen one, where one of the networks cannot be had in that."""
        if self._record.engine == TORCH:
            return None
        opened = [self._open(number).record for number in range(self.networks)]
        return next((record for record in opened if not record.same_as(self._record)), None)

    def _open(self, number: int) -> Engine:
        """The engine of one of the networks, opened when first needed."""
        if number not in self._engines:
            with self.clock("loading"):
                self._engines[number] = open_engine(self.network(number), self._record, self._asked)
        return self._engines[number]

    def _take(self, record: EngineRecord) -> None:
        """Compute rows by this engine, and cache them where its rows lie."""
        self._record, self._engines = record, {}
        self.key = {**{name: value for name, value in self.key.items() if name != "engine"}, **record.key}
        self.cache = OutputCache(cache_dir(self.owner, self.key), self.formats, self.log_usage)

    def usage(self) -> dict[str, Any]:
        """hits, misses, bytes and disabled, as `OutputCache`; computed: images that the network has processed."""
        return {**self.cache.usage(), "computed": self.computed}

    def log_usage(self) -> None:
        """Log `usage`."""
        self.log(self.event, **self.usage())

    def batches(self, batches: TrainBatches, epoch: int,
                source: Iterator[BatchOutputs] | None = None) -> Iterator[BatchOutputs]:
        """The batches of an epoch in their order, each with its outputs. source: yields them with the outputs of
        another network.

        Some batches are fetched ahead, so that the network computes full chunks. While outputs are cached it also
        computes the images that are in no batch of this epoch: for other seeds, others are left out. What another
        process computes is waited for, while rows are computed that are needed later.
        """
        pending: deque[PendingBatch] = deque()
        ahead = batches.ahead(epoch, self.chunk, self.fabric.device)
        for batch, others in source or without_outputs(batches, epoch, self.fabric.device):
            pending.append(self._lookup(batch, others))
            ahead.shown += len(batch.numbers)
            full = sum(len(one.index) for one in pending) >= LOOKAHEAD * self.chunk * self.networks
            self._fill_missing(pending, partial=full)
            if full:
                self._wait_for(pending[0], ahead)
            while pending and not pending[0].is_missing:
                yield self.complete(pending.popleft())
        left_out = None if self.cache.disabled else batches.rest(epoch, self.fabric.device)
        self._fill_missing([*pending, self._lookup(left_out)] if left_out else pending, partial=True)
        for one in pending:
            self._wait_for(one)
            yield self.complete(one)

    def complete(self, pending: PendingBatch) -> BatchOutputs:
        """A batch none of whose rows is missing, with its outputs."""
        return pending.batch, {**pending.others, **pending.outputs()}

    def outputs_of(self, batch: Batch) -> dict[str, Tensor]:
        """Outputs for one batch alone."""
        pending = self._lookup(batch)
        self._fill_missing([pending], partial=True)
        self._wait_for(pending)
        return pending.outputs()

    def _lookup(self, batch: Batch, others: TeacherOutputs | None = None) -> PendingBatch:
        """A batch with its cached rows, on its device."""
        index = batch.view * self.key["images"] + batch.numbers
        with self.clock("rows"):
            rows, hit = self.cache.read(index)
        known = {name: torch.from_numpy(values).to(self.fabric.device) for name, values in rows.items()}
        missing, whose = np.flatnonzero(~hit), self.network_of(batch.numbers)
        places = [missing[whose[missing] == network].tolist() for network in range(self.networks)]
        return PendingBatch(batch, index, known, places, others or {})

    def _fill_missing(self, pending: Collection[PendingBatch], partial: bool) -> None:
        """Compute missing rows that no other process computes, a full chunk at a time; partial: also those that do not
        fill the last chunk."""
        for network in range(self.networks):
            while chosen := self._claim_chunk(pending, network, partial):
                try:
                    self._forward_chunk(chosen, network)
                finally:
                    self._release(chosen)

    def _claim_chunk(self, pending: Collection[PendingBatch], network: int, partial: bool) -> Places:
        """Claimed missing places of a network, by batch: a chunk, or fewer if partial, or none."""
        chosen: Places = []
        if not partial and sum(len(one.missing[network]) for one in pending) < self.chunk:
            return chosen
        free = self.chunk
        for one in pending:
            if free and (places := self._claim(one, network, free)):
                chosen.append((one, places))
                free -= len(places)
        if free and not partial:
            self._release(chosen)
            return []
        return chosen

    def _claim(self, one: PendingBatch, network: int, most: int) -> list[int]:
        """Claim missing places of a batch, at most so many; those written meanwhile are missing no more."""
        if not (places := one.missing[network]):
            return []
        claimed = [places[place] for place in self.cache.claim(one.index[places], most)]
        with self.clock("rows"):
            rows, hit = self.cache.read(one.index[places])  # after the claim, so that nothing is written in between
        if found := [place for place, there in zip(places, hit.tolist(), strict=True) if there]:
            one.take(found, {name: torch.from_numpy(values[hit]) for name, values in rows.items()})
            self.cache.release(one.index[[place for place in claimed if place in found]])
        return [place for place in claimed if place not in found]

    def _release(self, chosen: Places) -> None:
        for one, places in chosen:
            self.cache.release(one.index[places])

    def _wait_for(self, one: PendingBatch, ahead: Iterable[Batch] = ()) -> None:
        """Have all rows of a batch. While other processes compute some, compute others that are needed later."""
        until = time.monotonic() + PATIENCE
        while one.is_missing:
            if not self._fill_ahead(ahead):
                with self.clock("waiting"):
                    time.sleep(POLL)
            self._fill_missing([one], partial=True)  # also what a process that has ended had claimed
            if one.is_missing and time.monotonic() > until:
                self._compute(one)

    def _fill_ahead(self, ahead: Iterable[Batch]) -> bool:
        """Compute a chunk of rows that are needed later and that no other process computes; whether there were any."""
        before, most = self.computed, LOOKAHEAD * self.networks
        some: list[PendingBatch] = []
        for batch in ahead:
            some.append(self._lookup(batch))
            self._fill_missing(some, partial=len(some) == most)
            if self.computed > before:
                return True
            if len(some) == most:
                some = []
        self._fill_missing(some, partial=True)
        return self.computed > before

    def _compute(self, one: PendingBatch) -> None:
        """Compute rows whatever others do: they are hung, or slow."""
        for network in range(self.networks):
            while places := one.missing[network][:self.chunk]:
                self._forward_chunk([(one, places)], network)

    def _forward_chunk(self, chosen: Places, network: int) -> None:
        """One forward pass of a network for these places of pending batches, a chunk of them at most."""
        images = torch.cat([one.batch.images[places] for one, places in chosen])
        with self.clock("computing"):
            computed = self._chunk(images, network)
        lengths = [len(places) for _, places in chosen]
        by_batch = {name: rows.split(lengths) for name, rows in computed.items()}
        for number, (one, places) in enumerate(chosen):
            one.take(places, {name: rows[number] for name, rows in by_batch.items()})
        self.computed += sum(lengths)
        if not self.cache.disabled:
            index = np.concatenate([one.index[places] for one, places in chosen])
            with self.clock("rows"):
                self.cache.write(index, {name: rows.cpu().numpy() for name, rows in computed.items()})

    def _chunk(self, images: Tensor, network: int) -> dict[str, Tensor]:
        """Outputs of at most a chunk of images [b, 3, S, S] as rows [b, …] in their cached format."""
        filler = images[:1].expand(self.chunk - len(images), *images.shape[1:])
        full = torch.cat([images, filler]).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), self.fabric.autocast() if self.mixed else nullcontext():
            computed = self.compute(full, network)
        return {name: _as_rows(computed[name][:len(images)].float(), row) for name, row in self.formats.items()}


def without_outputs(batches: TrainBatches, epoch: int, device: torch.device) -> Iterator[BatchOutputs]:
    """The batches of an epoch, on `device`."""
    return ((batch, {}) for batch in batches.epoch(epoch, device))


def _as_rows(values: Tensor, row: RowFormat) -> Tensor:
    if row.dtype == "float32":
        return values.contiguous()
    return values.permute(0, 2, 3, 1).clamp(-HALF_MAX, HALF_MAX).half().contiguous()
