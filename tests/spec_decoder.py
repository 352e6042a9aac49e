"""A second decoder of `.aec` files, written from docs/format.md alone, with nothing of aecodec.

It has 8- and 16-bit gray and RGB by models of the family "hyperprior", without alpha. NumPy
integers for what decides how symbols decode, torch in float64 for pixels; slow and short.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Array = NDArray[np.int64]
TYPES = {"F16": "<f2", "F32": "<f4", "I32": "<i4", "I16": "<i2", "I64": "<i8", "U8": "u1"}
ORDER = {1: [[0, 0], [0, 0]], 2: [[0, 1], [1, 0]], 4: [[0, 2], [3, 1]]}


class Model:
    """A weights file."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        self.config = json.loads(header.pop("__metadata__")["config"])
        self.tensors = {}
        digest = hashlib.sha256()
        for name in sorted(header):
            kind, shape = header[name]["dtype"], header[name]["shape"]
            start, end = (8 + length + at for at in header[name]["data_offsets"])
            digest.update(f"{name}:{kind}:{','.join(map(str, shape))}:".encode())
            digest.update(data[start:end])
            self.tensors[name] = np.frombuffer(data[start:end], TYPES[kind]).reshape(shape)
        self.id = digest.digest()[:8]

    def net(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self.tensors[f"net.{name}"].astype(np.float64))

    def has(self, name: str) -> bool:
        return name in self.tensors


@dataclass
class File:
    """The header, and of each chunk its place (x, y, w, h), payload and CRC of integers."""

    width: int
    height: int
    quality: int
    softness: int
    gray: bool
    bits: int
    model_id: bytes
    chunks: list[tuple[tuple[int, int, int, int], bytes, int]]


def parse(data: bytes) -> File:
    assert data[:9] == bytes.fromhex("89 41 45 43 0D 0A 1A 0A 01")
    flags, picture, coding = data[9:12]
    assert not flags >> 2 & 3, "alpha"
    at = 20

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
            if byte < 128:
                return value

    width, height, quality = varint(), varint(), varint()
    side = 1 << (coding >> 4) + 6
    places = [
        (x, y, min(side, width - x), min(side, height - y))
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]
    table = []
    for _ in places:
        length = varint()
        table.append((length, *struct.unpack_from("<II", data, at)))
        at += 8
    assert zlib.crc32(data[:at]) == struct.unpack_from("<I", data, at)[0]
    at += 4
    chunks = []
    for place, (length, crc, integers) in zip(places, table, strict=True):
        payload = data[at : at + length]
        assert zlib.crc32(payload) == crc
        chunks.append((place, payload, integers))
        at += length
    bits = 16 if flags >> 4 & 3 else 8
    gray, model_id = not picture & 7, data[12:20]
    return File(width, height, quality, flags >> 6, gray, bits, model_id, chunks)


