"""Whatever multiplies is billed: each product of torch.nn and torch.nn.functional against a bill by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron
from torch import nn

from aspk.energy import PAPER, EnergyModel, energy_table
from aspk.profiling import profile_energy


def spikes(*shape, rate=0.3, seed=0):
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


class Calls(nn.Module):
    """A function of the input and of one weight."""

    def __init__(self, function, *shape):
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.randn(*shape))

    def forward(self, x):
        return self.function(x, self.weight)


def dense(profile):
    """Dense multiply-accumulates of one image."""
    return sum(layer.operations * layer.repeats for layer in profile.layers)


def ac(profile):
    return sum(bill.ac for bill in energy_table(profile.layers, EnergyModel(padding="exact")))


B, N, L, D = 2, 5, 3, 4
ENDS = torch.tensor([2, 8], dtype=torch.int32)  # of two groups
BAG = torch.randint(0, 9, (B, L))

# name: module, input, dense operations of one image by hand
DENSE = {
    "linear": (nn.Linear(D, N), torch.randn(B, D), D * N),
    "linear of tokens": (nn.Linear(D, N), torch.randn(B, L, D), L * D * N),
    "functional linear": (Calls(F.linear, N, D), torch.randn(B, L, D), L * D * N),
    "matmul": (Calls(torch.matmul, D, N), torch.randn(B, L, D), L * D * N),
    "mv": (Calls(lambda x, w: torch.mv(w, x[0])[None], N, D), torch.randn(1, D), N * D),
    "mv of an activation": (Calls(torch.mv, D), torch.randn(B, D), D),
    "dot": (Calls(lambda x, w: torch.dot(x[0], w)[None], D), torch.randn(1, D), D),
    "vdot": (Calls(lambda x, w: torch.vdot(w, x[0])[None], D), torch.randn(1, D), D),
    "addmm": (Calls(lambda x, w: torch.addmm(torch.zeros(N), x, w), D, N), torch.randn(B, D), D * N),
    "addmv": (Calls(lambda x, w: torch.addmv(torch.zeros(B), x, w), D), torch.randn(B, D), D),
    "addr": (
        Calls(lambda x, w: torch.addr(torch.zeros(D, N), x[0], w)[None], N), torch.randn(1, D), D * N
    ),
    "bmm": (Calls(torch.bmm, B, D, N), torch.randn(B, L, D), L * D * N),
    "baddbmm": (
        Calls(lambda x, w: torch.baddbmm(torch.zeros(B, L, N), x, w), B, D, N),
        torch.randn(B, L, D),
        L * D * N,
    ),
    "addbmm": (
        Calls(lambda x, w: torch.addbmm(torch.zeros(L, N), x, w)[None], 1, D, N),
        torch.randn(1, L, D),
        L * D * N,
    ),
    "addmm_": (
        Calls(lambda x, w: torch.zeros(B, N).addmm_(x, w), D, N), torch.randn(B, D), D * N
    ),
    "einsum": (
        Calls(lambda x, w: torch.einsum("bld,nd->bln", x, w), N, D), torch.randn(B, L, D), L * D * N
    ),
    "tensordot": (
        Calls(lambda x, w: torch.tensordot(x, w, dims=1), D, N), torch.randn(B, L, D), L * D * N
    ),
    "inner": (Calls(torch.inner, N, D), torch.randn(B, D), D * N),
    "sparse weights": (
        Calls(lambda x, w: torch.sparse.mm(w.to_sparse(), x.T).T, N, D), torch.randn(B, D), D * N
    ),
    "conv1d": (nn.Conv1d(D, N, 3), torch.randn(B, D, 7), N * 5 * D * 3),
    "conv3d": (nn.Conv3d(1, N, 2), torch.randn(B, 1, 3, 3, 3), N * 8 * 8),
    "functional conv": (Calls(F.conv2d, N, D, 3, 3), torch.randn(B, D, 5, 5), N * 9 * D * 9),
    "unfold and matmul": (
        Calls(lambda x, w: w @ F.unfold(x, 3), N, 9 * D), torch.randn(B, D, 5, 5), N * 9 * D * 9
    ),
    "RNN": (nn.RNN(D, N, batch_first=True), torch.randn(B, L, D), L * N * (D + N)),
    "GRU": (nn.GRU(D, N, batch_first=True), torch.randn(B, L, D), 3 * L * N * (D + N)),
    "LSTM": (nn.LSTM(D, N, batch_first=True), torch.randn(B, L, D), 4 * L * N * (D + N)),
    "LSTM, two layers both ways": (
        nn.LSTM(D, N, num_layers=2, bidirectional=True, batch_first=True),
        torch.randn(B, L, D),
        2 * 4 * L * N * (D + N) + 2 * 4 * L * N * (2 * N + N),
    ),
    "LSTM with a projection": (
        nn.LSTM(D, N, proj_size=2, batch_first=True), torch.randn(B, L, D), L * (4 * N * (D + 2) + N * 2)
    ),
    "LSTMCell": (nn.LSTMCell(D, N), torch.randn(B, D), 4 * N * (D + N)),
    "conv_tbc": (  # time, which comes first, is summed over: of 7 steps 5 are left
        Calls(lambda x, w: F.conv_tbc(x.mT.permute(2, 0, 1).contiguous(), w, w[0, 0]), 3, D, N),
        torch.randn(B, 7, D),
        5 * N * 3 * D,
    ),
    "affine_grid": (
        Calls(lambda x, w: F.affine_grid(x * 1, [B, 1, 4, 5], align_corners=False) + w, 1),
        torch.randn(B, 2, 3),
        4 * 5 * 2 * 3,
    ),
    "grouped": (
        Calls(lambda x, w: F.grouped_mm(x.bfloat16(), w.bfloat16()), B, 8, 16),
        torch.randn(B, 8, 8),
        8 * 8 * 16,
    ),
    "grouped rows": (
        Calls(lambda x, w: F.grouped_mm(x.bfloat16(), w.bfloat16(), offs=ENDS), 2, 8, 16),
        torch.randn(6, 8),
        8 * 16,
    ),
    "grouped columns": (  # of two images with 8 rows, one meets 8 columns and the other 24
        Calls(lambda x, w: F.grouped_mm(x.bfloat16(), w.bfloat16(), offs=ENDS * 4), 8, 32),
        torch.randn(2, 8, 8),
        8 * 8 * 32 // 2,
    ),
    "weighted bag": (
        Calls(lambda x, w: F.embedding_bag(BAG, w, per_sample_weights=x, mode="sum"), 9, D),
        torch.randn(B, L),
        L * D,
    ),
    "GRUCell": (nn.GRUCell(D, N), torch.randn(B, D), 3 * N * (D + N)),
}  # fmt: skip


@pytest.mark.parametrize("name", DENSE)
def test_products_by_hand(name):
    torch.manual_seed(0)
    module, x, operations = DENSE[name]
    profile = profile_energy(module, x, time_first=False)
    assert dense(profile) == operations
    assert profile.not_counted == ()
    assert profile.energy_mj(EnergyModel(first_layer_repeats="1")) == pytest.approx(operations * 4.6e-9)


def test_a_bilinear_layer_is_two_products():
    """x W, then (x W) z: i * j * o and o * j."""
    module = nn.Bilinear(3, 4, 5, bias=False)
    profile = profile_energy(module, (torch.randn(2, 3), torch.randn(2, 4)))
    assert [(layer.kind, layer.operations) for layer in profile.layers] == [
        ("linear", 3 * 4 * 5),
        ("attention", 5 * 4),
    ]
    assert profile.layers[0].parameters == 60


class Own(nn.Module):
    """Attention over [B, L, D] in torch's forms, after a layer whose output fires."""

    def __init__(self, form):
        super().__init__()
        torch.manual_seed(1)
        self.form, self.first = form, nn.Linear(D, D, bias=False)
        self.attention = nn.MultiheadAttention(D, 2, bias=False, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(D, 2, 8, batch_first=True)
        self.decoder = nn.TransformerDecoderLayer(D, 2, 8, batch_first=True)

    def forward(self, x):
        x = self.first(x)
        if self.form == "encoder":
            return self.encoder(x)
        if self.form == "decoder":
            return self.decoder(x, x)
        if self.form == "cross":
            return self.attention(x, x[:, :2], x[:, :2], need_weights=False)[0]
        if self.form == "masked":
            mask = torch.ones(L, L, dtype=torch.bool).triu(1)
            return self.attention(x, x, x, attn_mask=mask, need_weights=True)[0]
        return self.attention(x, x, x, need_weights=False)[0]


SELF = 4 * L * D * D + 2 * L * L * D  # in and out projection, q kᵀ, (q kᵀ) v
FORMS = {
    "self": SELF,
    "masked": SELF,
    "cross": 2 * L * D * D + 2 * 2 * D * D + 2 * L * 2 * D,
    "encoder": SELF + 2 * L * D * 8,
    "decoder": 2 * SELF + 2 * L * D * 8,
}


@pytest.mark.parametrize("form", FORMS)
def test_attention_of_torch_is_billed(form):
    profile = profile_energy(Own(form), torch.randn(B, L, D), time_first=False)
    assert dense(profile) == L * D * D + FORMS[form]
    assert profile.not_counted == ()


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 2.0}, {"enable_gqa": True}])
def test_fused_attention_is_billed_by_its_spikes_and_computes_the_same(options):
    heads = 2 if "enable_gqa" in options else 4
    q, k, v = spikes(B, 4, 5, 3), spikes(B, heads, 5, 3, seed=1), spikes(B, heads, 5, 3, seed=2)
    seen = []

    class Fused(nn.Module):
        def forward(self, q, k, v):
            seen.append(F.scaled_dot_product_attention(q, k, v, **options))
            return seen[-1]

    profile = profile_energy(Fused(), (q, k, v), time_first=False)
    (watched,) = seen
    torch.testing.assert_close(watched, F.scaled_dot_product_attention(q, k, v, **options))
    qk, av = profile.layers
    assert (qk.source, av.source) == ("spikes", "spikes")
    assert energy_table([qk], PAPER)[0].ac == pytest.approx(float(q.sum()) * 5 / B)
    assert energy_table([av], PAPER)[0].ac == pytest.approx(float(v.sum()) * (4 / heads) * 5 / B)


