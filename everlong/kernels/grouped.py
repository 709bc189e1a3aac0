"""Products of rows in groups, each group with a matrix of its own: y_n = x_n W_g for row n of group g.

Legend: N rows, E groups, D and F widths.

The fast form is torch's grouped product, one call for all groups. It wants strides of whole 16 bytes and knows no
float64; where it does not hold, the products are taken one group after the other, which is the definition.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

SCHEMA = (
    "aten::_grouped_mm(Tensor self, Tensor mat2, Tensor? offs=None, Tensor? bias=None, ScalarType? out_dtype=None) "
    "-> Tensor"
)
"""What the public `F.grouped_mm` stands on. It is checked, because torch still calls the function experimental."""

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ALIGNED = 16  # bytes


def grouped_product(
    x_ND: Float[Tensor, "n d"], w_EDF: Float[Tensor, "e d f"], count_E: Int64[Tensor, " e"]
) -> Float[Tensor, "n f"]:
    """Products of rows that stand group by group.

    Args:
        count_E: rows of every group; their sum is N.
    """
    if torch.is_autocast_enabled(x_ND.device.type):
        dtype = torch.get_autocast_dtype(x_ND.device.type)
        x_ND, w_EDF = x_ND.to(dtype), w_EDF.to(dtype)
    fits = x_ND.dtype in DTYPES and all(size * x_ND.element_size() % ALIGNED == 0 for size in w_EDF.shape[1:])
    return fast(x_ND, w_EDF, count_E) if fits and available() else one_by_one(x_ND, w_EDF, count_E)


def available() -> bool:
    """Whether this torch has the grouped product that is expected here."""
    operator = getattr(torch.ops.aten, "_grouped_mm", None)
    return hasattr(F, "grouped_mm") and operator is not None and str(operator.default._schema) == SCHEMA


def fast(x_ND: Tensor, w_EDF: Tensor, count_E: Tensor) -> Tensor:
    """All groups in one call. Its gradient must be contiguous."""
    return F.grouped_mm(x_ND, w_EDF, offs=count_E.cumsum(0).to(torch.int32))


def one_by_one(x_ND: Tensor, w_EDF: Tensor, count_E: Tensor) -> Tensor:
    """The definition; groups without rows cost nothing."""
    rows = x_ND.split(count_E.tolist())
    products = [x_MD @ w_DF for x_MD, w_DF in zip(rows, w_EDF.unbind(), strict=True) if len(x_MD)]
    return torch.cat(products) if products else x_ND @ w_EDF[0]
