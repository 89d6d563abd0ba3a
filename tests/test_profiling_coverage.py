"""What torch.nn and torch.nn.functional offer: billed, element by element, without a product, or named."""

from __future__ import annotations

import inspect
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aspk.profiling import profile_energy

# Calls on x, a batch [2, 64]; a, b and c are the same values as signals, images and volumes.
BILLED = """
    nn.AdaptiveLogSoftmaxWithLoss(64, 20, [5, 10]).log_prob(x)  nn.Bilinear(64, 64, 3)(x, x)
    nn.Conv1d(4, 2, 3)(a)  nn.Conv2d(4, 2, 3)(b)  nn.Conv3d(1, 2, 3)(c)  nn.ConvTranspose1d(4, 2, 3)(a)
    nn.ConvTranspose2d(4, 2, 3)(b)  nn.ConvTranspose3d(1, 2, 3)(c)  nn.LazyConv1d(2, 3)(a)
    nn.LazyConv2d(2, 3)(b)  nn.LazyConv3d(2, 3)(c)  nn.LazyConvTranspose1d(2, 3)(a)
    nn.LazyConvTranspose2d(2, 3)(b)  nn.LazyConvTranspose3d(2, 3)(c)  nn.GRU(16, 4)(a)
    nn.GRUCell(64, 4)(x)  nn.LSTM(16, 4)(a)  nn.LSTMCell(64, 4)(x)  nn.RNN(16, 4)(a)  nn.RNNCell(64, 4)(x)
    nn.Linear(64, 2)(x)  nn.LazyLinear(2)(x)  nn.LinearCrossEntropyLoss(64, 5)(x,labels)
    nn.MultiheadAttention(16, 2)(a, a, a)  nn.Transformer(16, 2, 1, 1, 8)(a, a)
    nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 2, 8), 1)(a, a)
    nn.TransformerDecoderLayer(16, 2, 8)(a, a)  nn.TransformerEncoderLayer(16, 2, 8)(a)
    nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 8), 1, enable_nested_tensor=False)(a)
    nn.Upsample(scale_factor=2, mode="bilinear")(b)  nn.UpsamplingBilinear2d(8)(b)
    F.affine_grid(x.view(-1, 4)[:, :3].reshape(-1, 2, 3)[:2], [2, 1, 4, 4])
    F.bilinear(x, x, w.view(1, 64, 64))  F.conv1d(a, w[:3, :4, None])  F.conv2d(b, w[:3, :4, None, None])
    F.conv3d(c, w[:3, :1, None, None, None])  F.conv_tbc(a, w[None, :16, :3], w[0, :3])
    F.conv_transpose1d(a, w[:4, :3, None])  F.conv_transpose2d(b, w[:4, :3, None, None])
    F.conv_transpose3d(c, w[:1, :3, None, None, None])
    F.embedding_bag(labels[None], w, per_sample_weights=x[0, :2][None], mode="sum")
    F.grid_sample(b, b[..., :2])  F.grouped_mm(a.bfloat16(), w[:32].view(2, 16, 64).bfloat16())
    F.interpolate(b, 8, mode="bicubic")  F.linear(x, w)  F.linear_cross_entropy(x, w, labels)
    F.multi_head_attention_forward(*[a] * 3, 16, 2, w[:48, :16], *[None] * 3, False, 0.0, w[:16, :16], None)
    F.pdist(x)  F.scaled_dot_product_attention(a, a, a)
    F.scaled_mm(f8(x.view(-1, 16)), f8(w[:16, :16]).T, one, tensorwise, one, tensorwise)
    F.upsample(b, 8, mode="bilinear")  F.upsample_bilinear(b, 8)
"""
# Functions of single values, of two at the same place, or of the mean and variance of many; losses.
ELEMENTWISE = """
    nn.BCELoss()(p, p)  nn.BCEWithLogitsLoss()(x, p)  nn.BatchNorm1d(4)(a)  nn.BatchNorm2d(4)(b)
    nn.BatchNorm3d(1)(c)  nn.SyncBatchNorm(4)(b)  nn.LazyBatchNorm1d()(a)  nn.LazyBatchNorm2d()(b)
    nn.LazyBatchNorm3d()(c)  nn.InstanceNorm1d(4)(a)  nn.InstanceNorm2d(4)(b)  nn.InstanceNorm3d(1)(c)
    nn.LazyInstanceNorm1d()(a)  nn.LazyInstanceNorm2d()(b)  nn.LazyInstanceNorm3d()(c)
    nn.GroupNorm(2, 4)(b)  nn.LayerNorm(64)(x)  nn.RMSNorm(64)(x)  nn.CrossMapLRN2d(2)(b)
    nn.LocalResponseNorm(2)(b)  nn.LPPool1d(2.0, 2)(a)  nn.LPPool2d(2.0, 2)(b)  nn.LPPool3d(2.0, 2)(c)
    nn.CELU()(x)  nn.ELU()(x)  nn.GELU()(x)  nn.GLU()(x)  nn.Hardshrink()(x)  nn.Hardsigmoid()(x)
    nn.Hardswish()(x)  nn.LeakyReLU()(x)  nn.LogSigmoid()(x)  nn.LogSoftmax(-1)(x)  nn.Mish()(x)
    nn.PReLU()(x)  nn.RReLU()(x)  nn.SELU()(x)  nn.SiLU()(x)  nn.Sigmoid()(x)  nn.Softmax(-1)(x)
    nn.Softmax2d()(b)  nn.Softmin(-1)(x)  nn.Softplus()(x)  nn.Softshrink()(x)  nn.Softsign()(x)
    nn.Tanh()(x)  nn.Tanhshrink()(x)  nn.CosineEmbeddingLoss()(x, x, ones[:, 0])
    nn.CosineSimilarity()(x, x)  nn.PairwiseDistance()(x, x)  nn.CrossEntropyLoss()(x, labels)
    nn.GaussianNLLLoss()(x, x, p)  nn.HingeEmbeddingLoss()(x, one)  nn.HuberLoss()(x, p)
    nn.KLDivLoss(reduction="sum")(x, p)  nn.MSELoss()(x, p)  nn.MarginRankingLoss()(x, p, ones)
    nn.MultiLabelSoftMarginLoss()(x, p)  nn.NLLLoss()(x, labels)
    nn.NLLLoss2d()(b, labels.view(2, 1, 1).expand(2, 4, 4))  nn.PoissonNLLLoss()(x, p)
    nn.SmoothL1Loss()(x, p)  nn.SoftMarginLoss()(x, ones)  nn.TripletMarginLoss()(x, p, x + 1)
    nn.TripletMarginWithDistanceLoss()(x, p, x + 1)  F.batch_norm(b, w[0, :4], p[0, :4])
    F.binary_cross_entropy(p, p)  F.binary_cross_entropy_with_logits(x, p)  F.celu(x)  F.celu_(x + 0)
    F.elu(x)  F.elu_(x + 0)  F.gelu(x)  F.glu(x)  F.cosine_embedding_loss(x, x, ones[:, 0])
    F.cosine_similarity(x, x)  F.cross_entropy(x, labels)  F.gaussian_nll_loss(x, x, p)
    F.group_norm(b, 2)  F.gumbel_softmax(x)  F.hardshrink(x)  F.hardsigmoid(x)  F.hardswish(x)
    F.hinge_embedding_loss(x, one)  F.huber_loss(x, p)  F.instance_norm(b)
    F.kl_div(x, p, reduction="sum")  F.layer_norm(x, [64])  F.leaky_relu(x)  F.leaky_relu_(x + 0)
    F.local_response_norm(b, 2)  F.log_softmax(x, -1)  F.logsigmoid(x)  F.lp_pool1d(a, 2.0, 2)
    F.lp_pool2d(b, 2.0, 2)  F.lp_pool3d(c, 2.0, 2)  F.margin_ranking_loss(x, p, ones)  F.mish(x)
    F.mse_loss(x, p)  F.multilabel_soft_margin_loss(x, p)  F.nll_loss(x, labels)  F.normalize(x)
    F.pairwise_distance(x, x)  F.poisson_nll_loss(x, p)  F.prelu(x, w[0, :1])  F.rms_norm(x, [64])
    F.rrelu(x)  F.rrelu_(x + 0)  F.selu(x)  F.selu_(x + 0)  F.sigmoid(x)  F.silu(x)
    F.smooth_l1_loss(x, p)  F.soft_margin_loss(x, ones)  F.softmax(x, -1)  F.softmin(x, -1)  F.softplus(x)
    F.softshrink(x)  F.softsign(x)  F.tanh(x)  F.tanhshrink(x)  F.triplet_margin_loss(x, p, x + 1)
    F.triplet_margin_with_distance_loss(x, p, x + 1)
"""
# Values are moved, chosen, added or averaged.
NO_PRODUCT = """
    nn.AdaptiveAvgPool1d(2)(a)  nn.AdaptiveAvgPool2d(2)(b)  nn.AdaptiveAvgPool3d(2)(c)
    nn.AdaptiveMaxPool1d(2)(a)  nn.AdaptiveMaxPool2d(2)(b)  nn.AdaptiveMaxPool3d(2)(c)  nn.AvgPool1d(2)(a)
    nn.AvgPool2d(2)(b)  nn.AvgPool3d(2)(c)  nn.MaxPool1d(2)(a)  nn.MaxPool2d(2)(b)  nn.MaxPool3d(2)(c)
    nn.FractionalMaxPool2d(2, 2)(b)  nn.FractionalMaxPool3d(2, 2)(c)
    nn.MaxUnpool1d(2)(*F.max_pool1d(a, 2, return_indices=True))
    nn.MaxUnpool2d(2)(*F.max_pool2d(b, 2, return_indices=True))
    nn.MaxUnpool3d(2)(*F.max_pool3d(c, 2, return_indices=True))  nn.AlphaDropout().eval()(x)
    nn.Dropout().eval()(x)  nn.Dropout1d().eval()(a)  nn.Dropout2d().eval()(b)  nn.Dropout3d().eval()(c)
    nn.FeatureAlphaDropout().eval()(b)  nn.ChannelShuffle(2)(b)  nn.CircularPad1d(1)(a)
    nn.CircularPad2d(1)(b)  nn.CircularPad3d(1)(c)  nn.ConstantPad1d(1, 0.0)(a)
    nn.ConstantPad2d(1, 0.0)(b)  nn.ConstantPad3d(1, 0.0)(c)  nn.ReflectionPad1d(1)(a)
    nn.ReflectionPad2d(1)(b)  nn.ReflectionPad3d(1)(c)  nn.ReplicationPad1d(1)(a)
    nn.ReplicationPad2d(1)(b)  nn.ReplicationPad3d(1)(c)  nn.ZeroPad1d(1)(a)  nn.ZeroPad2d(1)(b)
    nn.ZeroPad3d(1)(c)  nn.Embedding(9, 2)(labels)  nn.EmbeddingBag(9, 2)(labels[None])  nn.Flatten()(b)
    nn.Unflatten(1, (8, 8))(x)  nn.Fold(4, 2)(b.reshape(2, 4, -1)[..., :9])  nn.Unfold(2)(b)
    nn.Hardtanh()(x)  nn.ReLU()(x)  nn.ReLU6()(x)  nn.Threshold(0.0, 0.0)(x)  nn.Identity()(x)
    nn.L1Loss()(x, p)  nn.PixelShuffle(2)(b)  nn.PixelUnshuffle(2)(b)  nn.UpsamplingNearest2d(8)(b)
    F.adaptive_avg_pool1d(a, 2)  F.adaptive_avg_pool2d(b, 2)  F.adaptive_avg_pool3d(c, 2)
    F.adaptive_max_pool1d(a, 2)  F.adaptive_max_pool2d(b, 2)  F.adaptive_max_pool3d(c, 2)
    F.adaptive_max_pool1d_with_indices(a, 2)  F.adaptive_max_pool2d_with_indices(b, 2)
    F.adaptive_max_pool3d_with_indices(c, 2)  F.avg_pool1d(a, 2)  F.avg_pool2d(b, 2)  F.avg_pool3d(c, 2)
    F.max_pool1d(a, 2)  F.max_pool2d(b, 2)  F.max_pool3d(c, 2)  F.max_pool1d_with_indices(a, 2)
    F.max_pool2d_with_indices(b, 2)  F.max_pool3d_with_indices(c, 2)  F.fractional_max_pool2d(b, 2, 2)
    F.fractional_max_pool3d(c, 2, 2)  F.fractional_max_pool2d_with_indices(b, 2, 2)
    F.fractional_max_pool3d_with_indices(c, 2, 2)
    F.max_unpool1d(*F.max_pool1d(a, 2, return_indices=True), 2)
    F.max_unpool2d(*F.max_pool2d(b, 2, return_indices=True), 2)
    F.max_unpool3d(*F.max_pool3d(c, 2, return_indices=True), 2)  F.alpha_dropout(x, training=False)
    F.dropout(x, training=False)  F.dropout1d(a, training=False)  F.dropout2d(b, training=False)
    F.dropout3d(c, training=False)  F.feature_alpha_dropout(b, training=False)  F.channel_shuffle(b, 2)
    F.native_channel_shuffle(b, 2)  F.embedding(labels, w)  F.one_hot(labels)
    F.fold(b.reshape(2, 4, -1)[..., :9], 4, 2)  F.unfold(b, 2)  F.hardtanh(x)  F.hardtanh_(x + 0)
    F.l1_loss(x, p)  F.pad(b, (1, 1))  F.pixel_shuffle(b, 2)  F.pixel_unshuffle(b, 2)  F.relu(x)
    F.relu6(x)  F.relu_(x + 0)  F.threshold(x, 0.0, 0.0)  F.threshold_(x + 0, 0.0, 0.0)
    F.upsample_nearest(b, 8)
"""
NAMED = """
    nn.CTCLoss()(a.transpose(0, 1), labels[:, None], [4, 4], [1, 1])
    nn.MultiLabelMarginLoss()(x, x.long())  nn.MultiMarginLoss()(x, labels)
    F.ctc_loss(a.transpose(0, 1), labels[:, None], [4, 4], [1, 1])  F.multi_margin_loss(x, labels)
    F.multilabel_margin_loss(x, x.long())
"""
# Containers, base classes and helpers; the last needs a GPU with 8-bit floats.
NO_OPERATION = """
    nn.Container nn.DataParallel nn.Module nn.ModuleDict nn.ModuleList nn.ParameterDict nn.ParameterList
    nn.RNNBase nn.RNNCellBase nn.Sequential F.Optional F.assert_int_or_pair F.boolean_dispatch
    F.handle_torch_function F.has_torch_function F.has_torch_function_unary F.has_torch_function_variadic
    F.scaled_grouped_mm
"""