def test_a_pinned_kernel_is_watched_all_the_same():
    class Pinned(nn.Module):
        def forward(self, x):
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
                return F.scaled_dot_product_attention(x, x, x)

    assert dense(profile_energy(Pinned(), torch.randn(B, L, D), time_first=False)) == 2 * L * L * D
    assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch._C._get_mkldnn_enabled()


def test_compiled_modules_are_watched():
    module = torch.compile(nn.Sequential(nn.Linear(D, N), nn.ReLU(), nn.Linear(N, 2)))
    assert dense(profile_energy(module, torch.randn(B, D))) == D * N + 2 * N


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["dynamic linear", "linear", "conv", "conv1d"])
def test_quantised_layers(kind):
    torch.manual_seed(0)
    quantised = torch.ao.nn.quantized
    if kind == "dynamic linear":
        module = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(D, N)), {nn.Linear})
        x, operations = spikes(B, D), D * N
    else:
        module, shape, operations = {
            "linear": (quantised.Linear(D, N), (B, D), D * N),
            "conv": (quantised.Conv2d(2, N, 3, stride=2, padding=1), (B, 2, 6, 6), N * 9 * 18),
            "conv1d": (quantised.Conv1d(2, N, 3), (B, 2, 6), N * 4 * 6),
        }[kind]
        x = torch.quantize_per_tensor(spikes(*shape), 1.0, 0, torch.quint8)
    profile = profile_energy(module, x, time_first=False)
    assert [layer.source for layer in profile.layers] == ["spikes"]
    assert dense(profile) == operations
    if kind.endswith("linear"):
        plain = x.dequantize() if x.is_quantized else x
        assert ac(profile) == pytest.approx(float(plain.sum()) * N / B)


