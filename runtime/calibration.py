"""Measuring what tiles, items and merges cost on a device."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from attnloom.compiler.calibrated import model_of
from attnloom.compiler.layout import FULL, BlockLayout
from attnloom.compiler.model import CostModel
from attnloom.compiler.parts import HeadLayout, Part
from attnloom.compiler.tiles import TileRows
from attnloom.runtime.attention import attention
from attnloom.runtime.plan import Plan

HEAD_DIM = 64
_TILE = 128
_FEW, _MANY = 4, 16


def device_name(device: torch.device | str) -> str:
    """What a device is called, the same for all of its kind."""
    found = torch.device(device)
    if found.type == "cuda":
        return torch.cuda.get_device_name(found)
    return found.type


def model_for(device: torch.device | str) -> CostModel:
    """The cost model of a device: as it was measured, or a large GPU."""
    found = torch.device(device)
    if found.type == "cuda" and not torch.cuda.is_available():
        return CostModel()
    return model_of(device_name(found)) or CostModel()


def calibrate(
    device: torch.device | str = "cpu",
    *,
    length: int | None = None,
    rounds: int = 9,
    note: Callable[[str], None] | None = None,
) -> CostModel:
    """Measure the cost model of a device; takes some seconds.

    Each cost is the difference between two runs that differ in one thing: how many tiles a row
    has, whether they have masks, are gathered, are in another order, or are split.

    Args:
        device: where.
        length: tokens of the sequences; by the device when not given.
        rounds: runs of each, of which the median counts.
        note: is told what is being measured.

    Raises:
        ValueError: the length is not a multiple of 128, or has fewer than 16 tiles.
    """
    found = torch.device(device)
    length = length or (16384 if found.type == "cuda" else 4096)
    if length % _TILE or length < _TILE * _MANY:
        raise ValueError(
            f"length must be a multiple of {_TILE} from {_TILE * _MANY} on, got {length}"
        )
    bench = _Bench(found, length, rounds, note or (lambda _: None))
    rows = length // _TILE
    few, many = bench.seconds("few tiles", _FEW), bench.seconds("many tiles", _MANY)
    heads = bench.heads
    tile = max((many - few) / (heads * rows * (_MANY - _FEW)), 1e-12)

    def extra(name: str, change: Callable[[Part], Part], count: int) -> float:
        """What something costs more than plain full tiles, in tiles."""
        return (bench.seconds(name, _MANY, change) - many) / tile / (heads * count)

    masked = extra("masks", _with_masks, rows * _MANY)
    gathered = extra("gathered tiles", _gathered, rows * _MANY)
    reorder = extra("another order", _reordered, rows)
    split = extra("split rows", _split, rows * (_MANY // _FEW))
    item = few / tile / (heads * rows) - _FEW
    dense = bench.dense_seconds() / tile / (heads * rows**2)
    processors = (
        torch.cuda.get_device_properties(found).multi_processor_count
        if found.type == "cuda"
        else torch.get_num_threads()
    )
    default = CostModel()
    return replace(
        default,
        name=device_name(found),
        processors=processors,
        partial=_rounded(1 + max(masked, 0.0)),
        gathered=_rounded(1 + max(gathered, 0.0)),
        item=_rounded(max(item, 0.0)),
        merge=_rounded(max(split - max(item, 0.0), 0.0)),
        reorder=_rounded(max(reorder, 0.0)),
        dense=_rounded(dense),
        seconds_per_tile=float(f"{tile * processors:.3g}"),
    )


def _rounded(value: float) -> float:
    return round(value, 3)


@dataclass
class _Bench:
    """Runs plans on random tensors."""

    device: torch.device
    length: int
    rounds: int
    note: Callable[[str], None]

    def __post_init__(self) -> None:
        is_gpu = self.device.type == "cuda"
        self.heads = 16 if is_gpu else 2
        dtype = torch.bfloat16 if is_gpu else torch.float32
        shape = (3, 1, self.heads, self.length, HEAD_DIM)
        generator = torch.Generator().manual_seed(0)
        tensors = torch.randn(shape, generator=generator).to(self.device, dtype)
        self.query, self.key, self.value = tensors.unbind()

    def seconds(
        self, name: str, tiles: int, change: Callable[[Part], Part] = lambda part: part
    ) -> float:
        """The time of a plan with so many tiles in each row."""
        self.note(name)
        part = change(Part.of(_rows_of_full_tiles(self.length, tiles)))
        layout = HeadLayout(self.length, self.length, _TILE, _TILE, (part,))
        chosen = np.zeros((1, self.heads), dtype=np.int64)
        plan = Plan.from_layouts([layout], chosen, device=self.device)
        return self._median(lambda: attention(self.query, self.key, self.value, plan))

    def dense_seconds(self) -> float:
        """The time of dense attention."""
        self.note("dense attention")
        attend = torch.nn.functional.scaled_dot_product_attention
        return self._median(lambda: attend(self.query, self.key, self.value))

    def _median(self, run: Callable[[], object]) -> float:
        with torch.no_grad():
            for _ in range(2):
                run()
            times = []
            for _ in range(self.rounds):
                self._wait()
                start = time.perf_counter()
                run()
                self._wait()
                times.append(time.perf_counter() - start)
        return statistics.median(times)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _rows_of_full_tiles(length: int, tiles: int) -> BlockLayout:
    """A band of full tiles around the ring."""
    rows = length // _TILE
    columns = np.sort((np.arange(rows)[:, None] + np.arange(tiles)) % rows, axis=1)
    return BlockLayout(
        length, length, _TILE, _TILE,
        np.arange(rows + 1, dtype=np.int64) * tiles,
        columns.reshape(-1).astype(np.int32),
        np.full(rows * tiles, FULL, dtype=np.int32),
        np.zeros((0, _TILE, _TILE // 8), dtype=np.uint8),
    )  # fmt: skip


def _with_masks(part: Part) -> Part:
    """Every tile with a mask: most of its pairs, in no order."""
    bits = np.random.default_rng(0).random((1, _TILE, _TILE)) < 0.75
    masks = np.packbits(bits, axis=-1, bitorder="little")
    turned = np.packbits(bits.transpose(0, 2, 1), axis=-1, bitorder="little")
    ids = np.zeros_like(part.forward.mask_ids)
    return replace(
        part,
        forward=replace(part.forward, mask_ids=ids, masks=masks),
        transposed=replace(part.transposed, mask_ids=ids, masks=turned),
    )


def _gathered(part: Part) -> Part:
    """Every tile with its places listed."""

    def listed(rows: TileRows) -> TileRows:
        places = np.arange(rows.num_columns, dtype=np.int32).reshape(-1, _TILE)
        return replace(rows, columns=(-1 - rows.columns).astype(np.int32), gathered=places)

    return replace(part, forward=listed(part.forward), transposed=listed(part.transposed))


def _reordered(part: Part) -> Part:
    """Every row of tiles with positions from all over the sequence."""
    order = np.arange(part.forward.num_rows, dtype=np.int32).reshape(_TILE, -1).T.reshape(-1)
    return replace(part, order=np.ascontiguousarray(order), order_name="residues")


def _split(part: Part) -> Part:
    """Every row in pieces of a few tiles."""

    def cut(rows: TileRows) -> TileRows:
        pieces = _MANY // _FEW
        row = np.repeat(np.arange(rows.num_regular), pieces)
        start = np.arange(len(row)) * _FEW
        items = np.stack([row, start, start + _FEW, np.arange(len(row))], axis=1)
        first = np.arange(rows.num_regular) * pieces
        merges = np.stack([np.arange(rows.num_regular), first, np.full_like(first, pieces)], axis=1)
        return replace(rows, items=items.astype(np.int32), merges=merges.astype(np.int32))

    return replace(part, forward=cut(part.forward), transposed=cut(part.transposed))