class Stream:
    """The ANS stream of a payload."""

    def __init__(self, payload: bytes) -> None:
        padded = payload + bytes(-len(payload) % 4)
        self.words = list(struct.unpack(f"<{len(padded) // 4}I", padded))
        self.state = 0
        self._fill()
        self._fill()

    def _fill(self) -> None:
        if self.state < 1 << 32 and self.words:
            self.state = self.state << 32 | self.words.pop()

    def _take(self, low: int, frequency: int) -> None:
        low_bits = self.state & 0xFFFFFF
        self.state = (self.state >> 24) * frequency + low_bits - low
        self._fill()

    def symbol(self, bounds: Array) -> int:
        """Of a table, given as cumulative frequencies."""
        found = int(np.searchsorted(bounds, self.state & 0xFFFFFF, side="right")) - 1
        self._take(int(bounds[found]), int(bounds[found + 1] - bounds[found]))
        return found

    def uniform(self, bits: int) -> int:
        if not bits:
            return 0
        frequency = 1 << 24 - bits
        found = (self.state & 0xFFFFFF) // frequency
        self._take(found * frequency, frequency)
        return found

    def values(self, rows: Iterator[tuple[Array, int]]) -> list[int]:
        """A value for each table and bound, then the escapes."""
        values, escaped = [], []
        for frequencies, bound in rows:
            bounds = np.concatenate([[0], np.cumsum(frequencies[: 2 * bound + 2], dtype=np.int64)])
            symbol = self.symbol(bounds)
            if symbol == 2 * bound + 1:
                escaped.append((len(values), bound))
            values.append(symbol - bound)
        for place, bound in escaped:
            n = self.uniform(5)
            assert n <= 24
            v = (1 << n) + self.uniform(n) - 1
            values[place] = (bound + 1 + v // 2) * (-1 if v % 2 else 1)
        return values


def shuffled(x: Array) -> Array:
    c, h, w = x.shape
    return x.reshape(c // 4, 2, 2, h, w).transpose(0, 3, 1, 4, 2).reshape(c // 4, 2 * h, 2 * w)


class Scales:
    """Scale indices, pass by pass."""

    def __init__(self, model: Model, z: Array, quality: int, size: tuple[int, int]) -> None:
        self.model, self.quality = model, quality
        fixed = [12, 8, 127]
        if model.has("scale_head.fixed_point"):
            fixed = [int(x) for x in model.tensors["scale_head.fixed_point"]]
        self.v, self.a, self.m = fixed
        a = np.clip(z, -self.m, self.m) << self.a
        for layer in (0, 1):
            a = self._conv(a, f"weight.{layer}") + self._offset(f"bias.{layer}")
            a = shuffled(self._relu(a))
        self.features = a[:, : size[0], : size[1]]
        self.total = self._conv(self.features, "weight.2") + self._offset("bias.2")

    def index(self, p: int, q: Array, known: NDArray[np.bool_]) -> Array:
        """In pass p, given the residuals of earlier ones."""
        total, prefix = self.total, f"context.{p}"
        if p:
            size = np.minimum(np.abs(q), 1023) + 1
            n = np.frexp(size)[1].astype(np.int64) - 1  # 2ⁿ ≤ size
            levels = (n << self.a) + ((size - (1 << n) << self.a) >> n)
            a = self._conv(np.where(known, levels, 0), f"{prefix}.weight.0")
            a = a + self._conv(self.features, f"{prefix}.weight.1")
            a = self._relu(a + self._offset(f"{prefix}.bias.0"))
            a = self._conv(a, f"{prefix}.weight.2") + self._offset(f"{prefix}.bias.1")
            total = total + self._conv(self._relu(a), f"{prefix}.weight.3")
        return np.clip(self._shift(total, self.v + self.a), 0, 63)

    def _tensor(self, name: str) -> Array:
        return self.model.tensors[f"scale_head.{name}"].astype(np.int64)

    def _offset(self, name: str) -> Array:
        rows, k = self._tensor(name), min(self.quality // 512, 6)
        s = self.quality - 512 * k
        return ((rows[k] * (512 - s) + rows[k + 1] * s + 256) // 512)[:, None, None]

    def _conv(self, x: Array, name: str) -> Array:
        weight = self._tensor(name)
        r, (_, h, w) = weight.shape[2] // 2, x.shape
        x = np.pad(x, ((0, 0), (r, r), (r, r)))
        return sum(
            np.tensordot(weight[:, :, u, v], x[:, u : u + h, v : v + w], axes=1)
            for u in range(2 * r + 1)
            for v in range(2 * r + 1)
        )

    def _shift(self, x: Array, n: int) -> Array:
        return x + (1 << n - 1) >> n

    def _relu(self, x: Array) -> Array:
        return np.clip(self._shift(x, self.v), 0, self.m << self.a)


def context_passes(model: Model, size: tuple[int, int]) -> tuple[int, Array]:
    """Their number, and that of each element of y."""
    count, channels = len(model.config["context_blocks"]), model.config["latent_channels"]
    order = np.tile(ORDER[count], (size[0] // 2 + 1, size[1] // 2 + 1))[: size[0], : size[1]]
    return count, (order + np.arange(channels)[:, None, None]) % count


def integers(model: Model, file: File, number: int) -> tuple[Array, Array]:
    """ẑ and q of a chunk."""
    (_, _, width, height), payload, crc = file.chunks[number]
    h, w = -(-height // 16), -(-width // 16)
    tables, stream = model.tensors, Stream(payload)
    row = (file.quality + 256) // 512
    channels, each = model.config["hyper_channels"], -(-h // 4) * -(-w // 4)
    z_rows = (
        (tables["tables.z"][row, c], int(tables["tables.z_bound"][row, c]))
        for c in range(channels)
        for _ in range(each)
    )
    z = np.array(stream.values(z_rows)).reshape(channels, -(-h // 4), -(-w // 4))

    scales = Scales(model, z, file.quality, (h, w))
    count, passes = context_passes(model, (h, w))
    if not model.has("scale_head.context.1.weight.0"):
        count, passes = 1, np.zeros_like(passes)
    soft = file.softness and model.has("tables.y_soft")
    y, y_bound = tables["tables.y_soft" if soft else "tables.y"], tables["tables.y_bound"]
    q = np.zeros(passes.shape, np.int64)
    for p in range(count):
        index = scales.index(p, q, passes < p).ravel()
        places = np.flatnonzero(passes.ravel() == p)
        places = places[np.argsort(index[places], kind="stable")]
        places = places[index[places] >= int(tables["tables.skip"])]
        q.ravel()[places] = stream.values((y[i], int(y_bound[i])) for i in index[places])
    assert not stream.state and not stream.words, "something is left"
    assert zlib.crc32(q.astype("<i4").tobytes(), zlib.crc32(z.astype("<i4").tobytes())) == crc
    return z, q


class Pixels:
    """From integers to pixels."""

    def __init__(self, model: Model, quality: int, softness: int) -> None:
        self.model = model
        self.quality, self.shown = quality, max(quality - 256 * softness, 0)

    def latents(self, z: Array, q: Array) -> torch.Tensor:
        size = (q.shape[1], q.shape[2])
        h, x = "hyper_synthesis", torch.from_numpy(z)[None].double()
        u = self._phi(F.pixel_shuffle(self._conv(x, f"{h}.up_32"), 2))
        u = self._phi(F.pixel_shuffle(self._conv(self._block(u, f"{h}.block_32"), f"{h}.up_16"), 2))
        features = self._conv(u, f"{h}.tail") + self._row(f"{h}.bias.rows")
        features = features[:, :, : size[0], : size[1]]
        count, passes = context_passes(self.model, size)
        y = torch.zeros(1, *q.shape, dtype=torch.float64)
        up, down = (self._row(f"{n}coder_gain.log_rows").exp() for n in ("de", "en"))
        for p in range(count):
            x = features + self._conv(y, f"context.{p}.known") if p else features
            mean = self._conv(self._blocks(x, f"context.{p}.blocks"), f"context.{p}.tail") * down
            y = torch.where(torch.from_numpy(passes == p), (torch.from_numpy(q) + mean) * up, y)
        return y

    def picture(self, y: torch.Tensor) -> torch.Tensor:
        s, self.quality = "synthesis", self.shown
        x = self._conv(y, f"{s}.head") * self._row(f"{s}.gain_16.log_rows").exp()
        x = self._conv(self._blocks(x, f"{s}.blocks_16"), f"{s}.up")
        x = F.pixel_shuffle(x, 2) * self._row(f"{s}.gain_8.log_rows").exp()
        x = self._conv(self._blocks(x, f"{s}.blocks_8"), f"{s}.tail")
        return F.pixel_shuffle(self._conv(y, f"{s}.linear"), 16) + F.pixel_shuffle(x, 8)

    def _row(self, name: str) -> torch.Tensor:
        rows, k = self.model.net(name), min(self.quality // 512, 6)
        return torch.lerp(rows[k], rows[k + 1], self.quality / 512 - k)[None, :, None, None]

    def _conv(self, x: torch.Tensor, name: str) -> torch.Tensor:
        weight = self.model.net(f"{name}.weight")
        bias = self.model.net(f"{name}.bias") if self.model.has(f"net.{name}.bias") else None
        return F.conv2d(x, weight, bias, padding=weight.shape[2] // 2)

    def _phi(self, x: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(x, 0.1)

    def _block(self, x: torch.Tensor, name: str) -> torch.Tensor:
        h = self._phi(self._conv(x, f"{name}.reduce"))
        return x + self._conv(self._phi(self._conv(h, f"{name}.spatial")), f"{name}.expand")

    def _blocks(self, x: torch.Tensor, name: str) -> torch.Tensor:
        k = 0
        while self.model.has(f"net.{name}.{k}.reduce.weight"):
            x, k = self._block(x, f"{name}.{k}"), k + 1
        return x


def decode(data: bytes, model: Model) -> tuple[list[tuple[Array, Array]], NDArray[np.float64]]:
    """The integers of every chunk, and samples (H, W) or (H, W, 3)."""
    file = parse(data)
    assert file.model_id == model.id
    found = [integers(model, file, number) for number in range(len(file.chunks))]
    pixels = Pixels(model, file.quality, file.softness)
    channels = model.config["latent_channels"]
    y = torch.zeros(1, channels, -(-file.height // 16), -(-file.width // 16), dtype=torch.float64)
    for (place, _, _), (z, q) in zip(file.chunks, found, strict=True):
        left, top = place[0] // 16, place[1] // 16
        y[:, :, top : top + q.shape[1], left : left + q.shape[2]] = pixels.latents(z, q)
    most = 2**file.bits - 1
    x = (pixels.picture(y)[0] + 0.5).mul(most).round().clamp(0, most).permute(1, 2, 0).numpy()
    x = x[: file.height, : file.width]
    return found, (x.sum(axis=2) + 1) // 3 if file.gray else x