def test_complex_products_are_four_real_ones():
    class Rotates(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Parameter(torch.randn(D, N, dtype=torch.complex64))
            self.last = nn.Parameter(torch.ones(N, N, dtype=torch.complex64))

        def forward(self, x):
            y = x.to(torch.complex64) @ self.first
            return (torch.round(y.real) + 0j) @ self.last

    profile = profile_energy(Rotates(), torch.randn(B, D), time_first=False)
    assert [layer.operations for layer in profile.layers] == [4 * D * N, 4 * N * N]
    assert profile.energy_mj() == pytest.approx(4 * (D * N + N * N) * 4.6e-9)  # whole numbers, but no events


def test_what_is_in_no_table_is_named():
    class Transforms(nn.Module):
        def forward(self, x):
            return torch.fft.rfft(x @ x.mT).real[..., :1] + torch.linalg.inv(x @ x.mT + torch.eye(L))

    profile = profile_energy(Transforms(), torch.randn(B, L, L), time_first=False)
    named = {one.operator: one for one in profile.not_counted}
    assert set(named) == {"aten::_fft_r2c", "aten::linalg_inv_ex"}
    assert named["aten::_fft_r2c"].calls == 1
    assert "Not counted: aten::_fft_r2c, 1 call, operands [2, 3, 3]." in str(profile)


def test_ordinary_networks_leave_nothing_uncounted():
    class Everything(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(10, D)
            self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, N)
            self.conv, self.group = nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4)

        def forward(self, x):
            y = self.norm(self.embed(x).sum(1))
            z = F.max_pool2d(F.gelu(self.group(self.conv(y.view(-1, 1, 2, 2)))), 2)
            z = torch.cat([z.flatten(1), F.pad(y, (0, 1))[:, 1:]], 1).sort(1).values.topk(D).values
            z = F.dropout(F.softmax(z.clamp(min=-1), -1), training=self.training)
            return F.log_softmax(self.head(F.normalize(z.roll(1, 1))), -1).argmax(-1)

    assert profile_energy(Everything(), torch.randint(0, 10, (B, 6))).not_counted == ()


