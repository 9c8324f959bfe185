"""What must agree between encoder, masking, tokenizer and loss, set or checked when a model is built."""

from omegaconf import DictConfig, OmegaConf
from torch import nn

from nemo.collections.asr.modules.ssl_modules.target_alignment import resolve_target_shift
from nemo.collections.asr.parts.attention_context import EncoderContext

__all__ = ["align_masking", "loss_config", "target_shift_of"]


def target_shift_of(cfg: DictConfig, encoder: nn.Module, after_convolutions: bool) -> int:
    """Encoder frame `k + shift` predicts token `k`: `model.target_shift`, derived from the subsampling for `auto`.

    Raises:
        ValueError, TypeError: a reduction layer, a subsampling whose alignment is not known, or a shift that is
            neither `auto` nor a whole number >= 0.
    """
    if encoder.reduction_subsampling is not None:
        raise ValueError(
            "encoder.reduction must be null, since masked token prediction needs one encoder frame for each target; "
            f"got {cfg.encoder.get('reduction')!r}"
        )
    pre_encode = encoder.pre_encode.pre_encode if after_convolutions else encoder.pre_encode
    wanted = cfg.get("target_shift", "auto")
    shift = resolve_target_shift(wanted, pre_encode, encoder.subsampling_factor)
    # After the convolutions, token k is made from encoder frame k itself.
    return 0 if after_convolutions and wanted == "auto" else shift


def loss_config(cfg: DictConfig, target_shift: int) -> DictConfig:
    """The config of the loss, with the shift of the targets."""
    return OmegaConf.create({**cfg.loss, "target_shift": target_shift})


def align_masking(
    mask_processor: nn.Module, cfg: DictConfig, context: EncoderContext, after_convolutions: bool
) -> None:
    """Gives the mask processor the encoder's units, and the left context of evaluation.

    Raises:
        ValueError: a trained left context of 0 with causal masking.
    """
    if "subsampling_factor" not in cfg.masking:
        mask_processor.subsampling_factor = 1 if after_convolutions else context.encoder.subsampling_factor
    if not getattr(mask_processor, "causal", False):
        return
    for trained in context.trained:
        if trained.left == 0:
            raise ValueError(
                "encoder.att_context_size must have left contexts above 0 with masking.causal: true, since 0 leaves "
                f"nothing to mask; got {trained}. Take it out, or set masking.causal: false"
            )
    mask_processor.left_context_size = context.evaluation.left
