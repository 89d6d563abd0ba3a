"""Search spaces that several tests share."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from aspk.space import SearchSpace
from aspk.space.file import load_space, space_from_dict

FOLDER = Path(__file__).resolve().parent.parent / "search_spaces"

# Every optional gene; one block gene moved to the network; heads as a cost gene.
SWITCHES = space_from_dict(
    {
        "name": "switches",
        "settings": {"heads": "fixed_head_dim", "head_dim": 8, "reset": "soft", "decay_input": False},
        "network": {
            "embed_dim": [16, 24, 40],
            "depth": [1, 3],
            "time_steps": [2],
            "stem_v_threshold": [0.5, 1.0],
            "stem_tau": [1.5, 2, 8],
            "tau": [2, 3, 4.5],
        },
        "block": {
            "mlp_ratio": [1, 2],
            "num_heads": [1, 5],
            "v_threshold": [0.5, 1],
            "attention_v_threshold": [0.25, 0.5, 0.75],
        },
        "reference": {
            "embed_dim": 24,
            "depth": 3,
            "time_steps": 2,
            "stem_v_threshold": 1.0,
            "stem_tau": 2,
            "tau": 2,
            "mlp_ratio": 2,
            "num_heads": 5,
            "v_threshold": 1,
            "attention_v_threshold": 0.5,
        },
    }
)


def narrow(space: SearchSpace, *, by: int = 8) -> SearchSpace:
    """A space of published width at a fraction of it: the same genes, and less to compute."""
    every = [int(width) // by for width in space.network["embed_dim"]]
    widths, widest = tuple(dict.fromkeys((every[0], every[-1]))), every[-1]
    reference = dataclasses.replace(space.reference, embed_dim=widest)
    return dataclasses.replace(space, network={**space.network, "embed_dim": widths}, reference=reference)


def shipped(name: str) -> SearchSpace:
    """A shipped space; those of published width narrowed, apart from the paper's own."""
    space = load_space(FOLDER / f"{name}.toml")
    wide = ("sdt", "spikingformer", "auto_spikformer_t", "auto_spikformer_neurons")
    return narrow(space, by=6) if name == "maxformer" else narrow(space) if name in wide else space


PAPER = load_space(FOLDER / "auto_spikformer.toml")
TINY = load_space(FOLDER / "tiny.toml")
# Fixed here, so that a change of a shipped file changes no expectation.
FIXED = space_from_dict(
    {
        "name": "fixed",
        "settings": {"patch_size": 2},
        "network": {"embed_dim": [24, 32, 48, 64], "depth": [1, 2], "time_steps": [1, 2, 3, 4]},
        "block": {
            "mlp_ratio": [1, 1.5, 2],
            "num_heads": [2, 4],
            "v_threshold": [0.6, 0.8, 1.0, 1.2, 1.4],
            "tau": [1.25, 2, 4],
        },
        "reference": {
            "embed_dim": 64,
            "depth": 2,
            "time_steps": 4,
            "mlp_ratio": 2,
            "num_heads": 4,
            "v_threshold": 1.0,
            "tau": 2,
        },
    }
)
SMALL = space_from_dict(
    {
        "network": {"embed_dim": [8, 16], "depth": [1, 2], "time_steps": [1]},
        "block": {"mlp_ratio": [1, 2], "num_heads": [2], "v_threshold": [0.5, 1.0], "tau": [2]},
        "reference": {
            "embed_dim": 16,
            "depth": 2,
            "time_steps": 1,
            "mlp_ratio": 2,
            "num_heads": 2,
            "v_threshold": 1.0,
            "tau": 2,
        },
    }
)


def neuron_genes(name: str, *, shared: tuple[str, ...]) -> SearchSpace:
    """LIF and PLIF; which of ``neuron`` and ``tau`` all blocks share."""
    genes = {"neuron": ["plif", "lif"], "tau": [1.25, 2, 4]}
    return space_from_dict(
        {
            "name": name,
            "network": {
                "embed_dim": [16, 24],
                "depth": [1, 3],
                "time_steps": [2],
                "stem_neuron": ["lif", "plif"],
                "stem_tau": [1.5, 2],
                **{gene: genes[gene] for gene in shared},
            },
            "block": {
                "mlp_ratio": [1],
                "num_heads": [2],
                "v_threshold": [0.5],
                **{gene: choices for gene, choices in genes.items() if gene not in shared},
            },
            "reference": {
                "embed_dim": 24,
                "depth": 3,
                "time_steps": 2,
                "stem_neuron": "plif",
                "stem_tau": 2,
                "mlp_ratio": 1,
                "num_heads": 2,
                "v_threshold": 0.5,
                "neuron": "lif",
                "tau": 2,
            },
        }
    )


NEURONS = (
    neuron_genes("neurons", shared=()),
    neuron_genes("shared_tau", shared=("tau",)),
    neuron_genes("shared_neuron", shared=("neuron",)),
    neuron_genes("shared_neurons", shared=("neuron", "tau")),
)