class Attention(nn.Module):
    """(q kᵀ) v of spikes [B, T, L, D], all steps at once or one after the other."""

    def __init__(self, *, steps):
        super().__init__()
        self.steps = steps

    def attend(self, x):
        q, k, v = x, x.roll(1, -1), x.roll(2, -2)
        return (q @ k.mT) @ v

    def forward(self, x):
        parts = x.unbind(1) if self.steps else [x]
        return [self.attend(part) for part in parts]


def test_products_of_activations_are_billed_for_one_side_in_all_calls_and_batches():
    x = spikes(2 * B, 4, 9, D)
    x[:, 0] = 0.0  # in a call with the first step alone, q kᵀ holds 0 and 1 only
    x[0, :] = spikes(4, 9, D, rate=0.05)
    whole = profile_energy(Attention(steps=False), x, time_first=False)
    bill = energy_table(whole.layers, PAPER)[-1].ac
    assert bill == pytest.approx(float(x.sum()) / len(x) * 9)  # each spike of v meets nine tokens
    for module, batches in (
        (Attention(steps=True), x),
        (Attention(steps=False), list(x.split(1))),
        (Attention(steps=True), list(x.split(1))),
    ):
        found = profile_energy(module, batches, time_first=False, progress=False)
        assert [row.ac for row in energy_table(found.layers, PAPER)] == pytest.approx(
            [row.ac for row in energy_table(whole.layers, PAPER)]
        )
        assert ac(found) == pytest.approx(ac(whole))
        exact = EnergyModel(attention="exact")
        assert found.energy_mj(exact) == pytest.approx(whole.energy_mj(exact))


def test_tied_weights_are_billed_for_each_direction():
    class Autoencoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.kernel = nn.Parameter(torch.ones(3, 8)), nn.Parameter(torch.ones(2, 1, 2, 2))

        def forward(self, x):
            code = (F.linear((x > 0).float(), self.weight) > 2).float()
            image = (F.linear(code, self.weight.t()) > 0).float().view(-1, 1, 2, 4)
            parts = (F.conv2d(image, self.kernel, stride=2) > 1).float()
            return code, image, parts, F.conv_transpose2d(parts, self.kernel, stride=2)

    x, module = spikes(6, 8), Autoencoder()
    code, image, parts, _ = module(x)
    profile = profile_energy(module, x)
    expected = [x.sum() * 3, code.sum() * 8, image.sum() * 2, parts.sum() * 4]
    assert [layer.name for layer in profile.layers] == ["weight", "weight.2", "kernel", "kernel.2"]
    bills = energy_table(profile.layers, PAPER)
    assert [bill.ac for bill in bills] == pytest.approx([float(count) / 6 for count in expected])
    assert sum(layer.parameters for layer in profile.layers) == 3 * 8 + 2 * 4


@pytest.mark.parametrize("form", ["td,dc->tc", "oc,tbcn->tbon"])
def test_products_written_as_einsum_run_at_each_step_as_others_do(form):
    class Written(nn.Module):
        def __init__(self, einsum):
            super().__init__()
            self.einsum, self.weight = einsum, nn.Parameter(torch.ones(D, D))
            self.neurons = neuron.IFNode(v_threshold=3.0, step_mode="m")

        def forward(self, x):  # [T, B, D, L]
            if not self.einsum:
                return self.neurons(self.weight @ x)
            if form.startswith("oc"):
                return self.neurons(torch.einsum(form, self.weight, x))
            rows = x.movedim(2, 3).flatten(0, 2)
            return self.neurons(torch.einsum(form, rows, self.weight).view(*x.movedim(2, 3).shape))

    x = spikes(4, B, D, L)
    found, other = (profile_energy(Written(einsum), x, time_first=True) for einsum in (True, False))
    assert [layer.repeats for layer in found.layers] == [4]
    assert found.layers[0].input_sums == pytest.approx(other.layers[0].input_sums)
    assert found.compare().break_evens[0].counterpart_mj == pytest.approx(
        other.compare().break_evens[0].counterpart_mj
    )