def calls(table):
    """The calls in a table, by the name of what they call."""
    found = [call.strip() for call in re.split(r"\s+(?=(?:nn|F)\.)", table) if call.strip()]
    return {re.match(r"(nn|F)\.\w+", call).group(): call for call in found}


TABLES = {"billed": BILLED, "element by element": ELEMENTWISE, "no product": NO_PRODUCT, "named": NAMED}
CALLS = [(kind, name, call) for kind, table in TABLES.items() for name, call in calls(table).items()]


class Expression(nn.Module):
    """A first layer, which every profile needs, and an expression of the input."""

    def __init__(self, call):
        super().__init__()
        self.first, self.call = nn.Linear(1, 1), compile(call, call, "eval")
        self.w = nn.Parameter(torch.rand(64, 64))

    def forward(self, x):
        self.first(x[:, :1])
        names = {
            "nn": nn, "F": F, "x": x, "w": self.w, "p": x.clamp(0.1, 0.9),
            "a": x.view(2, 4, 16), "b": x.view(2, 4, 4, 4), "c": x.view(2, 1, 4, 4, 4)[:, :, :, :, :4],
            "labels": (x[:, 0] * 3).long().remainder(4), "one": torch.ones(()), "ones": torch.ones_like(x),
            "f8": lambda y: y.to(torch.float8_e4m3fn), "tensorwise": F.ScalingType.TensorWise,
        }  # fmt: skip
        return eval(self.call, names)  # a call of the tables above


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "name", "call"), CALLS, ids=[name for _, name, _ in CALLS])
def test_each_is_what_its_table_says(kind, name, call):
    torch.manual_seed(0)
    profile = profile_energy(Expression(call), torch.rand(2, 64))
    billed = [layer for layer in profile.layers if layer.name != "first"]
    assert bool(billed) == (kind == "billed")
    assert all(layer.operations > 0 for layer in billed)
    assert bool(profile.not_counted) == (kind == "named")
    assert not profile.offline
    if kind == "no product":
        assert not any(row.kind in ("multiplication", "mask") for row in profile.elementwise)


def test_the_tables_hold_all_that_torch_offers():
    offered = {f"nn.{name}" for name, value in vars(nn).items() if _is_module(value)}
    own = {name: value for name, value in vars(F).items() if callable(value) and name[0] != "_"}
    offered |= {f"F.{name}" for name, value in own.items() if not inspect.isclass(value)}
    sorted_ones = {name for _, name, _ in CALLS} | set(NO_OPERATION.split())
    assert offered - sorted_ones == set()


def _is_module(value):
    return inspect.isclass(value) and issubclass(value, nn.Module)
