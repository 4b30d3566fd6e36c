"""Which rule serves which operation, by the name of its autograd node.

To cover another operation, subclass :class:`~unlearn_bench.fisher.rule.Rule` and name it here.
"""

from unlearn_bench.fisher.convolution import Convolution
from unlearn_bench.fisher.elementwise import Elementwise, Embedding, Expand
from unlearn_bench.fisher.linear import Linear
from unlearn_bench.fisher.norms import BatchNorm, GroupNorm, LayerNorm
from unlearn_bench.fisher.rule import Rule

RULES: dict[str, type[Rule]] = {
    "ConvolutionBackward0": Convolution,
    "AddmmBackward0": Linear,
    "MmBackward0": Linear,
    "NativeBatchNormBackward0": BatchNorm,
    "CudnnBatchNormBackward0": BatchNorm,
    "NativeLayerNormBackward0": LayerNorm,
    "NativeGroupNormBackward0": GroupNorm,
    "AddBackward0": Elementwise,
    "SubBackward0": Elementwise,
    "MulBackward0": Elementwise,
    "PreluKernelBackward0": Elementwise,
    "ExpandBackward0": Expand,
    "RepeatBackward0": Expand,
    "EmbeddingBackward0": Embedding,
}
