"""A first layer for wide nets whose inputs are almost all zeros.

A row of ratings touches some 20 of 10,000 features, so a product with the dense matrix is almost
entirely multiplication by zero. `SparseInputLinear` reads only the weights of the features that
occur. Batches are ordinary torch CSR tensors made by `take`, so one training loop serves dense
and sparse inputs alike::

    model = nn.Sequential(
        SparseDropout(0.3), SparseInputLinear(10_000, 4_000), nn.ReLU(), nn.Linear(4_000, 25)
    )
    logits = model(take(records, indices))

Any torch optimizer trains the layer, through an ordinary dense gradient. To spare that too, see
`privet.lazy_adam`.
"""

import warnings
from functools import cache
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from privet.errors import DataError, OptionError

FloatRows = NDArray[np.float32]
Inputs = Tensor | sparse.csr_array | sparse.csr_matrix
FeatureBatch: TypeAlias = "sparse.csc_array[Any]"


def take(inputs: Inputs, indices: Tensor | NDArray[np.integer]) -> Tensor:
    """Return the chosen rows of dense or sparse inputs as one batch.

    Parameters
    ----------
    inputs
        Shape (samples, features): a tensor, or a SciPy CSR array or matrix.
    indices
        Shape (batch,), integers in ``0 .. samples - 1``, in any order; repeats are allowed.

    Returns
    -------
    Tensor
        Shape (batch, features): dense from a tensor, CSR in float32 from SciPy.

    Raises
    ------
    DataError
        When ``inputs`` is of another type, e.g. SciPy's CSC.
    """
    if isinstance(inputs, Tensor):
        return inputs.index_select(0, torch.as_tensor(indices))
    if not (sparse.issparse(inputs) and inputs.format == "csr"):
        raise DataError(
            f"inputs must be a tensor or a SciPy CSR array; got {type(inputs).__name__}, "
            f"convert it with .tocsr()"
        )
    rows = inputs[np.asarray(indices)]
    return _csr_tensor(
        torch.from_numpy(rows.indptr),
        torch.from_numpy(rows.indices),
        torch.from_numpy(rows.data.astype(np.float32, copy=False)),
        rows.shape,
    )


class SparseDropout(nn.Dropout):
    """Dropout that also takes CSR batches, whose stored entries it drops.

    Zeros stay zero under dropout, so the two layouts have the same distribution; they draw
    different random numbers, and both draw them from torch's generator as `nn.Dropout` does.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Drop entries with probability ``p`` and scale the others by 1 / (1 - p)."""
        if input.layout != torch.sparse_csr or not self.training:
            return super().forward(input)
        values = F.dropout(input.values(), self.p)
        return _csr_tensor(input.crow_indices(), input.col_indices(), values, input.shape)


class RowKeeper(Protocol):
    """An optimizer that keeps a layer's weights, some rows of which are behind the others."""

    weight: Tensor

    @property
    def settled(self) -> bool:
        """Whether every row is up to date."""

    def multiply(self, batch: FeatureBatch) -> FloatRows:
        """Return ``batch`` times the up-to-date weights; shape (batch, out)."""

    def defer(self, batch: FeatureBatch, gradient: FloatRows) -> None:
        """Remember the loss's gradient by the product until the optimizer's next step."""

    def flush(self) -> None:
        """Bring every row up to date."""


class SparseInputLinear(nn.Linear):
    """`nn.Linear` that also takes CSR batches and then touches only the features they hold.

    ``weight`` has the usual shape (out, in), while its memory runs feature by feature: the
    weights of one feature are contiguous. It is a real `nn.Linear`: the same initial values from
    the same seed, the same state dict, and DepGraph prunes it like any other. Code that replaces
    the weight may choose any layout; the next sparse batch restores ours.

    No gradient flows to a CSR input. Anywhere but on the CPU in float32 a CSR batch is
    multiplied as a dense one.

    Attributes
    ----------
    keeper
        The optimizer that holds back updates of ``weight``, or None. While there is one, products
        and the state dict are up to date, but ``weight`` itself only after its ``flush``.
    """

    keeper: RowKeeper | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Return ``input @ weight.T + bias``; shape (batch, out)."""
        on_kernel = self.weight.device.type == "cpu" and self.weight.dtype == torch.float32
        if input.layout == torch.sparse_csr and on_kernel:
            product: Tensor = _SparseProduct.apply(  # type: ignore[no-untyped-call]
                self.weight, _csc(input), self._current_keeper()
            )
            return product if self.bias is None else product + self.bias
        self.flush()
        return super().forward(input.to_dense() if input.layout == torch.sparse_csr else input)

    def flush(self) -> None:
        """Bring ``weight`` up to date with whatever optimizer holds updates back."""
        keeper = self._current_keeper()
        if keeper is not None:
            keeper.flush()

    def _current_keeper(self) -> RowKeeper | None:
        if self.keeper is not None and self.keeper.weight is not self.weight:
            if not self.keeper.settled:
                raise OptionError(
                    "the weight of a SparseInputLinear was replaced while its optimizer held "
                    "updates back; call the optimizer's finish() before, e.g. before pruning"
                )
            self.keeper = None
        return self.keeper

    # Both would otherwise exchange weights whose updates are still held back.
    def _save_to_state_dict(self, *args: Any) -> None:
        self.flush()
        super()._save_to_state_dict(*args)

    def _load_from_state_dict(self, *args: Any) -> None:
        self.flush()
        super()._load_from_state_dict(*args)


def feature_rows(weight: Tensor) -> FloatRows:
    """Return a NumPy view of ``weight``, shape (in, out), each feature's row contiguous.

    Moves the weight's memory to that layout first where it is not yet; its values stay.
    """
    if not weight.t().is_contiguous():
        weight.data = weight.data.t().contiguous().t()
    rows: FloatRows = weight.detach().t().numpy()
    return rows


class _SparseProduct(torch.autograd.Function):
    """``batch @ weight.T``, with the weight's gradient dense or deferred to its keeper."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, batch: FeatureBatch, keeper: RowKeeper | None) -> Tensor:
        ctx.batch, ctx.keeper = batch, keeper
        if keeper is not None:
            return torch.from_numpy(keeper.multiply(batch))
        return torch.from_numpy(batch @ feature_rows(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        if ctx.keeper is not None:
            ctx.keeper.defer(ctx.batch, gradient.contiguous().numpy())
            return None, None, None
        return torch.from_numpy(ctx.batch.T @ gradient.contiguous().numpy()).t(), None, None


def _csc(batch: Tensor) -> FeatureBatch:
    """Return a CSR tensor as SciPy's CSC: entries in order of feature, as the kernels walk."""
    parts = (batch.values(), batch.col_indices(), batch.crow_indices())
    samples, features = batch.shape
    arrays = tuple(part.numpy() for part in parts)
    return sparse.csr_array(arrays, shape=(samples, features)).tocsc()


def _csr_tensor(starts: Tensor, columns: Tensor, values: Tensor, shape: Any) -> Tensor:
    _spend_beta_warning()
    return torch.sparse_csr_tensor(starts, columns, values, tuple(shape), check_invariants=False)


@cache
def _spend_beta_warning() -> None:
    # Torch warns once a process that CSR is in beta; spend that warning where nobody hears it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor([0, 0], [], [], (1, 1))
