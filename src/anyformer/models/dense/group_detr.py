"""Group DETR: in training, several groups of object queries, each matched with the truth by itself.

Chen et al. 2022, arXiv:2207.13085.
"""

from __future__ import annotations

from typing import Any

from anyformer.core.errors import OptionError
from anyformer.core.spec import Spec
from anyformer.models.dense.detr import DETR, frozen
from anyformer.models.factory import model_spec

PAPERS = ("group_detr",)


class GroupDETR(DETR):
    """DETR with `groups` x `queries` object queries in training; in evaluation the first group alone, a plain DETR.

    Chen et al. 2022, arXiv:2207.13085, section 3.2: groups share encoder, decoder and heads, queries of one group do
    not see those of another, and every object has one responsible query in each group. Cost of training: the decoder's,
    `groups` times; of evaluation: DETR's.

    Args:
        groups: groups of queries in training.
        options: as `DETR`'s; `queries` are those of one group.

    Raises:
        OptionError: no groups.
    """

    name = "group_detr"

    def __init__(self, *, groups: int = 11, **options: Any):
        if groups < 1:
            raise OptionError(f"{self.name} has one group of queries or more; given groups={groups}.")
        self.groups = groups
        super().__init__(**options)

    def query_rows(self) -> int:
        return self.groups * self.queries

    def running_groups(self) -> int:
        return self.groups if self.training else 1


VARIANTS = {
    # Table 1 of the paper trains DETRs of this backbone with 11 groups.
    "group_detr_resnet50": Spec("group_detr", backbone=frozen("resnet50")),
    # Ours, for images of 32 to 128 pixels and for tests.
    "group_detr_micro": Spec("group_detr", groups=5, **model_spec("detr_micro").options),
}
