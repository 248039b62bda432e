"""Parquet files, by pyarrow: columns by their names, in batches; nothing else imports it.

Types of columns, the schema's metadata, the order of columns and the compression stay. Confidences
are the exception: they are written in float64, since float32 could round the label's lead away.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from privet.device.formats.columns import Columns, match
from privet.device.formats.layout import Table, Wanted, Write
from privet.device.network import Array
from privet.errors import DataError, OptionError

# The largest row group: all of it waits in memory until it is written.
GROUP = 1 << 20  # numbers
GROUP_ROWS = 1 << 15
GROUP_BYTES = 1 << 24
BATCH_BYTES = 1 << 24  # read at a time
BUFFER = 1 << 16


def open_parquet(file: IO[bytes], wanted: Wanted) -> Table:
    """Open a Parquet file; memory grows neither with its length nor with that of its row groups.

    Raises
    ------
    OptionError
        Without pyarrow.
    DataError
        When the file is damaged, or its columns are no numbers or not the features wanted.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise OptionError("Parquet needs pyarrow; run: pip install 'privet[parquet]'") from None
    try:
        # What is buffered ahead is a whole row group, which may be the whole file.
        source = pq.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER)
        schema = source.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise _unsound(wanted, error) from None
    columns = match(schema.names, wanted)
    fields = [schema.field(column) for column in columns.features]
    _check_types(fields, wanted)
    keep = bool(columns.others) and wanted.extra == "keep"
    order = sorted(columns.features + columns.others * keep)
    places = np.searchsorted(order, columns.features).tolist()
    kept = _written_schema(schema, order=order, columns=columns, wanted=wanted)
    dropping = len(order) < len(schema)
    batches = _batches(
        source, [schema.names[at] for at in order] if dropping else None, wanted.rows
    )
    current: list[Any] = []  # the batch just read

    def blocks() -> Iterator[Array]:
        first = 0
        try:
            for batch in batches:
                current[:] = [batch]
                yield _read(batch, places, first=first, wanted=wanted)
                first += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise _unsound(wanted, error) from None

    def protected(block: Array) -> Any:
        """Return the batch just read with other features."""
        arrays = list(current[0].columns)
        for place, values in zip(places, block.T, strict=True):
            arrays[place] = pa.array(values.astype(kept.types[place].to_pandas_dtype()))
        return pa.RecordBatch.from_arrays(arrays, schema=kept)

    @contextmanager
    def writing(out: IO[bytes]) -> Iterator[Write]:
        together = max(wanted.rows, min(GROUP_ROWS, GROUP // len(order)))
        with (
            pq.ParquetWriter(out, kept, compression=_compression(source)) as writer,
            _grouped(writer, together) as write,
        ):
            yield lambda block: write(protected(block))

    whole = np.array([not pa.types.is_floating(field.type) for field in fields])
    total = -(-source.metadata.num_rows // wanted.rows)
    return Table(blocks(), writing, total=total, whole=whole)


def _batches(source: Any, names: list[str] | None, rows: int) -> Iterator[Any]:
    """Read some columns, or all of them, in batches of ``rows``, or fewer where rows are wide."""
    if names is not None:
        for batch in source.iter_batches(rows, columns=names):
            # To the reader names are also paths, and one with points may bring others.
            yield batch.select(names)
        return
    groups = map(source.metadata.row_group, range(source.metadata.num_row_groups))
    widths = (group.total_byte_size / group.num_rows for group in groups if group.num_rows)
    yield from source.iter_batches(max(1, min(rows, int(BATCH_BYTES / max([1.0, *widths])))))


@contextmanager
def _grouped(writer: Any, together: int) -> Iterator[Callable[[Any], None]]:
    """Give a function that writes batches in row groups of ``together`` rows, or a few big ones.

    Each row group costs the reader an entry a column, which small ones would pay for often.
    """
    import pyarrow as pa

    waiting: list[Any] = []

    def write(batch: Any) -> None:
        rows, size = sum(map(len, waiting)), sum(each.nbytes for each in waiting)
        if waiting and (rows + len(batch) > together or size + batch.nbytes > GROUP_BYTES):
            writer.write_table(pa.Table.from_batches(waiting))
            waiting.clear()
        waiting.append(batch)

    yield write
    writer.write_table(pa.Table.from_batches(waiting))


def _check_types(fields: list[Any], wanted: Wanted) -> None:
    """Refuse features that are no numbers, or too rough ones."""
    from pyarrow import types

    for field in fields:
        number = types.is_floating(field.type) or types.is_integer(field.type)
        if not number and not types.is_boolean(field.type):
            raise DataError(
                f"{wanted.place}: column {field.name[:40]!r} holds {field.type}, not numbers"
            )
        if wanted.ratings and types.is_float16(field.type):
            raise DataError(
                f"{wanted.place}: column {field.name[:40]!r} holds float16, which cannot hold "
                f"ratings such as 0.8; store float32"
            )


def _written_schema(schema: Any, *, order: list[int], columns: Columns, wanted: Wanted) -> Any:
    """Return the schema of the protected table."""
    import pyarrow as pa

    fields = [schema.field(column) for column in order]
    if not wanted.ratings:
        features = set(columns.features)
        fields = [
            field.with_type(pa.float64()) if column in features else field
            for column, field in zip(order, fields, strict=True)
        ]
    return pa.schema(fields, metadata=schema.metadata)


def _read(batch: Any, places: list[int], *, first: int, wanted: Wanted) -> Array:
    """Return the features of a batch: float32 if all columns are, else float64."""
    arrays = [batch.column(place) for place in places]
    single = all(str(array.type) == "float" for array in arrays)
    block = np.empty((len(batch), wanted.features), np.float32 if single else np.float64)
    for feature, array in enumerate(arrays):
        if array.null_count:
            row = int(array.is_null().to_numpy(zero_copy_only=False).argmax())
            name = batch.schema.names[places[feature]]
            raise DataError(f"{wanted.place}: record {first + row} has no {name[:40]!r}")
        block[:, feature] = array.to_numpy(zero_copy_only=False)
    return block


def _compression(source: Any) -> str:
    """Return how the first column of a file is compressed, as the writer calls it."""
    if source.metadata.num_row_groups == 0 or source.metadata.num_columns == 0:
        return "NONE"
    name = str(source.metadata.row_group(0).column(0).compression)
    return "NONE" if name == "UNCOMPRESSED" else name


def _unsound(wanted: Wanted, error: Exception) -> DataError:
    reason = " ".join(str(error).split())[:200]
    return DataError(f"{wanted.place} is not a sound Parquet file: {reason}")
