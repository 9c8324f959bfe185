"""Fine-tuning for several contexts draws them as pretraining does, where `model.context_seed` is in the config."""

from collections.abc import Sequence

from lightning.pytorch import Callback

from nemo.collections.asr.models.asr_model import ASRModel


def configure_callbacks(self: ASRModel) -> Sequence[Callback] | Callback:
    """The callback that draws contexts, for an encoder with several of them; none without `model.context_seed`."""
    # Not above: NeMo imports this module on the way to its encoder.
    from nemo.collections.asr.parts.attention_context.callback import context_drawing_of

    return [*super(ASRModel, self).configure_callbacks(), *context_drawing_of(self)]


ASRModel.configure_callbacks = configure_callbacks