def mixers(
    name: str, settings: dict[str, object], *, words: tuple[str, ...], **network: object
) -> SearchSpace:
    """Token mixers with the genes that they leave without meaning, and learnt neurons."""
    return space_from_dict(
        {
            "name": name,
            "settings": {"attention_scale": 1.0, **settings},
            "network": {"embed_dim": [16, 24], "depth": [1, 2], "time_steps": [2, 3], **network},
            "block": {
                "mlp_ratio": [1, 2],
                "num_heads": [2, 4],
                "mixer": [*words],
                "neuron": ["lif", "plif"],
                "v_threshold": [0.5, 0.6],
                "tau": [2, 4],
                "attention_v_threshold": [0.5, 1.0],
            },
            "reference": {
                "embed_dim": 24,
                "depth": 2,
                "time_steps": 2,
                "mlp_ratio": 1,
                "num_heads": 2,
                "mixer": words[0],
                "neuron": "lif",
                "v_threshold": 0.5,
                "tau": 2,
                "attention_v_threshold": 0.5,
                **{gene: choices[0] for gene, choices in network.items()},  # type: ignore[index]  # lists
            },
        }
    )


_SDT = {"family": "membrane", "stem": "sdt", "head": "sdt"}
_FIXED = {"heads": "fixed_head_dim", "head_dim": 8}
_STEM = {"stem_neuron": ["lif", "plif"], "stem_tau": [1.5, 2], "stem_v_threshold": [0.5, 0.75]}
MIXERS = (
    mixers("mixers", {}, words=("ssa", "none", "sdsa", "qk_token")),
    mixers("mixers_without_v", _FIXED, words=("qk_token", "none")),
    mixers("membrane", {"family": "membrane"}, words=("ssa", "sdsa", "qk_token", "none"), **_STEM),
    mixers("membrane_sdt", {**_SDT, **_FIXED, "reset": "soft"}, words=("sdsa", "ssa"), **_STEM),
)


# Every mixer and embedding, with learnt neurons and a threshold of the attention.
HIERARCHICAL = space_from_dict(
    {
        "name": "hierarchical",
        "settings": {"family": "hierarchical", "attention_scale": 1.0, "reset": "soft"},
        "network": {
            "embed_dim": [16, 24, 72],
            "depth": [3],
            "time_steps": [1, 3],
            "embedding": ["max", "orig", "one_max"],
            "stem_neuron": ["lif", "plif"],
            "stem_v_threshold": [0.5, 0.75],
            "stem_tau": [1.5, 2],
        },
        "block": {
            "mlp_ratio": [1, 1.5],
            "stage_blocks": [1, 2],
            "num_heads": [1, 2],
            "mixer": ["dwc7", "none", "ssa", "dwc3", "sdsa", "dwc5", "qk_token"],
            "neuron": ["lif", "plif"],
            "v_threshold": [0.5, 0.6],
            "tau": [2, 4],
            "attention_v_threshold": [0.5, 1.0],
        },
        "reference": {
            "embed_dim": 24,
            "depth": 3,
            "time_steps": 3,
            "embedding": "orig",
            "stem_neuron": "lif",
            "stem_v_threshold": 0.5,
            "stem_tau": 2,
            "mlp_ratio": [1, 1.5, 1],
            "stage_blocks": [2, 1, 1],
            "num_heads": 2,
            "mixer": ["dwc5", "qk_token", "none"],
            "neuron": ["plif", "lif", "lif"],
            "v_threshold": 0.5,
            "tau": 2,
            "attention_v_threshold": 0.5,
        },
    }
)


def stem_genes(name: str, *, patch_size: int, convs: list[int], **settings: object) -> SearchSpace:
    """Every stem that fits the patches."""
    data = SMALL.to_json()
    data |= {"name": name, "settings": {"patch_size": patch_size, **settings}}
    genes = {"stem_convs": convs, "stem_fraction": [0.125, 0.25, 1], "stem_pooling": ["early", "late"]}
    data["network"] |= {"depth": [1, 2], **genes}
    data["block"] |= {"mlp_ratio": [1], "v_threshold": [0.5]}
    data["reference"] |= {"depth": 1, "mlp_ratio": 1, "v_threshold": 0.5, "stem_pooling": "late"}
    data["reference"] |= {"stem_convs": convs[-1], "stem_fraction": 0.125}
    return space_from_dict(data)


STEMS = (
    stem_genes("stems", patch_size=4, convs=[2, 3, 4]),  # two convolutions have no choice of place
    stem_genes("membrane_stems", patch_size=4, convs=[2, 3], family="membrane"),
    stem_genes("sdt_stems", patch_size=4, convs=[2, 4], **_SDT),
)
POOLED_ONE_WAY = (
    stem_genes("large_patches", patch_size=16, convs=[4]),
    stem_genes("pixels", patch_size=1, convs=[2, 4]),
)
SPACES = (PAPER, TINY, FIXED, SWITCHES, SMALL, *NEURONS, *MIXERS, *STEMS, *POOLED_ONE_WAY, HIERARCHICAL)
