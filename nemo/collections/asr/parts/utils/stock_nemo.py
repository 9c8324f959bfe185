"""Saves models for NeMo without this patch."""

import os

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from nemo.core.classes import ModelPT

__all__ = ["save_for_stock_nemo", "stock_config"]

NEW_KEYS = {
    "masking": ("causal", "left_context_size", "causal_window", "current_frame", "subsampling_factor"),
    "quantizer": ("normalize",),
    "loss": ("target_shift",),
    "encoder": ("blockwise_attention",),
}
"""Keys of a model's config that NeMo's own classes refuse, by section."""


def stock_config(cfg: DictConfig) -> DictConfig:
    """A copy of a model's config for NeMo's own classes: without the keys that they refuse or would not read."""
    cfg = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))  # type: ignore[assignment]  # of a DictConfig
    with open_dict(cfg):
        for section, keys in NEW_KEYS.items():
            for key in keys:
                if isinstance(cfg.get(section), DictConfig):
                    cfg[section].pop(key, None)
        for key in ("target_shift", "context_seed", "context_presets", "objective", "fitted_targets"):
            cfg.pop(key, None)
        probabilities = cfg.get("encoder", {}).get("att_context_probs")
        if probabilities is not None and sum(probabilities) != 1:
            # The patch accepts a sum within 1e-6 of 1. NeMo requires exactly 1, and samples uniformly for null.
            cfg.encoder.att_context_probs = None if len(set(probabilities)) == 1 else _summing_to_one(probabilities)
    return cfg


def _without_ranges(model: ModelPT) -> DictConfig:
    """The model's config, with all contexts of a range in its place."""
    sizes = (model._cfg.get("encoder") or {}).get("att_context_size")
    entries = sizes if isinstance(sizes, ListConfig) else [sizes]
    if not any(isinstance(entry, DictConfig) for entry in entries):
        return model._cfg
    cfg = OmegaConf.create(OmegaConf.to_container(model._cfg, resolve=True))
    with open_dict(cfg):
        cfg.encoder.att_context_size = model.encoder.att_context_size_all
        cfg.encoder.att_context_probs = model.encoder.att_context_probs
    return cfg  # type: ignore[return-value]  # of a DictConfig


def _summing_to_one(probabilities: list[float]) -> list[float]:
    # Multiples of a power of two add up without rounding.
    parts = 2**40
    counts = [round(parts * value / sum(probabilities)) for value in probabilities]
    counts[counts.index(max(counts))] += parts - sum(counts)
    return [count / parts for count in counts]


def save_for_stock_nemo(model: ModelPT, path: str | os.PathLike) -> None:
    """Writes a `.nemo` file that restores on NeMo without this patch: the same weights, without the new config keys.

    On NeMo's side masking then ignores the attention context, and tokens are made of features that are not normalised.
    The encoder is the same. Heads of future-token prediction are left out.

    Args:
        model: any NeMo model; it is not changed.
        path: where to write; it must end in `.nemo`.
    """
    written = model._cfg
    heads = getattr(model, "future_heads", None)
    model._cfg = stock_config(_without_ranges(model))
    try:
        if heads is not None:
            model.future_heads = None
        model.save_to(str(path))
    finally:
        model._cfg = written
        if heads is not None:
            model.future_heads = heads
