"""Networks' layers in the form that engines take: parts of the supernet's layers."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import nn

from aspk.engines.base import Layer, Moments
from aspk.families import Supernet
from aspk.families.base import LIF, Convolution, DepthwiseConvolution, Product
from aspk.families.layers import ConvNorm, LinearNorm, Site
from aspk.families.supernet import part


class Slices:
    """Layers of a supernet's networks; equal layers are one object.

    Args:
        supernet: the weights; not changed.
    """

    def __init__(self, supernet: Supernet) -> None:
        self._supernet = supernet
        self._layers: dict[Hashable, Layer] = {}

    def layer(self, product: Product) -> Layer:
        """Layers that read the same input, joined into one: parts of the supernet's layers."""
        key = (*product.names, *product.form, type(product))
        if key not in self._layers:
            sites = [self._supernet.network.get_submodule(name) for name in product.names]
            self._layers[key] = _joined([_part(product, site) for site in sites])
        return self._layers[key]

    def reciprocal_tau(self, name: str, neurons: LIF) -> float | None:
        """1 / tau, if it is learnt, of the neurons of a module without other weights."""
        if not neurons.learnt:
            return None
        site = self._supernet.network.get_submodule(name)
        assert isinstance(site, Site)
        learnt = site.reciprocal_tau()
        assert learnt is not None
        return learnt.item()


def _part(product: Product, site: nn.Module) -> Layer:
    """The part of one of the supernet's layers that a network's layer is."""
    assert isinstance(site, ConvNorm | LinearNorm)
    layer, norm, outputs = (
        site.conv if isinstance(site, ConvNorm) else site.linear,
        site.norm,
        product.outputs,
    )
    assert norm.running_mean is not None
    assert norm.running_var is not None
    bias = 0.0 if layer.bias is None else layer.bias[:outputs].double()
    leak = site.reciprocal_tau()
    return Layer(
        names=product.names,
        weight=layer.weight[part(layer.weight.shape, product.form)],
        gain=norm.weight[:outputs],
        offset=norm.bias[:outputs],
        running=Moments(norm.running_mean[:outputs].double() - bias, norm.running_var[:outputs].double()),
        eps=norm.eps,
        reciprocal_tau=None if leak is None else leak.double().expand(outputs),
        stride=product.stride if isinstance(product, Convolution) else 1,
        depthwise=isinstance(product, DepthwiseConvolution),
    )


def _joined(layers: Sequence[Layer]) -> Layer:
    """Layers stacked along their outputs."""
    if len(layers) == 1:
        return layers[0]
    running = Moments(
        torch.cat([layer.running.mean for layer in layers]),
        torch.cat([layer.running.variance for layer in layers]),
    )
    learnt = [layer.reciprocal_tau for layer in layers if layer.reciprocal_tau is not None]
    return Layer(
        names=layers[0].names,
        weight=torch.cat([layer.weight for layer in layers]),
        gain=torch.cat([layer.gain for layer in layers]),
        offset=torch.cat([layer.offset for layer in layers]),
        running=running,
        eps=layers[0].eps,
        reciprocal_tau=torch.cat(learnt) if learnt else None,
    )
