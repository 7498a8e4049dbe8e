"""The keys and values of a growing sequence that are still needed, each in a slot."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from attnloom.runtime.modifiers import Modifiers
from attnloom.runtime.row_attention import attention_rows
from attnloom.runtime.row_reader import Ints, RowReader

_LEAST_ROOM = 16


class KeyStore:
    """Keys and values of some heads: those that a query from `since` on reads, and no others.

    A slot is given to a key when it comes, and to another when no query will read the first any
    more. There are few slots at first, and a quarter more whenever they are all in use.

    Shapes:
        keys, values: `(batch, kv_heads, num_slots, head_dim)`, in no order
        since: int64 `(batch,)`
    """

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, reader: RowReader, key: torch.Tensor, value: torch.Tensor) -> None:
        """Nothing is kept yet; `key` and `value` are such as will come."""
        self.reader = reader
        batch = key.shape[0]
        self.keys, self.values = key[:, :, :0].detach(), value[:, :, :0].detach()
        self.since: Ints = np.zeros(batch, dtype=np.int64)
        self._slots: NDArray[np.int32] = np.full((batch, reader.plan.kv_len), -1, dtype=np.int32)
        self._free: list[list[int]] = [[] for _ in range(batch)]

    @property
    def num_slots(self) -> int:
        return self.keys.shape[2]

    @property
    def num_kept(self) -> Ints:
        """How many keys of each sequence are kept, `(batch,)`."""
        return self.num_slots - np.array([len(free) for free in self._free], dtype=np.int64)

    @property
    def num_bytes(self) -> int:
        """Bytes of the slots, in use or not."""
        return self.keys.nbytes + self.values.nbytes

    def step(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        positions: Ints,
        modifiers: Modifiers,
        undo: int,
    ) -> torch.Tensor:
        """Attention of new tokens over the keys that are kept and their own, which are then kept.

        Args:
            query: `(batch, heads, count, head_dim)`, of the heads of the reader.
            key: `(batch, kv_heads, count, head_dim)`.
            value: like `key`.
            positions: of the tokens, -1 for padding, `(batch, count)`.
            modifiers: what changes scores beside the plan.
            undo: how many tokens may be taken back afterwards.
        """
        if positions.shape[1] == 1:
            self.forget(positions[:, 0] - undo)
            self._keep(key, value, positions)
            return attention_rows(
                query, self.keys, self.values, self.reader, positions, modifiers, slots=self._slots
            )
        slots = self._slots.copy()
        for row, own in zip(slots, positions, strict=True):
            row[own[own >= 0]] = self.num_slots + np.flatnonzero(own >= 0)
        keys, values = torch.cat([self.keys, key], 2), torch.cat([self.values, value], 2)
        output = attention_rows(query, keys, values, self.reader, positions, modifiers, slots=slots)
        self.append(key, value, positions, undo)
        return output

    def append(self, key: torch.Tensor, value: torch.Tensor, positions: Ints, undo: int) -> None:
        """Keep what is needed of new tokens, and no more of the old ones."""
        self.forget(positions.max(1) + 1 - undo)
        self._keep(key, value, positions)

    def forget(self, since: Ints) -> None:
        """Let go of the keys that no query from `since` on reads, for each sequence."""
        offsets, keys = self.reader.dying
        for element, (start, stop) in enumerate(
            zip(self.since.tolist(), since.tolist(), strict=True)
        ):
            if stop <= start:
                continue
            dead = keys[offsets[start] : offsets[stop]]
            self._let_go(element, dead[self._slots[element, dead] >= 0])
            self.since[element] = stop

    def take_back(self, since: Ints) -> None:
        """Let go of the keys from some position on, for each sequence."""
        for element, start in enumerate(since.tolist()):
            self._let_go(element, start + np.flatnonzero(self._slots[element, start:] >= 0))

    def _let_go(self, element: int, keys: Ints) -> None:
        self._free[element] += self._slots[element, keys].tolist()
        self._slots[element, keys] = -1

    def shrink(self) -> None:
        """Give up slots, where many were in use only so that tokens could be taken back."""
        if self.num_slots <= 2 * max(self.reader.most_live, _LEAST_ROOM):
            return
        most = int(self.num_kept.max())
        places = np.zeros((len(self._slots), most), dtype=np.int64)
        for element, row in enumerate(self._slots):
            keys = np.flatnonzero(row >= 0)
            places[element, : len(keys)] = row[keys]
            row[keys] = np.arange(len(keys))
            self._free[element] = list(range(most - 1, len(keys) - 1, -1))
        at = torch.from_numpy(places).to(self.keys.device)[:, None, :, None]
        self.keys, self.values = (
            x.gather(2, at.expand(-1, x.shape[1], -1, x.shape[3])) for x in (self.keys, self.values)
        )

    def select(self, elements: torch.Tensor) -> None:
        """Keep some sequences, perhaps several times over."""
        self.keys, self.values = (x.index_select(0, elements) for x in (self.keys, self.values))
        numbers = elements.cpu().numpy()
        self.since, self._slots = self.since[numbers], self._slots[numbers]
        self._free = [list(self._free[number]) for number in numbers.tolist()]

    def _keep(self, key: torch.Tensor, value: torch.Tensor, positions: Ints) -> None:
        """Put away the new keys that are needed, for each sequence."""
        last = self.reader.last_reader[np.maximum(positions, 0)]
        kept = (positions >= 0) & (last >= np.maximum(positions, self.since[:, None]))
        self._make_room(kept.sum(1))
        element, number = np.nonzero(kept)
        slots = np.array([self._free[one].pop() for one in element.tolist()], dtype=np.int64)
        self._slots[element, positions[kept]] = slots
        where = [torch.from_numpy(x).to(key.device) for x in (element, slots, number)]
        with torch.no_grad():
            self.keys[where[0], :, where[1]] = key.detach()[where[0], :, where[2]]
            self.values[where[0], :, where[1]] = value.detach()[where[0], :, where[2]]

    def _make_room(self, wanted: Ints) -> None:
        """Have so many slots free, for each sequence."""
        least = int((self.num_kept + wanted).max())
        if least <= self.num_slots:
            return
        # Never more than can be in use, unless tokens are kept to be taken back.
        usual = self.num_slots + self.num_slots // 4 + _LEAST_ROOM
        self._resize(max(least, min(usual, self.reader.most_live)))

    def _resize(self, num_slots: int) -> None:
        more = num_slots - self.num_slots
        self.keys, self.values = (
            torch.cat([x, x.new_zeros(*x.shape[:2], more, x.shape[3])], 2)
            for x in (self.keys, self.values)
        )
        # The lowest is given first, so that keys which are all kept stand in their order.
        fresh = list(range(num_slots - 1, num_slots - 1 - more, -1))
        self._free = [fresh + free for free in self._free]
