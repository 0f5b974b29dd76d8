"""From the lowered graph to a plan: ops grouped into regions around their anchors.

A layer becomes: norm+quantise, QKV, rope+cache, attend, combine, quantise, output+residual, norm+quantise, gated
MLP, quantise, down+residual.  Views and prologues (slices, norms before a quantise, rope, gathers) emit nothing of
their own: whoever reads them absorbs them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from dataclasses import replace as with_fields
from typing import Any

from msgspec.structs import replace

from ..errors import Unsupported
from ..graph import ops
from ..graph.formats import BLOCK, COLUMNS, FORMATS, SUPERBLOCK, Plain, Quantised
from ..graph.ir import ROWS, Extents, Graph, Node, node_cost
from .attention import ITEM_BYTES, Attend, item_tokens, state_bytes
from .attention_items import AttentionItems, Combine
from .isa import Target
from .kernels import KernelSpec, encode
from .matmul import Epilogue, Matmul, panel_block_bytes
from .matmul_plain import MatmulPlain
from .memory import Buffer, place
from .pages import query_bytes
from .plan import Address, AngleTable, Arg, Bits, Limits, PackedTensor, Plan, Region, Variant
from .pointwise import Pointwise
from .rope import RopeWrite
from .rows import Embed, Rows
from .sampling import VOCAB_BLOCK, Sample
from .table import ROWS_PANEL, KvType, Word, page_bytes
from .tile import LOG2_E

_MATMUL_ITEM_ROWS = 64
"""Rows of one matmul item in a large step: enough to use a weight tile well, few enough to balance workers."""
_PAGE = 4096


@dataclass(frozen=True, slots=True)
class _Arena:
    """An address in a buffer whose offset is not yet known."""

    buffer: str
    offset: int = 0


@dataclass(slots=True)
class _Storage:
    """Where the value of a node lives: a buffer, the column it starts at, and bytes per row."""

    buffer: str
    row_bytes: int
    column: int = 0

    @property
    def address(self) -> _Arena:
        return _Arena(self.buffer, 4 * self.column)


@dataclass(slots=True)
class _Draft:
    """A region whose arena addresses are still names."""

    region: Region
    touches: list[str]


@dataclass(slots=True)
class _Lowering:
    """Walks a graph once and collects regions, buffers and weights."""

    graph: Graph
    target: Target
    limits: Limits
    kv: KvType
    drafts: list[_Draft] = field(default_factory=list)
    kernels: dict[str, list[Any]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    storage: dict[int, _Storage] = field(default_factory=dict)
    weights: dict[tuple[Any, ...], PackedTensor] = field(default_factory=dict)
    weights_bytes: int = 0
    angles: list[AngleTable] = field(default_factory=list)
    costs: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    attends: list[ops.Attend] = field(default_factory=list)
    consumers: list[list[int]] = field(default_factory=list)

    # --- small helpers --------------------------------------------------------------------------------------------

    def node(self, index: int) -> Node:
        return self.graph.nodes[index]

    def weight_name(self, index: int) -> str:
        op = self.node(index).op
        assert isinstance(op, ops.Weight)
        return op.name

    def is_rows(self, node: Node) -> bool:
        return node.output.shape[0] is ROWS

    def num_rows(self, node: Node) -> int:
        return ROWS_PANEL if self.is_rows(node) else self.limits.num_tokens

    def extent(self, node: Node) -> int:
        return Word.ROWS if self.is_rows(node) else Word.TOKENS

    def kernel(self, spec: KernelSpec) -> str:
        self.kernels[spec.name] = encode(spec)
        return spec.name

    def buffer(self, index: int, width: int, column_padding: int = BLOCK) -> _Storage:
        """A row-major f32 buffer for the value of a node."""
        node = self.node(index)
        row_bytes = -(-width // column_padding) * column_padding * 4
        name = f"v{index}"
        self.sizes[name] = row_bytes * self.num_rows(node)
        self.storage[index] = _Storage(name, row_bytes)
        return self.storage[index]

    def emit(
        self, name: str, node: Node | None, one: tuple[KernelSpec, list[Any], int],
        many: tuple[KernelSpec, list[Any], int] | None = None, *, extent: int | None = None, multiplier: int = 1,
        barrier: bool = True, touches: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """Append a region; `one` and `many` are (kernel, arguments, rows per item)."""
        many = one if many is None else many
        variants = [Variant(self.kernel(spec), tuple(args), rows) for spec, args, rows in (one, many)]
        if extent is None:
            assert node is not None
            extent = self.extent(node)
        per_panel = node is not None and self.is_rows(node)
        region = Region(name, variants[0], variants[1], int(extent), multiplier, barrier, per_panel)
        used = {arg.buffer for _, args, _ in (one, many) for arg in args if isinstance(arg, _Arena)} | set(touches)
        self.drafts.append(_Draft(region, sorted(used)))
        if node is not None:
            cost = node_cost(self.graph, node, Extents())
            self.costs[name] = (cost.flops, cost.weight_bytes, cost.activation_bytes)

    # --- weights --------------------------------------------------------------------------------------------------

    def _place(self, key: tuple[Any, ...], tensor: PackedTensor) -> PackedTensor:
        if key not in self.weights:
            self.weights[key] = replace(tensor, offset=self.weights_bytes)
            self.weights_bytes += -(-tensor.num_bytes // 64) * 64
        return self.weights[key]

    def tiles(self, indices: tuple[int, ...], *, interleave: bool = False) -> PackedTensor:
        """Packed tiles of one or more weights of one format."""
        tensors = [self.node(i).output for i in indices]
        format, k = tensors[0].dtype, tensors[0].width
        assert isinstance(format, Plain | Quantised) and all(t.dtype == format for t in tensors)
        unit = SUPERBLOCK if isinstance(format, Quantised) and format.super_bytes else BLOCK
        if k % unit:
            raise Unsupported(
                f"{self.weight_name(indices[0])} has rows of {k} elements, which are not whole blocks of {unit}.",
                fix="Use another quantisation of this model.",
            )
        columns = tuple(-(-_fixed(t.shape[0]) // COLUMNS) * COLUMNS for t in tensors)
        names = tuple(self.weight_name(i) for i in indices)
        size = sum(columns) // COLUMNS * tile_bytes(format, k)
        tensor = PackedTensor(names, "tiles", format.name, interleave, k, columns, 0, size)
        return self._place((names, "tiles", interleave), tensor)

    def vector(self, indices: tuple[int, ...], padded: tuple[int, ...], *, interleave: bool = False) -> Address:
        """f32 vectors one after another (or interleaved in runs of 16), each padded with zeros."""
        names = tuple(self.weight_name(i) for i in indices)
        size = 4 * sum(padded)
        tensor = PackedTensor(names, "vector", "f32", interleave, 0, padded, 0, size)
        return Address("weights", self._place((names, "vector", padded, interleave), tensor).offset)

    # --- ops ------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        consumers = self.consumers = self.graph.consumers()
        for index, node in enumerate(self.graph.nodes):
            match node.op:
                case ops.Weight() | ops.Input() | ops.Slice() | ops.Rope() | ops.GatherRows():
                    pass  # absorbed by whoever reads them
                case ops.Embed():
                    self._embed(index, node)
                case ops.RmsNorm(groups=1):
                    if not all(isinstance(self.node(c).op, ops.Quantise) for c in consumers[index]):
                        self._rows(index, node, node, quantise=False)
                case ops.RmsNorm():
                    pass  # QK-norm, absorbed by the cache write
                case ops.Quantise():
                    source = self.node(node.inputs[0])
                    norm = source if isinstance(source.op, ops.RmsNorm) else None
                    self._rows(index, node, norm, quantise=True)
                case ops.Linear(bias, residual):
                    self._linear(index, node, bias, residual, consumers)
                case ops.FusedLinear(splits, bias):
                    self._fused(index, node, splits, bias)
                case ops.GatedLinear(act, bias):
                    self._gated_linear(index, node, act, bias)
                case ops.Attend():
                    self._attend(index, node, node.op)
                case ops.Add() | ops.Mul() | ops.Scale() | ops.Silu() | ops.GeluTanh() | ops.Gated():
                    self._pointwise(index, node)
                case _:
                    raise Unsupported(f"No region runs {node.op}.", fix="Use a model of a supported family.")
        self._sample()

    def _embed(self, index: int, node: Node) -> None:
        table = self.tiles((node.inputs[0],))
        out = self.buffer(index, node.output.width)
        spec = Embed(table.format, Word.TOKEN_IDS, Word.TOKENS)
        args: list[Any] = [Address("weights", table.offset), table.k // BLOCK, _tile_bytes_of(table), out.address,
                           out.row_bytes, Bits(1.0)]  # fmt: skip
        self.emit("embed", node, (spec, args, 1), barrier=False)
        group, kv_heads = self._attention_shape()
        self.emit("attention items", None, (AttentionItems(group), [kv_heads], 1), extent=Word.ONE)

    @property
    def num_layers(self) -> int:
        return sum(isinstance(node.op, ops.Attend) for node in self.graph.nodes)

    def _attention_shape(self) -> tuple[int, int]:
        attends = [node.op for node in self.graph.nodes if isinstance(node.op, ops.Attend)]
        shapes = {(a.heads, a.kv_heads, a.head_dim) for a in attends}
        if len(shapes) != 1:
            raise Unsupported(f"Layers of different heads ({sorted(shapes)}) share no cache.", fix="Use another.")
        heads, kv_heads, head_dim = shapes.pop()
        if head_dim % 16:
            raise Unsupported(f"A head of {head_dim} is not a multiple of 16.", fix="Use another model.")
        return heads // kv_heads, kv_heads

    def zero_of(self, quantise: int) -> int:
        """The one zero of all weights that read a quantised value; 0 where they differ or have none."""
        zeros = set()
        for reader in self.consumers[quantise]:
            formats = [t.dtype for t in self.graph.input_tensors(self.node(reader))[1:]]
            zeros |= {f.true_zero for f in formats if isinstance(f, Quantised)} - {0}
        return zeros.pop() if len(zeros) == 1 else 0

    def _rows(self, index: int, node: Node, norm: Node | None, *, quantise: bool) -> None:
        """A row of f32, perhaps gathered, perhaps normalised, to f32 or to an activation panel."""
        source = norm.inputs[0] if norm else node.inputs[0]
        gather = None
        if isinstance(self.node(source).op, ops.GatherRows):
            source, gather = self.node(source).inputs[0], int(Word.PANEL_ROWS)
        x, width = self.storage[source], node.output.width
        if width % BLOCK:
            raise Unsupported(f"{node.name} is {width} wide, not a multiple of {BLOCK}.", fix="Use another model.")
        weight: Any = self.vector((norm.inputs[1],), (width,)) if norm else 0
        eps = norm.op.eps if norm and isinstance(norm.op, ops.RmsNorm) else 0.0
        out = self.buffer(index, width)
        if quantise:
            num_panels = -(-self.num_rows(node) // self.target.rows)
            self.sizes[out.buffer] = num_panels * (width // BLOCK) * panel_block_bytes(self.target.rows)
        variants, zero = [], self.zero_of(index) if quantise else 0
        for panel in (1, self.target.rows):
            stride = width // BLOCK * panel_block_bytes(panel) if quantise else out.row_bytes
            spec = Rows(norm is not None, quantise, panel if quantise else 1, gather, self.extent(node), zero)
            args = [x.address, x.row_bytes, width // BLOCK, out.address, stride, weight, Bits(eps), Bits(1.0 / width)]
            variants.append((spec, args, panel if quantise else 1))
        self.emit(node.name, node, variants[0], variants[1])

    def _matmul(
        self, name: str, node: Node, x: int, tensor: PackedTensor, out: Any, out_row_bytes: int,
        epilogue: Epilogue, bias: Any, *, barrier: bool = True,
    ) -> None:  # fmt: skip
        """One contraction region."""
        q = self.storage[x]
        num_tiles = sum(tensor.columns) // COLUMNS // (2 if tensor.interleave else 1)
        quantised = self.node(x).output.dtype == "q8"
        variants = []
        for panel in (1, self.target.rows):
            spec: KernelSpec
            if quantised:
                format = FORMATS[tensor.format]
                assert isinstance(format, Quantised)
                zero = self.zero_of(x) if format.true_zero else 0
                spec = Matmul(tensor.format, panel, epilogue, bias is not None, self.extent(node), zero)
                stride = tensor.k // BLOCK * panel_block_bytes(panel)
            else:
                spec = MatmulPlain(tensor.format, epilogue, bias is not None, self.extent(node))
                stride = q.row_bytes
            item_rows = 1 if panel == 1 else _MATMUL_ITEM_ROWS
            args = [Address("weights", tensor.offset), tensor.k // BLOCK, _tile_bytes_of(tensor), q.address, stride,
                    out, out_row_bytes, bias or 0, num_tiles, item_rows]  # fmt: skip
            variants.append((spec, args, item_rows))
        self.emit(name, node, variants[0], variants[1], multiplier=num_tiles, barrier=barrier)

    def _linear(self, index: int, node: Node, bias: bool, residual: bool, consumers: list[list[int]]) -> None:
        tensor = self.tiles((node.inputs[1],))
        bias_at = self.vector((node.inputs[2],), tensor.columns) if bias else None
        if not residual:
            padding = VOCAB_BLOCK if index in self.graph.outputs else BLOCK
            out = self.buffer(index, node.output.width, padding)
            self._matmul(node.name, node, node.inputs[0], tensor, out.address, out.row_bytes, "store", bias_at)
            return
        carried = node.inputs[-1]
        source = self.storage[carried]
        if any(c > index for c in consumers[carried]) or carried in self.graph.outputs:
            copy = self.buffer(index, node.output.width)
            self._pointwise_region(f"{node.name} residual", node, "copy", source, source, copy, 1.0)
            source = copy
        self.storage[index] = source
        self._matmul(node.name, node, node.inputs[0], tensor, source.address, source.row_bytes, "add", bias_at)

    def _fused(self, index: int, node: Node, splits: tuple[int, ...], bias: bool) -> None:
        """Neighbours of one format share a region; regions of one op share a barrier."""
        out = self.buffer(index, sum(splits))
        weights, biases = node.inputs[1 : 1 + len(splits)], node.inputs[1 + len(splits) :]
        runs: list[list[int]] = []
        for i, w in enumerate(weights):
            same = runs and self.node(weights[runs[-1][-1]]).output.dtype == self.node(w).output.dtype
            whole = runs and splits[runs[-1][-1]] % COLUMNS == 0
            if same and whole:
                runs[-1].append(i)
            else:
                runs.append([i])
        column = 0
        for number, run in enumerate(runs):
            tensor = self.tiles(tuple(weights[i] for i in run))
            bias_at = self.vector(tuple(biases[i] for i in run), tensor.columns) if bias else None
            last = number == len(runs) - 1
            if not last and sum(splits[i] for i in run) % COLUMNS:
                raise Unsupported(f"{node.name} has parts that are not whole tiles.", fix="Use another model.")
            name = node.name if len(runs) == 1 else f"{node.name} {number}"
            address = _Arena(out.buffer, 4 * column)
            self._matmul(name, node, node.inputs[0], tensor, address, out.row_bytes, "store", bias_at, barrier=last)
            column += sum(splits[i] for i in run)

    def _gated_linear(self, index: int, node: Node, act: str, bias: bool) -> None:
        tensor = self.tiles((node.inputs[1], node.inputs[2]), interleave=True)
        bias_at = None
        if bias:
            bias_at = self.vector((node.inputs[3], node.inputs[4]), tensor.columns, interleave=True)
        out = self.buffer(index, node.output.width)
        epilogue: Epilogue = "gated_silu" if act == "silu" else "gated_gelu_tanh"
        self._matmul(node.name, node, node.inputs[0], tensor, out.address, out.row_bytes, epilogue, bias_at)

    def _pointwise(self, index: int, node: Node) -> None:
        a = self.view(node.inputs[0])
        b = self.view(node.inputs[1]) if len(node.inputs) > 1 else a
        match node.op:
            case ops.Gated(act):
                kind = f"gated_{act}"
            case ops.Scale():
                kind = "scale"
            case _:
                kind = {"Add": "add", "Mul": "mul", "Silu": "silu", "GeluTanh": "gelu_tanh"}[type(node.op).__name__]
        factor = node.op.factor if isinstance(node.op, ops.Scale) else 1.0
        self._pointwise_region(node.name, node, kind, a, b, self.buffer(index, node.output.width), factor)

    def _pointwise_region(
        self, name: str, node: Node, kind: Any, a: _Storage, b: _Storage, out: _Storage, factor: float
    ) -> None:
        args = [a.address, b.address, out.address, a.row_bytes, b.row_bytes, out.row_bytes,
                -(-node.output.width // BLOCK), Bits(factor)]  # fmt: skip
        self.emit(name, node, (Pointwise(kind), args, 1))

    def view(self, index: int) -> _Storage:
        """Where a value lives, through slices."""
        node = self.node(index)
        if isinstance(node.op, ops.Slice):
            base = self.view(node.inputs[0])
            return _Storage(base.buffer, base.row_bytes, base.column + node.op.start)
        return self.storage[index]

    # --- attention ------------------------------------------------------------------------------------------------

    def _attend(self, index: int, node: Node, op: ops.Attend) -> None:
        group, kv_heads = self._attention_shape()
        dim, window = op.head_dim, op.window or 0
        q, q_norm, rope = self._trace(node.inputs[0])
        k, k_norm, k_rope = self._trace(node.inputs[1])
        v, _, _ = self._trace(node.inputs[2])
        if rope != k_rope:
            raise Unsupported(f"{node.name}: queries and keys turn differently.", fix="Use another model.")
        joined = q.buffer == k.buffer == v.buffer and k.column == q.column + op.heads * dim
        if not (joined and v.column == k.column + kv_heads * dim):
            q = self._join(index, node, ((q, op.heads * dim), (k, kv_heads * dim), (v, kv_heads * dim)))
        self.attends.append(op)
        queries = f"q{index}"
        q_row = op.heads * dim * query_bytes(self.target, self.kv)
        self.sizes[queries] = q_row * self.limits.num_tokens
        table = self._angle_table(rope)
        norms: list[Any] = [0, 0, Bits(0.0)]
        if q_norm and k_norm and isinstance(q_norm.op, ops.RmsNorm):
            norms = [self.vector((n.inputs[1],), (dim,)) for n in (q_norm, k_norm)]
            norms.append(Bits(q_norm.op.eps))
        rotary = rope[0].rotary_dim if rope else 0
        head_bytes = page_bytes(dim, self.kv)
        cache, stride = Address("cache", op.layer * kv_heads * head_bytes), self.num_layers * kv_heads * head_bytes
        args = [q.address, q.row_bytes, _Arena(queries), q_row, cache, head_bytes, op.heads, kv_heads,
                Address("angles", 2 * table), Address("angles", 2 * table + 1), *norms,
                Bits(op.scale * LOG2_E), stride]  # fmt: skip
        self.emit(f"{node.name} rope+cache", node, (RopeWrite(dim, rotary, q_norm is not None, self.kv), args, 1))
        out = self.buffer(index, node.output.width)
        args = [_Arena(queries), q_row, cache, head_bytes, out.address, out.row_bytes, _Arena("partials"), window,
                stride]  # fmt: skip
        attend = (Attend(dim, group, window > 0, self.kv), args, 1)
        self.emit(node.name, node, attend, extent=Word.ATTEND_ITEMS)
        combine = (Combine(dim, group), args, 1)
        self.emit(f"{node.name} combine", node, combine, extent=Word.COMBINE_ITEMS)
        for name in (f"{node.name} rope+cache", f"{node.name} combine"):
            self.costs[name] = (0, 0, 0)

    def _join(self, index: int, node: Node, parts: tuple[tuple[_Storage, int], ...]) -> _Storage:
        """Copy q, k and v side by side: needed where their weights are of kinds that share no region."""
        width = sum(width for _, width in parts)
        joint = _Storage(f"qkv{index}", 4 * width)
        self.sizes[joint.buffer] = joint.row_bytes * self.limits.num_tokens
        column = 0
        for number, (part, part_width) in enumerate(parts):
            out = _Storage(joint.buffer, joint.row_bytes, column)
            args = [part.address, part.address, out.address, part.row_bytes, part.row_bytes, out.row_bytes,
                    part_width // BLOCK, Bits(1.0)]  # fmt: skip
            name = f"{node.name} {'qkv'[number]}"
            self.emit(name, node, (Pointwise("copy"), args, 1), barrier=number == len(parts) - 1)
            self.costs[name] = (0, 0, 8 * part_width)
            column += part_width
        return joint

    def _trace(self, index: int) -> tuple[_Storage, Node | None, tuple[ops.Rope, int] | None]:
        """The buffer behind q, k or v, with the norm and the rope on the way."""
        norm, rope = None, None
        node = self.node(index)
        if isinstance(node.op, ops.Rope):
            rope, index = (node.op, node.inputs[2]), node.inputs[0]
            node = self.node(index)
            rope = (with_fields(rope[0], heads=0), rope[1])
        if isinstance(node.op, ops.RmsNorm):
            norm, index = node, node.inputs[0]
        return self.view(index), norm, rope

    def _angle_table(self, rope: tuple[ops.Rope, int] | None) -> int:
        if rope is None:
            return 0
        table = AngleTable(self.weight_name(rope[1]), rope[0].attention_factor)
        if table not in self.angles:
            self.angles.append(table)
        return self.angles.index(table)

    def _sample(self) -> None:
        (output,) = self.graph.outputs
        node, logits = self.node(output), self.storage[output]
        self.sizes["work"] = self.sizes[logits.buffer]
        args = [logits.address, logits.row_bytes, node.output.width, _Arena("work")]
        self.emit("sample", node, (Sample(), args, 1))
        self.costs["sample"] = (0, 0, 0)


def lower_to_plan(graph: Graph, target: Target, limits: Limits | None = None, kv: KvType = "bf16") -> Plan:
    """Regions, memory and weights of a lowered graph.

    Raises Unsupported for what no region can run.
    """
    limits = limits or Limits()
    work = _Lowering(graph, target, limits, kv)
    work.run()
    tables = _table_sizes(work, limits)
    offsets, arena_bytes = place(_lifetimes(work, tables))
    panel_begin = next(i for i, d in enumerate(work.drafts) if d.region.per_panel)
    assert all(d.region.per_panel for d in work.drafts[panel_begin:]), "a region after the head runs once"
    attend, (output,) = work.attends[0], graph.outputs
    return Plan(
        target=target.name, regions=tuple(_bind(d.region, offsets) for d in work.drafts), panel_begin=panel_begin,
        kernels=dict(sorted(work.kernels.items())), weights=tuple(work.weights.values()),
        weights_bytes=-(-work.weights_bytes // _PAGE) * _PAGE, arena_bytes=arena_bytes,
        tables={name: offsets[name] for name in tables}, angles=tuple(work.angles), limits=limits,
        vocab=work.node(output).output.width, layers=len(work.attends), kv_heads=attend.kv_heads,
        head_dim=attend.head_dim, group=attend.heads // attend.kv_heads, costs=work.costs, kv_type=kv,
    )  # fmt: skip


def tile_bytes(format: Plain | Quantised, k: int) -> int:
    """Packed bytes of one tile of 16 columns."""
    return format.tile_bytes(k) if isinstance(format, Quantised) else COLUMNS * k * format.item_bytes


def _tile_bytes_of(tensor: PackedTensor) -> int:
    return tensor.num_bytes // (sum(tensor.columns) // COLUMNS)


def _fixed(extent: Any) -> int:
    assert isinstance(extent, int)
    return extent


def _table_sizes(work: _Lowering, limits: Limits) -> dict[str, int]:
    """Tables that live through the whole step."""
    group, kv_heads = work._attention_shape()
    by_tokens = (limits.num_tokens // item_tokens(group) + limits.num_sequences) * kv_heads
    items = by_tokens + limits.partial_rows // group
    dim = work.attends[0].head_dim
    return {
        "items": items * ITEM_BYTES,
        "combines": limits.num_sequences * kv_heads * ITEM_BYTES,
        "partials": limits.partial_rows * state_bytes(dim),
    }


def _lifetimes(work: _Lowering, tables: dict[str, int]) -> list[Buffer]:
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    # Regions that share a barrier run together: a buffer that one of them frees is free only after the barrier.
    group, panel_group = 0, None
    for draft in work.drafts:
        if draft.region.per_panel and panel_group is None:
            panel_group = group
        for name in draft.touches:
            first.setdefault(name, group)
            last[name] = group
        group += draft.region.barrier
    assert panel_group is not None
    for name, end in last.items():
        if first[name] < panel_group <= end:
            last[name] = group  # every panel of logit rows reads it again
    sizes = {**work.sizes, **tables}
    whole = set(tables)
    return [
        Buffer(name, size, 0 if name in whole else first[name], group if name in whole else last[name])
        for name, size in sizes.items()
        if name in whole or name in first
    ]


def _bind(region: Region, offsets: dict[str, int]) -> Region:
    def bound(arg: Any) -> Arg:
        return Address("arena", offsets[arg.buffer] + arg.offset) if isinstance(arg, _Arena) else arg

    variants = [replace(v, args=tuple(bound(a) for a in v.args)) for v in (region.one, region.many)]
    return replace(region, one=variants[0], many=variants[1])
